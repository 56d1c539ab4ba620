//! Who asks, and whether they may.

use super::{Problem, session};
use crate::{
    core::Core,
    door::{Door, Peer, Refusal},
    store::{Role, StoreError},
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use ferry_common::{activity::Secret, address::is_this_machine};
use std::{net::IpAddr, sync::Arc};

/// What a route needs.
#[derive(Clone)]
pub(super) struct Needs {
    pub(super) core: Arc<Core>,
    /// `None`: whoever reaches the port may do everything.
    pub(super) door: Option<Arc<Door>>,
    pub(super) role: Role,
}

/// Who asks. Goes with the request.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) role: Role,
    /// Names the token; no secret.
    pub(super) name: String,
    /// What was shown. `None`: nothing is asked for here.
    pub(super) token: Option<Secret>,
    is_by_cookie: bool,
}

impl Caller {
    /// Whoever reaches a port where nothing is asked for.
    pub(super) fn anybody() -> Self {
        Self { role: Role::Admin, name: "anybody".to_owned(), token: None, is_by_cookie: false }
    }
}

/// What came of looking at a request's token.
pub(super) enum Shown {
    /// There is none.
    Nothing,
    /// It is good.
    Good(Caller),
    /// It is not; this is the answer.
    Refused(Response),
}

fn refused(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
    Problem { status, code, detail: detail.into() }
}

/// The address that a request comes from.
pub(super) fn address_of(request: &axum::http::Extensions) -> Option<IpAddr> {
    request.get::<Peer>().map(|peer| peer.ip)
}

/// Lets a request through whose bearer may do it.
pub(super) async fn check(State(needs): State<Needs>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let Some(door) = &needs.door else {
        request.extensions_mut().insert(Caller::anybody());
        return Ok(next.run(request).await);
    };
    let ip = address_of(request.extensions());
    let caller = match identify(door, request.headers(), ip, &needs.core).await? {
        Shown::Good(caller) => caller,
        Shown::Refused(response) => return Ok(response),
        Shown::Nothing => {
            let detail =
                "a token is needed: FERRY_TOKEN or --token-file, as `Authorization: Bearer`; in a browser, sign in";
            let mut response = refused(StatusCode::UNAUTHORIZED, "SignInNeeded", detail).into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Ok(response);
        }
    };
    if caller.is_by_cookie && !is_own_page(request.method(), request.headers()) {
        let detail =
            "what a browser's cookie opens is for the coordinator's own pages; programs send `Authorization: Bearer`";
        return Err(refused(StatusCode::FORBIDDEN, "OtherSite", detail));
    }
    if caller.role < needs.role {
        let detail = format!("the token's role is {}; this needs {}", caller.role.name(), needs.role.name());
        return Err(refused(StatusCode::FORBIDDEN, "RoleMissing", detail));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Looks at the token of a request: of its header, or where there is none, of its cookie.
pub(super) async fn identify(
    door: &Door,
    headers: &HeaderMap,
    ip: Option<IpAddr>,
    core: &Core,
) -> Result<Shown, StoreError> {
    let (token, is_by_cookie) = match headers.contains_key(header::AUTHORIZATION) {
        true => (bearer(headers), false),
        false => (session::token_of(headers), true),
    };
    let Some(token) = token else { return Ok(Shown::Nothing) };
    Ok(match look(door, token, ip, core).await? {
        Shown::Good(caller) => Shown::Good(Caller { is_by_cookie, ..caller }),
        Shown::Refused(mut response) if is_by_cookie && response.status() == StatusCode::UNAUTHORIZED => {
            // Else it would be tried, and counted, again and again.
            response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static(session::NO_COOKIE));
            Shown::Refused(response)
        }
        other => other,
    })
}

/// Looks at a token. One that is not good is a failed sign-in of its address.
pub(super) async fn look(door: &Door, token: &str, ip: Option<IpAddr>, core: &Core) -> Result<Shown, StoreError> {
    let why = match door.bearer(token, core.now()).await? {
        Ok((role, name)) => {
            let token = Some(Secret::new(token.to_owned()));
            return Ok(Shown::Good(Caller { role, name, token, is_by_cookie: false }));
        }
        Err(Refusal::NoRole(why)) => {
            return Ok(Shown::Refused(refused(StatusCode::FORBIDDEN, "RoleMissing", why).into_response()));
        }
        Err(Refusal::NoKeys(why)) => {
            let problem = refused(StatusCode::SERVICE_UNAVAILABLE, "IssuerUnreachable", why);
            return Ok(Shown::Refused(problem.into_response()));
        }
        Err(Refusal::Token(why)) => why,
    };
    // A good token is listened to, whatever others of the address have tried.
    if let Some(wait) = ip.and_then(|ip| door.sign_ins.refuses(ip)) {
        let detail = "too many failed sign-ins from this address";
        let mut response = refused(StatusCode::TOO_MANY_REQUESTS, "TooManySignIns", detail).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        return Ok(Shown::Refused(response));
    }
    if let Some(ip) = ip {
        door.sign_ins.failed(ip);
    }
    core.meters.sign_in_failed();
    tracing::warn!(peer = ip.map(tracing::field::display), "a sign-in failed: {why}");
    Ok(Shown::Refused(refused(StatusCode::UNAUTHORIZED, "SignInFailed", why).into_response()))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A request with a cookie comes from one of the coordinator's own pages. That an `Origin` is not another site's was looked at
/// before; what changes something must have one, or say in another way that it is of the same origin.
fn is_own_page(method: &Method, headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    if method.is_safe() {
        return matches!(site, None | Some("same-origin" | "none"));
    }
    match site {
        Some(site) => site == "same-origin",
        None => headers.contains_key(header::ORIGIN),
    }
}

/// How the port is reached.
#[derive(Clone, Copy)]
pub(super) struct Guard {
    /// No token is asked for, so that the port is for this machine alone, by its own names.
    pub(super) is_open: bool,
    /// It speaks TLS itself.
    pub(super) is_tls: bool,
}

/// Keeps pages of other sites from using the port through somebody's browser, and tells browsers what they may do with an
/// answer.
pub(super) async fn guard_browsers(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match foreign(request.headers(), request.uri(), guard) {
        Some(why) => refused(StatusCode::FORBIDDEN, "OtherSite", why).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    if guard.is_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    // Pages have a version by which they are asked for again; everything else is of its moment.
    if !headers.contains_key(header::ETAG) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Why a request looks as if another site had sent it.
fn foreign(headers: &HeaderMap, uri: &Uri, guard: Guard) -> Option<&'static str> {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let host = text(header::HOST).or_else(|| uri.authority().map(|a| a.as_str())).unwrap_or_default();
    if headers.contains_key(header::ORIGIN) {
        let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
        let is_own = origin.is_some_and(|(scheme, place)| place == host && (!guard.is_tls || scheme == "https"));
        if !is_own {
            return Some("a page of another site asks");
        }
    }
    let is_elsewhere =
        text(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| matches!(site, "cross-site" | "same-site"));
    if guard.is_open && is_elsewhere && uri.path().starts_with("/api/") {
        return Some("a page of another site asks");
    }
    if guard.is_open && !is_this_machine(name_of(host)) {
        return Some("without --tls the port answers to localhost and loopback addresses only");
    }
    None
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
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
            ("the same name without TLS", "ferry.example", Some("http://ferry.example"), false, true),
            ("the own page on this machine", "localhost:7480", Some("http://localhost:7480"), true, false),
            ("a page of nowhere", "ferry.example", Some("null"), false, true),
            ("no host", "", None, true, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            let guard = Guard { is_open, is_tls: !is_open };
            assert_eq!(foreign(&headers, &Uri::from_static("/"), guard).is_some(), is_foreign, "{case}");
        }
    }

    #[test]
    fn a_cookie_is_good_for_the_own_pages_only() {
        for (case, method, site, origin, is_own) in [
            ("a page looks", Method::GET, Some("same-origin"), None, true),
            ("an address is typed in", Method::GET, Some("none"), None, true),
            ("an old browser looks", Method::GET, None, None, true),
            ("another site looks", Method::GET, Some("cross-site"), None, false),
            ("a neighbour looks", Method::GET, Some("same-site"), None, false),
            ("a page changes something", Method::POST, Some("same-origin"), Some("https://a"), true),
            ("an old browser changes something", Method::POST, None, Some("https://a"), true),
            ("nobody says where from", Method::POST, None, None, false),
            ("another site deletes", Method::DELETE, Some("cross-site"), None, false),
            ("typed in, and changes something", Method::POST, Some("none"), None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            }
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(is_own_page(&method, &headers), is_own, "{case}");
        }
    }
}
