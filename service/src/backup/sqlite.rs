//! A copy of an SQLite database beside the process that serves from it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sqlx::Connection;
use tocyn_durable::{names, sqlite};

/// How long to wait for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes all that is committed in `from` at this moment to the new file `to`, mode 0600. The error
/// says which file.
pub async fn copy_sqlite(from: &Path, to: &Path) -> Result<(), String> {
    let failed =
        |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    // SQLite takes a file that is there if it is empty, with its mode.
    names::create_new(to, 0o600, b"").map_err(|error| failed(to, &error))?;
    let options = sqlite::options(from).busy_timeout(BUSY_TIMEOUT);
    let connection = sqlite::connect_beside(&options).await;
    let mut connection = connection.map_err(|error| failed(from, &error))?;
    let name = to.to_str().ok_or_else(|| failed(to, &"its name is not text"))?;
    let copied = sqlx::query("VACUUM INTO ?1").bind(name).execute(&mut connection).await;
    copied.map_err(|error| failed(to, &error))?;
    connection.close().await.map_err(|error| failed(from, &error))?;
    // SQLite syncs the copy as the original asks for; this does not rely on that.
    File::open(to).and_then(|copy| copy.sync_all()).map_err(|error| failed(to, &error))
}
