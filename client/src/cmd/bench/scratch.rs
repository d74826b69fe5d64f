//! A database of a benchmark's own on a PostgreSQL server.

use reqwest::Url;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::cli::CliResult;
use crate::output::tell;

/// Dropping it drops the database.
pub(crate) struct Scratch {
    server: PgConnectOptions,
    name: String,
    url: String,
}

impl Scratch {
    /// Makes one on the server that this URL names; its role must be allowed to.
    pub(crate) async fn create(url: &str) -> CliResult<Self> {
        let wrong = "--database: give postgres://USER@HOST/DATABASE";
        let server: PgConnectOptions = url.parse().map_err(|_| wrong)?;
        let mut own = Url::parse(url).map_err(|_| wrong)?;
        let name = format!("tocyn_bench_{}", std::process::id());
        own.set_path(&name);
        let made = async {
            let mut db = server.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut db).await
        };
        made.await.map_err(|error| format!("--database: {error}"))?;
        Ok(Self { server, name, url: own.into() })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // On a thread of its own, because this may run within a runtime.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut db = server.connect().await?;
                let drop = format!("DROP DATABASE {name} WITH (FORCE)");
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut db).await
            })?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
        if !matches!(dropping.join(), Ok(Ok(()))) {
            tell(format_args!("cannot drop the database {}; please do", self.name));
        }
    }
}
