//! Tokens: made, checked, used. A secret is shown once, when its token is made; only its hash is kept.

use super::{Authority, Door, DoorError, Refusal, authority};
use crate::store::{Grants, IdentityRow, Role, StoreError, TokenRow};
use ferry_common::{
    clock::Millis,
    id::{IdentityId, RuntimeName},
    trust::{JoinToken, NodeIdentity},
};
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};
use std::fmt;

/// How the token of a program begins.
const PREFIX: &str = "fapi";
/// The id of the token in the folder.
const ADMIN: &str = "admin";

/// A program's token as it is sent. Shown without its secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenSecret {
    id: String,
    secret: String,
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSecret({})", self.id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256, in hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// So many random bytes, in hexadecimal digits.
#[expect(clippy::expect_used, reason = "without randomness nothing can be kept secret")]
fn random<const N: usize>() -> String {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system's random numbers");
    hex(&bytes)
}

impl TokenSecret {
    fn generate(id: String) -> Self {
        Self { id, secret: random::<32>() }
    }

    pub(super) fn generate_admin() -> Self {
        Self::generate(ADMIN.to_owned())
    }

    pub(crate) fn to_text(&self) -> String {
        format!("{PREFIX}_{}_{}", self.id, self.secret)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.trim().strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        (is_plain(id) && is_plain(secret)).then(|| Self { id: id.to_owned(), secret: secret.to_owned() })
    }
}

/// A new token, which is stored by then.
pub(crate) struct NewToken {
    pub(crate) row: TokenRow,
    /// Shown once.
    pub(crate) text: String,
}

/// Why a node may not join, or not any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("the join token is not known here; make one with `ferry token create --runtime NAME`")]
    Unknown,
    #[error("join token {0} ended, was revoked or is used up; make another with `ferry token create --runtime NAME`")]
    Ended(String),
    #[error("join token {token} is for integration runtime {of}, not {asked}")]
    OtherRuntime { token: String, of: RuntimeName, asked: RuntimeName },
    #[error("this node was revoked; give it a new token and an empty identity folder if it shall come back")]
    Revoked,
    #[error(transparent)]
    Request(DoorError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A certificate for a node, and whose it is.
pub(crate) struct Certified {
    pub(crate) identity: NodeIdentity,
    /// DER.
    pub(crate) certificate: Vec<u8>,
}

/// By this name the bearers of an issuer's tokens are known.
const OF_ISSUER: &str = "oidc";

impl Door {
    /// Makes a token, and keeps it.
    pub(crate) async fn create_token(&self, grants: Grants, now: Millis, ends: Millis) -> Result<NewToken, StoreError> {
        let secret = TokenSecret::generate(random::<6>());
        let text = match &grants {
            Grants::Api(_) => secret.to_text(),
            Grants::Join { .. } => {
                let authority = self.keys.pinned().map(Authority::fingerprint);
                JoinToken { id: secret.id.clone(), secret: secret.secret.clone(), authority }.to_text()
            }
        };
        let row = TokenRow {
            id: secret.id,
            secret_hash: hash(secret.secret.as_bytes()),
            grants,
            created: now,
            ends,
            revoked: None,
        };
        self.store.insert_token(&row).await?;
        Ok(NewToken { row, text })
    }

    /// What the bearer of a token may do, whoever made the token, and by which name it is known.
    pub(crate) async fn bearer(&self, token: &str, now: Millis) -> Result<Result<(Role, String), Refusal>, StoreError> {
        match &self.oidc {
            Some(oidc) if TokenSecret::parse(token).is_none() => {
                Ok(oidc.role_of(token).await.map(|role| (role, OF_ISSUER.to_owned())))
            }
            _ => {
                let unknown = || Refusal::Token("the token is not known here, ended or was revoked".to_owned());
                Ok(self.bearer_of(token, now).await?.ok_or_else(unknown))
            }
        }
    }

    /// What the bearer of this own token may do, and the token's id; `None`: nothing.
    async fn bearer_of(&self, token: &str, now: Millis) -> Result<Option<(Role, String)>, StoreError> {
        let Some(token) = TokenSecret::parse(token) else { return Ok(None) };
        // Hashes are compared, so the time that takes says nothing about a secret.
        let hashed = hash(token.secret.as_bytes());
        if token.id == ADMIN {
            let is_admin = hashed == hash(self.keys.admin.secret.as_bytes());
            return Ok(is_admin.then_some((Role::Admin, token.id)));
        }
        let row = self.store.token(&token.id).await?.filter(|row| row.secret_hash == hashed && holds(row, now));
        Ok(row.and_then(|row| match row.grants {
            Grants::Api(role) => Some((role, row.id)),
            Grants::Join { .. } => None,
        }))
    }

    /// Lets a node in. The same token with the same key gives a certificate for the same identity.
    pub(crate) async fn join(
        &self,
        token: &str,
        request: Vec<u8>,
        runtime: RuntimeName,
        name: String,
        now: Millis,
    ) -> Result<Certified, JoinError> {
        let token: JoinToken = token.parse().map_err(|_| JoinError::Unknown)?;
        let row = self.store.token(&token.id).await?.filter(|row| row.secret_hash == hash(token.secret.as_bytes()));
        let row = row.ok_or(JoinError::Unknown)?;
        let Grants::Join { runtime: of, .. } = &row.grants else { return Err(JoinError::Unknown) };
        if *of != runtime {
            return Err(JoinError::OtherRuntime { token: row.id, of: of.clone(), asked: runtime });
        }
        let key_hash = hash(&authority::public_key(&request).map_err(JoinError::Request)?);
        if !holds(&row, now) {
            return Err(JoinError::Ended(row.id));
        }
        let mut known = self.store.identity_of(&row.id, &key_hash).await?;
        if known.is_none() {
            let identity = IdentityRow {
                id: IdentityId::generate(),
                runtime,
                name,
                token: row.id.clone(),
                key_hash,
                joined: now,
                ends: now.plus(self.keys.node_cert_ttl),
                revoked: None,
            };
            known = match self.store.join(&identity).await {
                Ok(()) => Some(identity),
                // The token is used up; unless the same request came twice at once, and the other was faster.
                Err(StoreError::Conflict) => self.store.identity_of(&row.id, &identity.key_hash).await?,
                Err(e) => return Err(e.into()),
            };
        }
        match known {
            None => Err(JoinError::Ended(row.id)),
            Some(known) if known.revoked.is_some() => Err(JoinError::Revoked),
            Some(known) => self.certify(NodeIdentity { id: known.id, runtime: known.runtime }, request),
        }
    }

    /// A newer certificate for a node that has one.
    pub(crate) async fn renew_node(
        &self,
        identity: NodeIdentity,
        request: Vec<u8>,
        now: Millis,
    ) -> Result<Certified, JoinError> {
        match self.store.renew_identity(&identity.id, now.plus(self.keys.node_cert_ttl)).await {
            Ok(()) => self.certify(identity, request),
            Err(StoreError::Conflict) => Err(JoinError::Revoked),
            Err(e) => Err(e.into()),
        }
    }

    fn certify(&self, identity: NodeIdentity, request: Vec<u8>) -> Result<Certified, JoinError> {
        let certificate =
            self.keys.authority.sign_node(request, &identity, self.keys.node_cert_ttl).map_err(JoinError::Request)?;
        Ok(Certified { identity, certificate: certificate.to_vec() })
    }
}

fn holds(row: &TokenRow, now: Millis) -> bool {
    row.revoked.is_none() && now < row.ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_not_shown() {
        let token = TokenSecret::generate_admin();
        assert_eq!(TokenSecret::parse(&format!(" {}\n", token.to_text())), Some(token.clone()));
        assert!(!format!("{token:?}").contains(&token.secret));
        for wrong in ["", "fapi", "fapi_x", "fapi__y", "fjoin_a_b", "fapi_a_b_c", "fapi_a_b c"] {
            assert_eq!(TokenSecret::parse(wrong), None, "{wrong}");
        }
        assert_ne!(TokenSecret::generate_admin(), token);
    }
}
