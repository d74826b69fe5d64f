//! An empty database that vouchers are moved to.

use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::StoreError;
use super::open::{check_server, connect, migrate, refusal};
use crate::store::VOUCHERS;
use crate::store::copy::{CHARGES, Contents, GRANTS, ISSUER, RETIRED, SECRETS};
use crate::store::issued::{ISSUED, REDEEMED};
use crate::store::labels::LABELS;

/// A connection to it. What was not committed is gone with it.
pub(in crate::store) struct Target(PgConnection);

impl Target {
    /// Connects, and makes the tables if they are not there. Holds on to them: an issuer that is
    /// started there now waits for the commit, and then finds all of it.
    pub(in crate::store) async fn open(server: &PgConnectOptions) -> Result<Self, StoreError> {
        let refuse = |reason| refusal(server, reason);
        let mut connection = connect(server).await?;
        check_server(&mut connection).await.map_err(refuse)?;
        migrate(&mut connection).await.map_err(refuse)?;
        let begin = "BEGIN; SET LOCAL synchronous_commit = on; \
            LOCK TABLE issuer, issued, redeemed, labels, secrets, grants, vouchers, charges IN ACCESS EXCLUSIVE MODE";
        sqlx::raw_sql(begin).execute(&mut connection).await?;
        Ok(Self(connection))
    }

    pub(in crate::store) async fn contents(&mut self) -> Result<Contents, StoreError> {
        let db = &mut self.0;
        Ok(Contents {
            issuer: sqlx::query_as(ISSUER).fetch_one(&mut *db).await?,
            retired_pairings: sqlx::query_scalar(RETIRED).fetch_all(&mut *db).await?,
            vouchers: sqlx::query_as(VOUCHERS).fetch_all(&mut *db).await?,
            charges: sqlx::query_as(CHARGES).fetch_all(&mut *db).await?,
            issued: sqlx::query_as(ISSUED).bind(0i64).fetch_all(&mut *db).await?,
            redeemed: sqlx::query_as(REDEEMED).fetch_all(&mut *db).await?,
            labels: sqlx::query_as(LABELS).fetch_all(&mut *db).await?,
            secrets: sqlx::query_as(SECRETS).fetch_all(&mut *db).await?,
            grants: sqlx::query_as(GRANTS).fetch_all(&mut *db).await?,
        })
    }

    pub(in crate::store) async fn put(&mut self, contents: &Contents) -> Result<(), StoreError> {
        let db = &mut self.0;
        let issuer = &contents.issuer;
        sqlx::query(
            "UPDATE issuer SET issuer_name = $1, origin_name = $2, pairing_id = $3, keys_id = $4,
                 closed_below = $5",
        )
        .bind(&issuer.issuer_name)
        .bind(&issuer.origin_name)
        .bind(&issuer.pairing_id)
        .bind(&issuer.keys_id)
        .bind(issuer.closed_below)
        .execute(&mut *db)
        .await?;
        sqlx::query("INSERT INTO retired_pairings (pairing_id) SELECT unnest($1::bytea[])")
            .bind(&contents.retired_pairings)
            .execute(&mut *db)
            .await?;
        for vouchers in contents.vouchers.chunks(10_000) {
            sqlx::query(
                "INSERT INTO vouchers (code_hash, granted, balance, expires_at, revoked_at, attester,
                     refilled_epoch)
                 SELECT code_hash, granted, balance, expires_at, revoked_at, attester, refilled_epoch
                 FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                     $6::bigint[], $7::bigint[]) WITH ORDINALITY AS v (code_hash, granted, balance,
                     expires_at, revoked_at, attester, refilled_epoch, place)
                 ORDER BY place",
            )
            .bind(vouchers.iter().map(|v| &v.code_hash[..]).collect::<Vec<_>>())
            .bind(vouchers.iter().map(|v| v.granted).collect::<Vec<_>>())
            .bind(vouchers.iter().map(|v| v.balance).collect::<Vec<_>>())
            .bind(vouchers.iter().map(|v| v.expires_at).collect::<Vec<_>>())
            .bind(vouchers.iter().map(|v| v.revoked_at).collect::<Vec<_>>())
            .bind(vouchers.iter().map(|v| v.attester).collect::<Vec<_>>())
            .bind(vouchers.iter().map(|v| v.refilled_epoch).collect::<Vec<_>>())
            .execute(&mut *db)
            .await?;
        }
        for charges in contents.charges.chunks(10_000) {
            sqlx::query(
                "INSERT INTO charges (voucher_id, body_hash, epoch, tokens, replays, window_start)
                 SELECT id, body_hash, epoch, tokens, replays, window_start
                 FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[],
                     $6::bigint[]) AS c (hash, body_hash, epoch, tokens, replays, window_start)
                 JOIN vouchers ON code_hash = hash",
            )
            .bind(charges.iter().map(|c| &c.code_hash[..]).collect::<Vec<_>>())
            .bind(charges.iter().map(|c| &c.body_hash[..]).collect::<Vec<_>>())
            .bind(charges.iter().map(|c| c.epoch).collect::<Vec<_>>())
            .bind(charges.iter().map(|c| c.tokens).collect::<Vec<_>>())
            .bind(charges.iter().map(|c| c.replays).collect::<Vec<_>>())
            .bind(charges.iter().map(|c| c.window_start).collect::<Vec<_>>())
            .execute(&mut *db)
            .await?;
        }
        sqlx::query(
            "INSERT INTO issued (epoch, attester, tokens)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])",
        )
        .bind(contents.issued.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(contents.issued.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind(contents.issued.iter().map(|row| row.2).collect::<Vec<_>>())
        .execute(&mut *db)
        .await?;
        for (epoch, tokens, reported_at) in &contents.redeemed {
            sqlx::query("INSERT INTO redeemed VALUES ($1, $2, $3)")
                .bind(epoch)
                .bind(tokens)
                .bind(reported_at)
                .execute(&mut *db)
                .await?;
        }
        sqlx::query(
            "INSERT INTO secrets SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])",
        )
        .bind(contents.secrets.iter().map(|(purpose, _, _)| *purpose).collect::<Vec<_>>())
        .bind(contents.secrets.iter().map(|(_, number, _)| *number).collect::<Vec<_>>())
        .bind(contents.secrets.iter().map(|(_, _, secret)| &secret[..]).collect::<Vec<_>>())
        .execute(&mut *db)
        .await?;
        sqlx::query(
            "INSERT INTO grants SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[])",
        )
        .bind(contents.grants.iter().map(|(id, _, _)| &id[..]).collect::<Vec<_>>())
        .bind(contents.grants.iter().map(|(_, number, _)| *number).collect::<Vec<_>>())
        .bind(contents.grants.iter().map(|(_, _, at)| *at).collect::<Vec<_>>())
        .execute(&mut *db)
        .await?;
        sqlx::query("INSERT INTO labels SELECT * FROM unnest($1::bytea[], $2::text[])")
            .bind(contents.labels.iter().map(|(id, _)| &id[..]).collect::<Vec<_>>())
            .bind(contents.labels.iter().map(|(_, label)| &label[..]).collect::<Vec<_>>())
            .execute(&mut *db)
            .await?;
        Ok(())
    }

    pub(in crate::store) async fn commit(&mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut self.0).await?;
        Ok(())
    }
}
