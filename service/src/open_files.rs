//! The limit on open files: each connection is one, and so are the database's and the log's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a service needs beside its connections: databases, sealed messages, listeners.
const OTHERS: usize = 160;
/// The fewest connections, however low the limit is.
const MIN_PLACES: usize = 8;

/// Raises the soft limit to the hard one, and says where that is still too low for so many
/// connections.
pub fn raise(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit on open files to the hard one");
    }
    let places = places();
    if places < connections {
        tracing::warn!(
            max_connections = connections,
            places,
            "limits.max_connections is more than the limit on open files has room for; raise that \
             (LimitNOFILE, ulimit -Hn), or lower max_connections"
        );
    }
}

/// Connections that there is room for.
pub(crate) fn places() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OTHERS).max(MIN_PLACES)
}
