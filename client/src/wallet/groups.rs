//! The groups that this wallet's owner is in.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::statement::StatementHash;
use zeroize::Zeroizing;

use super::{Wallet, WalletError, bytes32};
use crate::group::GroupSecret;
use crate::group::invite::{Invite, MAX_RELAYS};
use crate::group::message::AuthorKey;
use crate::pins::Expected;
use crate::transport::{ServiceUrl, Transport};

/// A group to be a member of.
pub struct NewGroup<'a> {
    /// What to call it here, and all that its members share.
    pub invite: &'a Invite,
    /// This member's key in it.
    pub author: &'a AuthorKey,
    /// What this member wants to be called.
    pub own_name: &'a str,
    /// How its services are reached; a proxy is kept.
    pub transport: &'a Transport,
}

/// A group.
pub struct Group {
    pub(super) id: i64,
    /// What makes others members; its name is the one that this member gave.
    pub invite: Invite,
    /// This member's key.
    pub author: AuthorKey,
    /// What this member wants to be called.
    pub own_name: String,
    /// The proxy through which it is reached.
    pub proxy: Option<Transport>,
    /// Of this member's last message.
    pub counter: u64,
    /// Messages of the log that were looked at, or skipped.
    pub read_to: u64,
    /// Those that were no longer kept.
    pub skipped: u64,
    /// What may lie before this place was skipped, and is not held against the relay.
    pub excused_to: u64,
    /// What is named as missing before this place is known.
    pub accepted_to: u64,
}

impl Group {
    /// Whose signature the relay's log has.
    pub fn log_key(&self) -> &VerifierKey {
        &self.invite.log_key
    }

    /// What must be true of its relay.
    pub fn expected(&self) -> Expected<'_> {
        Expected { key: &self.invite.log_key, statement: self.invite.statement }
    }

    /// Signed with every message.
    pub fn group_id(&self) -> [u8; 32] {
        self.invite.secret.id(&self.invite.log_key)
    }
}

fn group(row: &SqliteRow) -> Result<Group, WalletError> {
    let secret = |name| -> Result<Zeroizing<[u8; 32]>, WalletError> {
        bytes32(row, name).map(Zeroizing::new)
    };
    let number = |name| Ok::<u64, sqlx::Error>(row.try_get::<i64, _>(name)? as u64);
    let text = |name| row.try_get::<String, _>(name);
    let url = |text: &str| {
        let damaged = DecodeError::Text { what: "group", why: "an address cannot be used" };
        text.parse::<ServiceUrl>().map_err(|_| WalletError::Damaged(damaged))
    };
    Ok(Group {
        id: row.try_get("id")?,
        invite: Invite {
            secret: GroupSecret::from_bytes(*secret("secret")?),
            name: text("name")?,
            log_key: text("log_key")?.parse()?,
            statement: StatementHash(bytes32(row, "statement")?),
            issuer: url(&text("issuer_url")?)?,
            cell_bytes: row.try_get("cell_bytes")?,
            relays: text("relay_urls")?.lines().map(url).collect::<Result<_, _>>()?,
        },
        author: AuthorKey::from_bytes(&*secret("author")?),
        own_name: text("own_name")?,
        proxy: match row.try_get::<Option<String>, _>("proxy")? {
            Some(proxy) => Some(proxy.parse().map(Transport::kept).map_err(|_| {
                let damaged = DecodeError::Text { what: "group", why: "its proxy cannot be used" };
                WalletError::Damaged(damaged)
            })?),
            None => None,
        },
        counter: number("counter")?,
        read_to: number("read_to")?,
        skipped: number("skipped")?,
        excused_to: number("excused_to")?,
        accepted_to: number("accepted_to")?,
    })
}

pub(super) async fn groups(db: &mut SqliteConnection) -> Result<Vec<Group>, WalletError> {
    let rows = sqlx::query("SELECT * FROM groups ORDER BY name").fetch_all(db).await?;
    rows.iter().map(group).collect()
}

impl Wallet {
    /// Adds a group. False if one has its name.
    pub async fn add_group(&self, new: &NewGroup<'_>) -> Result<bool, WalletError> {
        let relays: Vec<String> = new.invite.relays.iter().map(ServiceUrl::to_string).collect();
        let done = sqlx::query(
            "INSERT OR IGNORE INTO groups
                 (name, secret, author, own_name, log_key, statement, issuer_url, relay_urls,
                  cell_bytes, proxy)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .bind(&new.invite.name)
        .bind(&new.invite.secret.as_bytes()[..])
        .bind(&new.author.as_bytes()[..])
        .bind(new.own_name)
        .bind(new.invite.log_key.to_string())
        .bind(&new.invite.statement.0[..])
        .bind(new.invite.issuer.to_string())
        .bind(relays.join("\n"))
        .bind(new.invite.cell_bytes)
        .bind(new.transport.is_proxied().then(|| new.transport.to_string()))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// All groups, by name.
    pub async fn groups(&self) -> Result<Vec<Group>, WalletError> {
        groups(&mut *self.pool.acquire().await?).await
    }

    /// The group of this name.
    pub async fn group(&self, name: &str) -> Result<Option<Group>, WalletError> {
        let row = sqlx::query("SELECT * FROM groups WHERE name = ?1");
        row.bind(name).fetch_optional(&self.pool).await?.as_ref().map(group).transpose()
    }

    /// Forgets a group, its secret and all that was said in it.
    pub async fn drop_group(&self, group: &Group) -> Result<(), WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for statement in [
            // Cells that wait, with the tokens that are reserved for them.
            "INSERT INTO totals (origin_key, given_up)
             SELECT origin_key, count(*) FROM tokens JOIN token_keys ON token_keys.id = key_id
             WHERE message_id IN (SELECT message_id FROM outbox WHERE group_id = ?1)
             GROUP BY origin_key
             ON CONFLICT DO UPDATE SET given_up = given_up + excluded.given_up",
            "DELETE FROM tokens
             WHERE message_id IN (SELECT message_id FROM outbox WHERE group_id = ?1)",
            "DELETE FROM groups WHERE id = ?1",
        ] {
            sqlx::query(statement).bind(group.id).execute(&mut *tx).await?;
        }
        for statement in [
            "DELETE FROM claims WHERE log_key NOT IN (SELECT log_key FROM groups)",
            "DELETE FROM receipts WHERE log_key NOT IN (SELECT log_key FROM groups)",
            "DELETE FROM tiles WHERE log_key NOT IN (SELECT log_key FROM groups)",
            "DELETE FROM trees WHERE log_key NOT IN (SELECT log_key FROM groups)",
        ] {
            sqlx::query(statement).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// What is missing by now, and what the relay did wrong, is known and is not to be said again. Evidence stays where it is.
    pub async fn accept(&self, group: &Group) -> Result<(), WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE groups SET accepted_to = read_to WHERE id = ?1")
            .bind(group.id)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM faults WHERE log_key = ?1")
            .bind(group.log_key().to_string())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// All messages of the log are to be looked at again for these groups.
    pub async fn read_again(&self, groups: &mut [Group]) -> Result<(), WalletError> {
        for group in groups {
            sqlx::query(
                "UPDATE groups SET read_to = 0, skipped = 0, duplicates = 0, spoiled = 0 WHERE id = ?1",
            )
            .bind(group.id)
            .execute(&self.pool)
            .await?;
            (group.read_to, group.skipped) = (0, 0);
        }
        Ok(())
    }

    /// Messages before the first that is kept are passed over.
    pub async fn skip_to(&self, groups: &mut [Group], first: u64) -> Result<(), WalletError> {
        for group in groups.iter_mut().filter(|group| group.read_to < first) {
            group.skipped += first - group.read_to;
            group.read_to = first;
            sqlx::query(
                "UPDATE groups SET read_to = ?2, skipped = ?3, excused_to = max(excused_to, ?2)
                 WHERE id = ?1",
            )
            .bind(group.id)
            .bind(group.read_to as i64)
            .bind(group.skipped as i64)
            .execute(&self.pool)
            .await?;
        }
        Ok(())
    }

    /// A group's invite with what is pinned of its relay by now: its statement, and where relay and
    /// issuer are. Without a pin it is the one that was joined with.
    pub async fn invite_of(&self, group: &Group) -> Result<Invite, WalletError> {
        let mut invite = group.invite.clone();
        let Some(pin) = self.pin(group.log_key()).await? else { return Ok(invite) };
        invite.statement = pin.statement.commitment().hash;
        let is_good = |url: &ServiceUrl| {
            url.is_loopback() || url.address().is_some_and(|address| pin.statement.lists(&address))
        };
        let mut relays: Vec<ServiceUrl> =
            invite.relays.iter().filter(|url| is_good(url)).cloned().collect();
        for url in
            pin.statement.addresses.iter().filter_map(|address| address.as_str().parse().ok())
        {
            if !relays.contains(&url) {
                relays.push(url);
            }
        }
        // One that its operator has not told where it is, is where it was.
        if !relays.is_empty() {
            relays.truncate(MAX_RELAYS);
            invite.relays = relays;
        }
        let issuer = pin.statement.issuer_address.as_ref();
        if let Some(Ok(issuer)) = issuer.map(|address| address.as_str().parse())
            && !invite.issuer.is_loopback()
        {
            invite.issuer = issuer;
        }
        Ok(invite)
    }

    /// Where a group's relay may be: the addresses of its invite of now, and those at which it was
    /// met.
    pub async fn relays_of(&self, group: &Group) -> Result<Vec<ServiceUrl>, WalletError> {
        let mut urls = self.invite_of(group).await?.relays;
        for url in self.addresses(group.log_key()).await?.iter().filter_map(|url| url.parse().ok())
        {
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        Ok(urls)
    }
}
