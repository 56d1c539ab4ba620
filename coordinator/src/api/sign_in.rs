//! Who asks, and whether they may.

use super::Problem;
use crate::{
    core::Core,
    door::{Door, Peer, Refusal},
    store::Role,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{net::IpAddr, sync::Arc};

/// What a route needs.
#[derive(Clone)]
pub(super) struct Needs {
    pub(super) core: Arc<Core>,
    /// `None`: whoever reaches the port may do everything.
    pub(super) door: Option<Arc<Door>>,
    pub(super) role: Role,
}

fn refused(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
    Problem { status, code, detail: detail.into() }
}

/// Lets a request through whose bearer may do it.
pub(super) async fn check(State(needs): State<Needs>, request: Request, next: Next) -> Result<Response, Problem> {
    let Some(door) = &needs.door else {
        return Ok(next.run(request).await);
    };
    let ip = request.extensions().get::<Peer>().map(|peer| peer.ip);
    let Some(token) = bearer(request.headers()) else {
        let detail = "a token is needed: FERRY_TOKEN or --token-file, as `Authorization: Bearer`";
        let mut response = refused(StatusCode::UNAUTHORIZED, "SignInNeeded", detail).into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Ok(response);
    };
    match door.bearer(token, needs.core.now()).await? {
        Err(Refusal::Token(why)) => {
            // A good token is listened to, whatever others of the address have tried.
            if let Some(wait) = ip.and_then(|ip| door.sign_ins.refuses(ip)) {
                let detail = "too many failed sign-ins from this address";
                let mut response = refused(StatusCode::TOO_MANY_REQUESTS, "TooManySignIns", detail).into_response();
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
                return Ok(response);
            }
            if let Some(ip) = ip {
                door.sign_ins.failed(ip);
            }
            needs.core.meters.sign_in_failed();
            tracing::warn!(peer = ip.map(tracing::field::display), "a sign-in failed: {why}");
            Err(refused(StatusCode::UNAUTHORIZED, "SignInFailed", why))
        }
        Err(Refusal::NoRole(why)) => Err(refused(StatusCode::FORBIDDEN, "RoleMissing", why)),
        Err(Refusal::NoKeys(why)) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, "IssuerUnreachable", why)),
        Ok(role) if role < needs.role => {
            let detail = format!("the token's role is {}; this needs {}", role.name(), needs.role.name());
            Err(refused(StatusCode::FORBIDDEN, "RoleMissing", detail))
        }
        Ok(_) => Ok(next.run(request).await),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Keeps pages of other sites from using the port through somebody's browser, and tells browsers what they may do with an
/// answer. `is_open`: no token is asked for, so that the port is for this machine alone, by its own names.
pub(super) async fn guard_browsers(State(is_open): State<bool>, request: Request, next: Next) -> Response {
    let mut response = match foreign(request.headers(), request.uri(), is_open) {
        Some(why) => refused(StatusCode::FORBIDDEN, "OtherSite", why).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Why a request looks as if another site had sent it.
fn foreign(headers: &HeaderMap, uri: &Uri, is_open: bool) -> Option<&'static str> {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let host = text(header::HOST).or_else(|| uri.authority().map(|a| a.as_str())).unwrap_or_default();
    if let Some(origin) = text(header::ORIGIN)
        && origin.split_once("://").map(|(_, rest)| rest) != Some(host)
    {
        return Some("a page of another site asks");
    }
    if is_open && !is_this_machine(host) {
        return Some("without --tls the port answers to localhost and loopback addresses only");
    }
    None
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_other_sites_are_known() {
        for (case, host, origin, is_open, is_foreign) in [
            ("a program", "127.0.0.1:7480", None, true, false),
            ("a program by name", "localhost:7480", None, true, false),
            ("IPv6", "[::1]:7480", None, true, false),
            ("a name that leads here for now", "evil.example:7480", None, true, true),
            ("another host with tokens", "ferry.example:7480", None, false, false),
            ("the own page", "ferry.example", Some("https://ferry.example"), false, false),
            ("another page", "ferry.example", Some("https://evil.example"), false, true),
            ("a page of nowhere", "ferry.example", Some("null"), false, true),
            ("no host", "", None, true, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(foreign(&headers, &Uri::from_static("/"), is_open).is_some(), is_foreign, "{case}");
        }
    }
}
