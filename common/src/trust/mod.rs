//! Who is who between the programs: what a node's certificate says of it, whom a client believes, and how connections are
//! made, through a proxy where the environment names one.

mod authority;
mod dial;
mod join_token;
mod proxies;

pub use authority::{Trust, TrustError, fingerprint, read_certificates};
pub use dial::{ClientIdentity, Dialer};
pub use join_token::JoinToken;
pub use proxies::Proxies;

use crate::id::{IdentityId, RuntimeName};

/// What a node's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Given when the node joined. Its certificates change, this stays.
    pub id: IdentityId,
    /// The integration runtime that it may work for.
    pub runtime: RuntimeName,
}

/// How the name in a node's certificate begins.
const SCHEME: &str = "ferry://node/";

impl NodeIdentity {
    /// The name as it stands in the certificate (a URI among its alternative names).
    pub fn to_uri(&self) -> String {
        format!("{SCHEME}{}/{}", self.runtime, self.id)
    }

    /// The identity in such a name; `None` for any other name.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let (runtime, id) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        Some(Self { id: id.parse().ok()?, runtime: runtime.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_certificate() {
        let identity = NodeIdentity { id: IdentityId::generate(), runtime: "onprem".parse().unwrap() };
        assert_eq!(NodeIdentity::from_uri(&identity.to_uri()), Some(identity));
        for other in ["ferry://node/onprem", "https://node/onprem/1", "ferry://node/a b/1", "ferry://node/a/b/c", ""] {
            assert_eq!(NodeIdentity::from_uri(other), None, "{other}");
        }
    }
}
