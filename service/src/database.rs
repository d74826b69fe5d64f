//! Which database: a file, or a server that several processes share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::probe::is_onion;
use crate::secret::Secret;

/// Where a service keeps what it must not lose.
#[derive(Clone)]
pub enum Database {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<PgConnectOptions>),
}

impl Database {
    /// Where the command line or else the settings say; where they say nothing, the file `default`.
    pub fn find(url: &Secret, named: Option<&str>, default: PathBuf) -> Result<Self, String> {
        let url = url.read().map_err(|error| format!("database.url: {error}"))?;
        Self::parse(named.unwrap_or(&url), default)
    }

    /// Reads `database.url`; where it is empty, the file is `default`.
    ///
    /// The error does not repeat what may be a password.
    pub fn parse(url: &str, default: PathBuf) -> Result<Self, String> {
        if url.is_empty() {
            return Ok(Self::Sqlite(default));
        }
        if let Some(path) = url.strip_prefix("sqlite://") {
            return match path.starts_with('/') {
                true => Ok(Self::Sqlite(path.into())),
                false => Err("database.url: after sqlite:// give an absolute path".to_owned()),
            };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            if let Some(unknown) = unknown_parameter(url) {
                return Err(format!(
                    "database.url: there is no parameter {unknown:?}; there are {}",
                    PARAMETERS.join(", ")
                ));
            }
            return match PgConnectOptions::from_str(url) {
                // No resolver may be asked for it (RFC 7686 section 2).
                Ok(options) if is_onion(options.get_host()) => {
                    Err("database.url: an onion service cannot be reached from here".to_owned())
                }
                Ok(options) => Ok(Self::Postgres(Box::new(options.application_name("tocyn")))),
                Err(_) => Err("database.url: this is no URL of a PostgreSQL database; it reads \
                     postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full, with special \
                     characters written as %XX"
                    .to_owned()),
            };
        }
        Err("database.url: give sqlite:///absolute/path or postgres://USER@HOST/DATABASE"
            .to_owned())
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Whether several processes may use it at once.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

/// Bytes of the write-ahead log beside an SQLite file; 0 without one.
pub fn wal_bytes(file: &Path) -> u64 {
    std::fs::metadata(crate::doctor::beside(file, "-wal")).map_or(0, |wal| wal.len())
}

impl From<&Path> for Database {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

/// What may stand in a URL after the question mark.
const PARAMETERS: [&str; 11] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "statement-cache-capacity",
];

/// The name of a parameter that would only be passed over: a misspelt one could turn off TLS.
fn unknown_parameter(url: &str) -> Option<&str> {
    let (_, parameters) = url.split_once('?')?;
    let mut names = parameters.split('&').map(|pair| pair.split('=').next().unwrap_or(pair));
    names.find(|name| !PARAMETERS.contains(name))
}

/// Without user and password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Without user and password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(server) => display_server(server, f),
        }
    }
}

fn display_server(server: &PgConnectOptions, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let database = server.get_database().unwrap_or(server.get_username());
    match server.get_socket() {
        Some(socket) => write!(f, "PostgreSQL database {database} at {}", socket.display()),
        None => {
            write!(
                f,
                "PostgreSQL database {database} at {}:{}",
                server.get_host(),
                server.get_port()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<String, String> {
        Database::parse(url, "/data/service.sqlite".into()).map(|database| database.to_string())
    }

    #[test]
    fn urls_name_a_file_or_a_server_and_are_shown_without_secrets() {
        assert_eq!(parse("").unwrap(), "/data/service.sqlite");
        assert_eq!(parse("sqlite:///a/b").unwrap(), "/a/b");
        let url = "postgres://me:secret@db.example:5433/tocyn?sslmode=verify-full";
        assert_eq!(parse(url).unwrap(), "PostgreSQL database tocyn at db.example:5433");
        let socket = "postgresql://me:secret@localhost/tocyn?host=/run/postgresql";
        assert_eq!(parse(socket).unwrap(), "PostgreSQL database tocyn at /run/postgresql");
    }

    #[test]
    fn a_misspelt_parameter_is_named() {
        let refused = parse("postgres://me@host/x?sslmod=verify-full&password=secret").unwrap_err();
        assert!(refused.contains("\"sslmod\"") && !refused.contains("secret"), "{refused}");
        parse("postgres://me@host/x?sslmode=verify-full&sslrootcert=/a/b.crt").unwrap();
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for url in
            ["service.sqlite", "sqlite://relative", "mysql://secret", "postgres://me:secret@:x/"]
        {
            let error = parse(url).unwrap_err();
            assert!(error.starts_with("database.url: "), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
