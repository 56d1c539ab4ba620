//! Tokens and nodes that are let in or not any more.

use super::{NODES_SEEN_WITHIN, Problem, bad_request, not_found};
use crate::{
    core::Core,
    door::Door,
    store::{Grants, IdentityRow, Role, TokenRow},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ferry_common::id::RuntimeName;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use utoipa::ToSchema;

/// Tokens that a list shows.
const TOKENS_MAX: u32 = 1_000;
/// Longest life of a token.
const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What these handlers work on.
#[derive(Clone)]
pub(super) struct Office {
    pub(super) core: Arc<Core>,
    pub(super) door: Option<Arc<Door>>,
}

impl Office {
    fn door(&self) -> Result<&Door, Problem> {
        self.door.as_deref().ok_or(Problem {
            status: StatusCode::CONFLICT,
            code: "NotSecured",
            detail: "this coordinator runs without --tls: it asks nobody for a token or a certificate".to_owned(),
        })
    }
}

/// A token to make: with `role` for programs, with `runtime` for nodes.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewToken {
    /// `viewer`, `operator` or `admin`.
    role: Option<String>,
    /// An integration runtime.
    runtime: Option<String>,
    #[schema(minimum = 1)]
    ttl_seconds: u64,
    /// Nodes that may join with it; absent: any number.
    uses: Option<u32>,
}

/// Makes a token. It is told in this answer, and never again.
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    tag = "tokens",
    request_body = NewToken,
    responses((status = 201, body = TokenView, description = "The token"))
)]
pub(super) async fn create_token(State(office): State<Office>, body: String) -> Result<Response, Problem> {
    let asked: NewToken = serde_json::from_str(&body).map_err(bad_request)?;
    let door = office.door()?;
    let grants = match (asked.role, asked.runtime) {
        (Some(role), None) if asked.uses.is_none() => Grants::Api(role.parse::<Role>().map_err(bad_request)?),
        (None, Some(runtime)) if asked.uses != Some(0) => {
            Grants::Join { runtime: RuntimeName::try_from(runtime).map_err(bad_request)?, uses_left: asked.uses }
        }
        _ => return Err(bad_request("either role, or runtime with uses of at least 1 or none")),
    };
    let ttl = Duration::from_secs(asked.ttl_seconds);
    if ttl.is_zero() || ttl > TTL_MAX {
        return Err(bad_request(format!("ttlSeconds must be between 1 and {}", TTL_MAX.as_secs())));
    }
    let now = office.core.now();
    let made = door.create_token(grants, now, now.plus(ttl)).await?;
    tracing::info!(token = made.row.id, "a token is made");
    let mut view = token_view(&made.row);
    view.token = Some(made.text);
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

/// Lists tokens, the newest first, without their secrets.
#[utoipa::path(
    get,
    path = "/api/v1/tokens",
    tag = "tokens",
    responses((status = 200, body = TokensView, description = "Tokens"))
)]
pub(super) async fn list_tokens(State(office): State<Office>) -> Result<Json<TokensView>, Problem> {
    let tokens = office.door()?.store.tokens(TOKENS_MAX).await?;
    Ok(Json(TokensView { tokens: tokens.iter().map(token_view).collect() }))
}

/// Revokes a token.
#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{token}",
    tag = "tokens",
    params(("token" = String, Path, description = "Id of the token")),
    responses((status = 200, body = TokenView, description = "The token now"))
)]
pub(super) async fn revoke_token(
    State(office): State<Office>,
    Path(id): Path<String>,
) -> Result<Json<TokenView>, Problem> {
    let door = office.door()?;
    if !door.store.revoke_token(&id, office.core.now()).await? {
        return Err(not_found("token", &id));
    }
    tracing::info!(token = id, "a token is revoked");
    let row = door.store.token(&id).await?.ok_or_else(|| not_found("token", &id))?;
    Ok(Json(token_view(&row)))
}

/// Revokes the nodes of this name, id or identity. What they hold goes to others when its leases end.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{node}/revoke",
    tag = "nodes",
    params(("node" = String, Path, description = "Name, id or identity of the node")),
    responses((status = 200, body = IdentitiesView, description = "The nodes now"))
)]
pub(super) async fn revoke_node(
    State(office): State<Office>,
    Path(name): Path<String>,
) -> Result<Json<IdentitiesView>, Problem> {
    let door = office.door()?;
    let mut found = door.store.identities(&name).await?;
    // Nodes are shown by the name that they register with, which may be another than they joined with.
    for node in office.core.nodes_seen(NODES_SEEN_WITHIN).await? {
        if let Some(identity) = node.identity.filter(|_| node.name == name || node.id.as_str() == name)
            && found.iter().all(|known| known.id != identity)
        {
            found.extend(door.store.identity(&identity).await?);
        }
    }
    if found.is_empty() {
        return Err(not_found("node", &name));
    }
    let now = office.core.now();
    for identity in &mut found {
        door.store.revoke_identity(&identity.id, now).await?;
        identity.revoked.get_or_insert(now);
        tracing::info!(identity = %identity.id, name = identity.name, "a node is revoked");
    }
    office.core.tell_nodes();
    Ok(Json(IdentitiesView { nodes: found.iter().map(identity_view).collect() }))
}

/// A token, without its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenView {
    id: String,
    /// Of a token for programs: `viewer`, `operator`, `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Of a token for nodes: the integration runtime that they may join.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    /// Nodes that may still join with it; null: any number.
    uses_left: Option<u32>,
    created: String,
    ends: String,
    revoked: Option<String>,
    /// The token itself, told once: when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Tokens, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct TokensView {
    tokens: Vec<TokenView>,
}

fn token_view(row: &TokenRow) -> TokenView {
    let (role, runtime, uses_left) = match &row.grants {
        Grants::Api(role) => (Some(role.name()), None, None),
        Grants::Join { runtime, uses_left } => (None, Some(runtime.to_string()), *uses_left),
    };
    TokenView {
        id: row.id.clone(),
        role,
        runtime,
        uses_left,
        created: row.created.to_string(),
        ends: row.ends.to_string(),
        revoked: row.revoked.map(|at| at.to_string()),
        token: None,
    }
}

/// A node that joined.
#[derive(Serialize, ToSchema)]
pub(super) struct IdentityView {
    identity: String,
    /// Its name when it joined.
    name: String,
    runtime: String,
    /// Id of the token that it joined with.
    token: String,
    joined: String,
    revoked: Option<String>,
}

/// Nodes that joined.
#[derive(Serialize, ToSchema)]
pub(super) struct IdentitiesView {
    nodes: Vec<IdentityView>,
}

fn identity_view(row: &IdentityRow) -> IdentityView {
    IdentityView {
        identity: row.id.to_string(),
        name: row.name.clone(),
        runtime: row.runtime.to_string(),
        token: row.token.clone(),
        joined: row.joined.to_string(),
        revoked: row.revoked.map(|at| at.to_string()),
    }
}
