//! What opens the doors: tokens, of which only hashes are kept, and the identities of nodes that joined with one.

use super::StoreError;
use async_trait::async_trait;
use ferry_common::{
    clock::Millis,
    id::{IdentityId, RuntimeName},
};
use serde::Serialize;

/// What a program may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything.
    Viewer,
    /// Also submit, cancel and drain.
    Operator,
    /// Also make and revoke tokens, and revoke nodes.
    Admin,
}

impl Role {
    /// As written and stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Viewer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("role {text:?} is none of viewer, operator and admin"))
    }
}

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grants {
    /// Programs may do this.
    Api(Role),
    /// Nodes may join.
    Join {
        /// This integration runtime.
        runtime: RuntimeName,
        /// So many more; `None`: any number.
        uses_left: Option<u32>,
    },
}

/// A token, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Names it; no secret.
    pub id: String,
    /// SHA-256 of its secret, in hexadecimal digits.
    pub secret_hash: String,
    /// What it is good for.
    pub grants: Grants,
    /// When it was made.
    pub created: Millis,
    /// When it ends.
    pub ends: Millis,
    /// When it was revoked.
    pub revoked: Option<Millis>,
}

/// A node that joined, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRow {
    /// Stands in its certificates.
    pub id: IdentityId,
    /// The integration runtime that it may work for.
    pub runtime: RuntimeName,
    /// Its name when it joined.
    pub name: String,
    /// The token that it joined with.
    pub token: String,
    /// SHA-256 of the key that it joined with.
    pub key_hash: String,
    /// When it joined.
    pub joined: Millis,
    /// When its newest certificate ends.
    pub ends: Millis,
    /// When it was revoked.
    pub revoked: Option<Millis>,
}

/// Where tokens and identities are kept. Each change is all or nothing, and holds for all coordinators at once.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Keeps a new token.
    async fn insert_token(&self, token: &TokenRow) -> Result<(), StoreError>;

    /// A token.
    async fn token(&self, id: &str) -> Result<Option<TokenRow>, StoreError>;

    /// All tokens, the newest first, at most `limit`.
    async fn tokens(&self, limit: u32) -> Result<Vec<TokenRow>, StoreError>;

    /// Revokes a token; `false` if there is none.
    async fn revoke_token(&self, id: &str, now: Millis) -> Result<bool, StoreError>;

    /// Uses a join token up by one, and keeps the identity. Conflict if the token has no use left, or was revoked, or has
    /// let this key in before.
    async fn join(&self, identity: &IdentityRow) -> Result<(), StoreError>;

    /// An identity.
    async fn identity(&self, id: &IdentityId) -> Result<Option<IdentityRow>, StoreError>;

    /// The identity that joined with this token and this key.
    async fn identity_of(&self, token: &str, key_hash: &str) -> Result<Option<IdentityRow>, StoreError>;

    /// Identities of this id or name.
    async fn identities(&self, id_or_name: &str) -> Result<Vec<IdentityRow>, StoreError>;

    /// An identity has a newer certificate. Conflict if it was revoked.
    async fn renew_identity(&self, id: &IdentityId, ends: Millis) -> Result<(), StoreError>;

    /// Revokes an identity. One that is revoked stays so.
    async fn revoke_identity(&self, id: &IdentityId, now: Millis) -> Result<(), StoreError>;

    /// Forgets tokens and identities that ended before.
    async fn forget_credentials(&self, ended_before: Millis) -> Result<(), StoreError>;
}
