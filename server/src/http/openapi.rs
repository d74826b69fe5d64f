//! `GET /openapi.json`: the routes as OpenAPI 3.1. The document is written by hand; the test here and
//! the end-to-end tests hold it against what the relay does.

use axum::http::header;
use axum::response::IntoResponse;

/// For clients.
pub const PUBLIC: &str = include_str!("openapi.json");

pub(crate) async fn public() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], PUBLIC)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_route_is_described_and_no_other() {
        let document: Value = serde_json::from_str(PUBLIC).unwrap();
        let described: BTreeSet<_> =
            document["paths"].as_object().unwrap().keys().cloned().collect();
        // OpenAPI has no word for a parameter of several segments.
        let routes = crate::http::routes().map(|(path, _)| path.replace("{*", "{"));
        assert_eq!(described, BTreeSet::from(routes));
    }
}
