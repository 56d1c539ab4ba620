//! Signing in with a browser: a token in a cookie that no page can read.

use super::{
    Problem,
    sign_in::{self, Caller, Shown},
};
use crate::{core::Core, door::Door};
use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Name of the cookie.
pub(super) const COOKIE: &str = "ferry_token";
/// What makes a browser forget it.
pub(super) const NO_COOKIE: &str = "ferry_token=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict";
/// Bytes of a request to sign in.
const SIGN_IN_BYTES_MAX: usize = 4_096;

/// What these handlers work on.
#[derive(Clone)]
pub(super) struct Lobby {
    pub(super) core: Arc<Core>,
    pub(super) door: Option<Arc<Door>>,
    pub(super) is_tls: bool,
    pub(super) is_insecure: bool,
}

/// The token in a request's cookie.
pub(super) fn token_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, value)| *name == COOKIE && !value.is_empty()).map(|(_, value)| value)
}

/// Who asks, and what they may do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WhoView {
    /// `viewer`, `operator`, `admin`; null: not signed in.
    #[schema(value_type = Option<String>)]
    role: Option<&'static str>,
    /// Names the token; null: not signed in.
    name: Option<String>,
    /// Nothing is shown before a sign-in.
    needs_sign_in: bool,
    /// Whoever is on the way can read what is sent: the port has no TLS, and is not for this machine alone.
    is_insecure: bool,
    /// Version of the coordinator; null: not signed in.
    version: Option<&'static str>,
}

#[utoipa::path(
    get,
    path = "/api/v1/whoami",
    tag = "session",
    responses((status = 200, body = WhoView, description = "Who asks; nobody is signed in where `role` is null"))
)]
/// Who asks, and what they may do.
pub(super) async fn whoami(State(lobby): State<Lobby>, request: Request) -> Result<Response, Problem> {
    let shown = match &lobby.door {
        None => Shown::Good(Caller::anybody()),
        Some(door) => {
            let ip = sign_in::address_of(request.extensions());
            sign_in::identify(door, request.headers(), ip, &lobby.core).await?
        }
    };
    let caller = match shown {
        Shown::Good(caller) => Some(caller),
        Shown::Nothing => None,
        Shown::Refused(response) => return Ok(response),
    };
    let view = WhoView {
        needs_sign_in: caller.is_none(),
        version: caller.is_some().then_some(env!("CARGO_PKG_VERSION")),
        role: caller.as_ref().map(|caller| caller.role.name()),
        name: caller.map(|caller| caller.name),
        is_insecure: lobby.is_insecure,
    };
    Ok(Json(view).into_response())
}

/// A token to sign in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// As `ferry token create` prints it.
    token: String,
}

#[utoipa::path(
    post,
    path = "/api/v1/session",
    tag = "session",
    request_body = SignIn,
    responses((status = 204, description = "Signed in: the answer brings the cookie `ferry_token`"))
)]
/// Signs a browser in.
pub(super) async fn begin_session(State(lobby): State<Lobby>, request: Request) -> Result<Response, Problem> {
    let Some(door) = &lobby.door else {
        return Err(Problem {
            status: StatusCode::CONFLICT,
            code: "NotSecured",
            detail: "this coordinator runs without --tls: it asks nobody for a token".to_owned(),
        });
    };
    let ip = sign_in::address_of(request.extensions());
    // Something before the port may speak TLS for it: the browser knows.
    let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let is_secure = lobby.is_tls || origin.is_some_and(|origin| origin.starts_with("https://"));
    let body = axum::body::to_bytes(request.into_body(), SIGN_IN_BYTES_MAX).await.map_err(super::bad_request)?;
    // What was sent may be a token: it is not repeated.
    let asked: SignIn =
        serde_json::from_slice(&body).map_err(|_| super::bad_request("expected {\"token\": \"...\"}"))?;
    let token = asked.token.trim();
    match sign_in::look(door, token, ip, &lobby.core).await? {
        Shown::Good(caller) => {
            tracing::info!(token = caller.name, role = caller.role.name(), "a browser signs in");
            let secure = if is_secure { "; Secure" } else { "" };
            let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
            // A token that is known has only letters, digits and underscores.
            let mut cookie = HeaderValue::from_str(&cookie).map_err(super::bad_request)?;
            cookie.set_sensitive(true);
            Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
        }
        Shown::Refused(response) => Ok(response),
        Shown::Nothing => Err(super::bad_request("the token is empty")),
    }
}

#[utoipa::path(
    delete,
    path = "/api/v1/session",
    tag = "session",
    responses((status = 204, description = "Signed out: the cookie is gone"))
)]
/// Signs a browser out. The token stays good: revoke it where that is meant.
pub(super) async fn end_session() -> Response {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, HeaderValue::from_static(NO_COOKIE))]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        for (case, lines, token) in [
            ("alone", vec!["ferry_token=fapi_a_b"], Some("fapi_a_b")),
            ("among others", vec!["a=b; ferry_token=fapi_a_b; c=d"], Some("fapi_a_b")),
            ("on a line of its own", vec!["a=b", "ferry_token=x"], Some("x")),
            ("another's name ends like it", vec!["my_ferry_token=x"], None),
            ("empty", vec!["ferry_token="], None),
            ("none", vec![], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_static(line));
            }
            assert_eq!(token_of(&headers), token, "{case}");
        }
    }
}
