//! Commands open this issuer's own database, and make no second one.

use tocyn_service::database::Database;
use tocyn_service::doctor::Standing;

use super::{CREDENTIAL, CliResult};
use crate::data_dir::DataDir;
use crate::store::Store;

/// Refuses to begin a new database where there was one: its vouchers would be unknown, and its budgets
/// would begin anew.
pub(super) fn check_there(data: &DataDir, database: &Database) -> CliResult {
    let credential = data.file(CREDENTIAL);
    match database.file() {
        Some(file) if !file.exists() && credential.exists() => Err(format!(
            "{}: the database is not there, and this issuer had one. Is its disk mounted, and \
             database.url right? If it is lost, make a data folder of a backup with `tocyn-issuer \
             --data DIR restore`. To begin anew, without its vouchers, remove {} first",
            file.display(),
            credential.display()
        )
        .into()),
        _ => Ok(()),
    }
}

/// Opens the database for a command, unless it is another issuer's.
pub(super) async fn open_own(data: &DataDir, database: &Database) -> CliResult<Store> {
    check_there(data, database)?;
    let pairing = data.pairing()?;
    let store = Store::open(database).await?;
    match store.standing(&pairing).await {
        Ok(Standing::Foreign) => {
            store.close().await;
            Err(format!(
                "{database}: it belongs to another issuer or another pairing, and nothing was \
                 changed; set database.url right, or give --data the data folder that goes with it. \
                 `doctor` says more"
            )
            .into())
        }
        Ok(_) => Ok(store),
        Err(error) => {
            store.close().await;
            Err(error.into())
        }
    }
}
