//! A Tor network of our own on loopback, from Debian's `tor` and `tor-gencert`, with onion services
//! that are configured as `deploy/tor/` says.
//!
//! | | module |
//! |---|---|
//! | one process of `tor` | [`process`] |
//! | authorities, relays, a client and the services' side | [`network`] |
//! | a connection to a control port, and what it tells | [`control`] |
//! | which circuit each connection took | [`streams`] |
//! | a unix socket before a service's, where it is noted by which circuit each client came | [`door`] |
//! | all of it, with both services | [`scene`] |

pub mod control;
pub mod door;
pub mod network;
pub mod process;
pub mod scene;
pub mod streams;

use std::path::PathBuf;

/// Where the operators' examples are.
pub fn examples() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/tor").into()
}

/// An HTTP client that goes through a SOCKS proxy with these credentials.
pub fn http_client_through(socks: &str, user: &str, password: &str) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let proxy = reqwest::Proxy::all(format!("socks5h://{user}:{password}@{socks}"));
    let builder = reqwest::Client::builder().tls_certs_only([]);
    builder.proxy(proxy.expect("a URL")).build().expect("a plain client")
}
