//! What only the operator may do over HTTP, on the operator's listener: make and revoke vouchers on
//! the status page, and let another service ask for codes (`attesters.webhook`).

mod grants;
mod session;
mod vouchers;

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};
use tocyn_service::admin::Admin;
use zeroize::Zeroizing;

use crate::http::{AppState, openapi};
use crate::observed::ObservedIssuer;
use session::Sessions;

/// What the operator proves to be the operator with, and the webhook to be the webhook.
pub struct Credentials {
    /// For the status page: the text of `admin.credential` in the data folder.
    pub operator: Zeroizing<String>,
    /// For the webhook, if it is on.
    pub webhook: Option<Zeroizing<String>>,
}

/// The fewest characters of a credential.
pub const MIN_CREDENTIAL: usize = 32;

#[derive(Clone)]
pub(super) struct Operator {
    admin: Arc<Admin<ObservedIssuer>>,
    state: AppState,
    sessions: Arc<Sessions>,
    webhook: Option<Arc<Zeroizing<String>>>,
}

/// The routes.
pub(crate) fn routes(
    admin: Arc<Admin<ObservedIssuer>>,
    state: AppState,
    credentials: Credentials,
) -> Router {
    let operator = Operator {
        admin,
        state,
        sessions: Arc::new(Sessions::new(credentials.operator)),
        webhook: credentials.webhook.map(Arc::new),
    };
    pages()
        .into_iter()
        .chain(api())
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .with_state(operator)
}

/// For people.
fn pages() -> [(&'static str, MethodRouter<Operator>); 5] {
    [
        ("/", get(vouchers::page)),
        ("/login", post(vouchers::login)),
        ("/logout", post(vouchers::logout)),
        ("/vouchers", post(vouchers::create)),
        ("/revoke", post(vouchers::revoke)),
    ]
}

/// For programs. A test holds these against `operator/openapi.json`.
pub(super) fn api() -> [(&'static str, MethodRouter<Operator>); 2] {
    [("/v1/grants", post(grants::post)), ("/openapi.json", get(openapi::operator))]
}
