//! `GET /openapi.json`: the routes as OpenAPI 3.1, for clients, and for what the operator runs.
//! Both documents are written by hand; the tests here and the end-to-end tests hold them against
//! what the service does.

use axum::http::header;
use axum::response::IntoResponse;

/// For clients.
pub const PUBLIC: &str = include_str!("openapi.json");
/// On the operator's listener.
pub const OPERATOR: &str = include_str!("operator/openapi.json");

pub(crate) async fn public() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], PUBLIC)
}

pub(crate) async fn operator() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPERATOR)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn described(document: &str) -> BTreeSet<String> {
        let document: Value = serde_json::from_str(document).unwrap();
        document["paths"].as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_route_is_described_and_no_other() {
        let routes = crate::http::routes().map(|(path, _)| path.to_owned());
        assert_eq!(described(PUBLIC), BTreeSet::from(routes));
        let routes = crate::http::operator::api().map(|(path, _)| path.to_owned());
        assert_eq!(described(OPERATOR), BTreeSet::from(routes));
    }
}
