//! Sign-in, as far as a client's side of it can be tried: where tokens come from is told, and a request without a token for
//! this endpoint is refused. Signatures of tokens are not checked.

use crate::{Adx, error::AdxError};
use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// What tokens for this endpoint are for.
const RESOURCE: &str = "https://local-adx.kusto.example";

/// `/v1/rest/auth/metadata`
pub(crate) async fn metadata(State(adx): State<Arc<Adx>>) -> Response {
    let Some(login) = &adx.login_endpoint else { return StatusCode::NOT_FOUND.into_response() };
    let told = json!({
        "LoginEndpoint": login,
        "LoginMfaRequired": false,
        "KustoClientAppId": "00000000-0000-0000-0000-000000000000",
        "KustoClientRedirectUri": "http://localhost/redirect",
        "KustoServiceResourceId": RESOURCE,
        "FirstPartyAuthorityUrl": login,
    });
    Json(json!({"AzureAD": told})).into_response()
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    exp: i64,
}

/// Lets a request through that brings a token for this endpoint, where one is asked for.
pub(crate) async fn check(State(adx): State<Arc<Adx>>, request: Request, next: Next) -> Response {
    if adx.login_endpoint.is_some() && request.uri().path() != "/v1/rest/auth/metadata" {
        let value = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if let Err(why) = claims_hold(value) {
            let refused = AdxError {
                status: 401,
                code: "Unauthorized",
                exception: "Kusto.DataNode.Exceptions.InvalidTokenException",
                message: format!("Unauthorized: {why}"),
                permanent: true,
            };
            return refused.into_response();
        }
    }
    next.run(request).await
}

fn claims_hold(authorization: &str) -> Result<(), String> {
    let token = authorization.strip_prefix("Bearer ").ok_or("a bearer token is needed")?;
    let payload = token.split('.').nth(1).ok_or("the token is no JSON web token")?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|e| e.to_string())?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|e| e.to_string())?;
    if claims.aud != RESOURCE {
        return Err(format!("the token is for {}, not for {RESOURCE}", claims.aud));
    }
    if claims.exp <= jiff::Timestamp::now().as_second() {
        return Err("the token has ended".to_owned());
    }
    Ok(())
}
