//! Pages of any site may use a service from a browser: all that it answers is public, or paid for by a
//! header that no browser adds by itself, and there are no cookies.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower_http::cors::{Any, CorsLayer};

/// How long a browser may remember the answer to a preflight.
const MAX_AGE: Duration = Duration::from_secs(86_400);

/// Lets pages of all origins read what is answered, and answers their preflights.
pub fn open_to_all_origins() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::RANGE])
        .expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::DATE])
        // The answer is the same for all: caches need not tell origins apart.
        .vary(Vec::<HeaderName>::new())
        .max_age(MAX_AGE)
}

/// Lets pages of all origins read one answer: for a route that is too busy for the layer, which makes
/// a post 4% slower.
pub fn readable_by_all(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = HeaderValue::from_static("retry-after,www-authenticate,date");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::http::{Request, Response, StatusCode};
    use axum::routing::get;
    use tower_service::Service;

    async fn ask(method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let router = Router::new().route("/checkpoint", get(|| async { "text" }));
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut router = router.layer(open_to_all_origins());
        router.call(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn answers_and_refusals_are_readable_for_all() {
        for path in ["/checkpoint", "/nothing"] {
            let answer = ask(Method::GET, path, &[("origin", "https://page.example")]).await;
            assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{path}");
            assert!(!answer.headers().contains_key(header::VARY));
        }
    }

    #[tokio::test]
    async fn preflights_are_answered() {
        let headers = [
            ("origin", "https://page.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
        ];
        let answer = ask(Method::OPTIONS, "/checkpoint", &headers).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let said = |name| answer.headers()[name].to_str().unwrap().to_ascii_lowercase();
        assert_eq!(said(header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
        assert!(said(header::ACCESS_CONTROL_ALLOW_METHODS).contains("post"));
        assert!(said(header::ACCESS_CONTROL_ALLOW_HEADERS).contains("authorization"));
    }
}
