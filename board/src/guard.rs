//! The middleware of the page: [`guard`] refuses requests that do not come from the page itself, and adds headers to
//! every answer that let the browser do no more than the page needs. `server` puts it before all routes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Maximum time from the head of a request to its answer: several times what a button takes, and a bound for lost
/// bodies.
const REQUEST_TIME: Duration = Duration::from_secs(15);

/// The name of the host by which the page is reached, in lower case.
pub(crate) type OwnName = Option<Arc<str>>;

pub(crate) async fn guard(State(own): State<OwnName>, request: Request, next: Next) -> Response {
    let mut response = match objection(&request, own.as_deref()) {
        Some(objection) => (StatusCode::FORBIDDEN, objection).into_response(),
        None => match timeout(REQUEST_TIME, next.run(request)).await {
            Ok(response) => response,
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response(),
        },
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns the reason to refuse a request that is not the page's own. Another site can make a browser send requests
/// here, but it can forge neither header.
fn objection(request: &Request, own: Option<&str>) -> Option<&'static str> {
    let headers = request.headers();
    let Some(host) = text(headers, header::HOST).filter(|host| is_own(host, own)) else {
        return Some("the page is reached by its address, by the name that it was given, or as localhost");
    };
    // A browser names the origin of each socket and each POST.
    let must = request.method() == Method::POST || headers.contains_key(header::UPGRADE);
    match text(headers, header::ORIGIN) {
        // Behind a proxy with TLS it is the other scheme.
        Some(origin) if ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host)) => None,
        None if !must && !headers.contains_key(header::ORIGIN) => None,
        _ => Some("the request comes from another site"),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    // A header that is sent twice is ambiguous.
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

/// Whether the host is an address, localhost or the name that was given. A site that rebinds its name to this address
/// sends its name.
fn is_own(host: &str, own: Option<&str>) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (name, true),
        _ => (host, false),
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()),
        None => {
            name == "localhost" || Some(name) == own || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() || !port)
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn said(method: &str, headers: &[(&str, &str)]) -> bool {
        let request = headers
            .iter()
            .fold(Request::builder().method(method), |request, (name, value)| request.header(*name, *value));
        objection(&request.body(Body::empty()).unwrap(), Some("desk.example")).is_none()
    }

    #[test]
    fn only_addresses_and_the_own_name_are_hosts() {
        for host in [
            "127.0.0.1:8080",
            "localhost:8080",
            "localhost",
            "[::1]:8080",
            "192.168.1.7:80",
            "127.0.0.1",
            "desk.example:1",
        ] {
            assert!(said("GET", &[("host", host)]), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "", ":8080", "[::1", "127.0.0.1.evil.example:1"] {
            assert!(!said("GET", &[("host", host)]), "{host}");
        }
        assert!(!said("GET", &[]));
        assert!(!said("GET", &[("host", "127.0.0.1"), ("host", "evil.example")]));
    }

    #[test]
    fn sockets_and_posts_come_from_the_page() {
        let host = ("host", "127.0.0.1:8080");
        let upgrade = ("upgrade", "websocket");
        let own = ("origin", "http://127.0.0.1:8080");
        assert!(said("POST", &[host, own]) && said("GET", &[host, upgrade, own]) && said("GET", &[host, own]));
        assert!(!said("POST", &[host]) && !said("GET", &[host, upgrade]));
        for origin in ["http://127.0.0.1:8081", "http://localhost:8080", "ftp://127.0.0.1:8080", "null", ""] {
            for request in [&[host, upgrade, ("origin", origin)][..], &[host, ("origin", origin)]] {
                assert!(!said("GET", request), "{origin}");
            }
        }
    }
}
