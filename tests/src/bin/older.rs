//! Makes the database of the first version of the issuer, with a voucher of 64 tokens, and prints
//! its code. With `--newer`: marks a database as one of a version that is still to come.

#![allow(clippy::print_stdout)]

use std::borrow::Cow;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tocyn_issuer::voucher::VoucherCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), sqlx::Error> {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("the database's path");
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut db = SqliteConnection::connect_with(&options).await?;
    if args.next().as_deref() == Some("--newer") {
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'to come', true, x'00', 0)",
        )
        .execute(&mut db)
        .await?;
        return Ok(());
    }
    let mut migrator = sqlx::migrate!("../token-service/migrations/sqlite");
    migrator.migrations = Cow::Owned(migrator.migrations[..1].to_vec());
    migrator.run(&mut db).await.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
    let code = VoucherCode::random(&mut UnwrapErr(SysRng));
    sqlx::query(
        "INSERT INTO vouchers (code_hash, granted, balance, expires_at) VALUES (?1, 64, 64, ?2)",
    )
    .bind(&code.hash()[..])
    .bind(i64::MAX)
    .execute(&mut db)
    .await?;
    println!("{}", *code.text());
    Ok(())
}
