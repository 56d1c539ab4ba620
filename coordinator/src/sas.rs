//! Shared access signatures: made here, of an account's key or of one that storage made for an identity.

use crate::identities::DelegationKey;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ferry_common::{
    activity::Secret,
    clock::Millis,
    failure::{Code, Failure},
};
use ring::hmac;

/// Version of the signature's form. Azurite and every cloud know it.
const SAS_VERSION: &str = "2023-11-03";

/// What signatures are made with.
pub(crate) struct Signing<'a> {
    key: hmac::Key,
    /// `None`: the key is the account's.
    delegation: Option<&'a DelegationKey>,
}

impl<'a> Signing<'a> {
    /// With the account's key.
    pub(crate) fn by_account(key: &Secret) -> Result<Self, Failure> {
        let key = BASE64.decode(key.expose()).map_err(|_| {
            Failure::settings(Code::StagingForbidden, "staging.accountKey is not a storage account's key")
        })?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), delegation: None })
    }

    /// With a user delegation key: signatures can do what its identity may, and no more.
    pub(crate) fn delegated(key: &'a DelegationKey) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key.value), delegation: Some(key) }
    }
}

/// Names and texts of a user delegation key in a query, in the order in which they are signed.
fn delegation_fields(key: &DelegationKey) -> [(&'static str, &str); 6] {
    let DelegationKey { object_id, tenant_id, start, expiry, service, version, .. } = key;
    [("skoid", object_id), ("sktid", tenant_id), ("skt", start), ("ske", expiry), ("sks", service), ("skv", version)]
        .map(|(name, text)| (name, text.as_str()))
}

/// A container's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// Without a slash at its end.
    pub(crate) url: String,
    account: String,
    name: String,
}

impl Container {
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let url = url.trim_end_matches('/');
        let (_, rest) = url.split_once("://")?;
        let (host, path) = rest.split_once('/')?;
        let host_name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        // The emulator puts the account into the path.
        let (account, name) = if host_name == "localhost" || host_name.parse::<std::net::IpAddr>().is_ok() {
            path.split_once('/')?
        } else {
            (host.split('.').next()?, path)
        };
        let fits = !account.is_empty() && !name.is_empty() && !name.contains('/');
        fits.then(|| Self { url: url.to_owned(), account: account.to_owned(), name: name.to_owned() })
    }

    /// Address of the storage account.
    pub(crate) fn account_url(&self) -> &str {
        self.url.strip_suffix(&self.name).unwrap_or(&self.url).trim_end_matches('/')
    }

    /// The query by which the container, or one blob of it, may be used until then.
    pub(crate) fn signed(
        &self,
        signing: &Signing<'_>,
        permissions: &str,
        blob: Option<&str>,
        expires: Millis,
    ) -> String {
        let terms = self.terms(permissions, blob.is_some(), expires);
        format!("{}&sig={}", terms.common(signing), terms.sig(signing, blob))
    }

    /// Of signatures for several blobs: what their queries have in common, and the `sig` of each.
    pub(crate) fn signed_blobs(
        &self,
        signing: &Signing<'_>,
        permissions: &str,
        blobs: &[String],
        expires: Millis,
    ) -> (String, Vec<String>) {
        let terms = self.terms(permissions, true, expires);
        (terms.common(signing), blobs.iter().map(|blob| terms.sig(signing, Some(blob))).collect())
    }

    fn terms<'a>(&'a self, permissions: &'a str, is_blob: bool, expires: Millis) -> Terms<'a> {
        Terms {
            container: self,
            permissions,
            resource: if is_blob { "b" } else { "c" },
            // Whole seconds, as the form wants them.
            expires: Millis(expires.0 / 1000 * 1000).to_string(),
            protocol: if self.url.starts_with("https://") { "https" } else { "https,http" },
        }
    }
}

/// What is allowed, of what, and until when.
struct Terms<'a> {
    container: &'a Container,
    permissions: &'a str,
    resource: &'static str,
    expires: String,
    protocol: &'static str,
}

impl Terms<'_> {
    /// The query without its `sig`.
    fn common(&self, signing: &Signing<'_>) -> String {
        let Self { permissions, resource, expires, protocol, .. } = self;
        let mut query = format!("sv={SAS_VERSION}&se={}&sr={resource}&sp={permissions}", query_encoded(expires));
        for (name, text) in signing.delegation.into_iter().flat_map(delegation_fields) {
            query += &format!("&{name}={}", query_encoded(text));
        }
        query + &format!("&spr={}", query_encoded(protocol))
    }

    /// The `sig`, as it stands in an address.
    fn sig(&self, signing: &Signing<'_>, blob: Option<&str>) -> String {
        let Container { account, name, .. } = self.container;
        let path = match blob {
            Some(blob) => format!("/blob/{account}/{name}/{blob}"),
            None => format!("/blob/{account}/{name}"),
        };
        let head = [self.permissions, "", &self.expires, &path];
        // Azure Storage, "Create a service SAS" and "Create a user delegation SAS", versions from 2020-12-06: the fields in
        // this order.
        let between: Vec<&str> = match signing.delegation {
            None => vec!["", ""],
            Some(key) => delegation_fields(key).into_iter().map(|(_, text)| text).chain(["", "", "", ""]).collect(),
        };
        let tail = [self.protocol, SAS_VERSION, self.resource, "", "", "", "", "", "", ""];
        let fields: Vec<&str> = head.into_iter().chain(between).chain(tail).collect();
        query_encoded(&BASE64.encode(hmac::sign(&signing.key, fields.join("\n").as_bytes())))
    }
}

fn query_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRES: Millis = Millis(1_800_000_000_123);

    fn container() -> Container {
        Container::parse("https://acct.blob.core.windows.net/staging").unwrap()
    }

    #[test]
    fn a_containers_address_is_taken_apart() {
        for (url, account, name) in [
            ("https://acct.blob.core.windows.net/staging/", "acct", "staging"),
            ("http://127.0.0.1:10000/devstoreaccount1/staging", "devstoreaccount1", "staging"),
            ("http://localhost:10000/devstoreaccount1/staging", "devstoreaccount1", "staging"),
        ] {
            let container = Container::parse(url).unwrap();
            assert_eq!((container.account.as_str(), container.name.as_str()), (account, name));
        }
        for bad in ["https://acct.blob.core.windows.net/", "https://acct.blob.core.windows.net/a/b", "acct"] {
            assert!(Container::parse(bad).is_none(), "{bad}");
        }
    }

    /// The scenarios have Azurite check whole signatures.
    #[test]
    fn a_signature_covers_its_fields() {
        let key = Signing::by_account(&Secret::new(BASE64.encode("key"))).unwrap();
        let one = container().signed(&key, "cw", None, EXPIRES);
        assert!(one.starts_with("sv=2023-11-03&se=2027-01-15T08%3A00%3A00Z&sr=c&sp=cw&spr=https&sig="), "{one}");
        let signature = |sas: &str| sas.rsplit_once("sig=").unwrap().1.to_owned();
        for other in [
            container().signed(&key, "r", None, EXPIRES),
            container().signed(&key, "cw", Some("a"), EXPIRES),
            container().signed(&key, "cw", None, Millis(EXPIRES.0 + 1_000)),
        ] {
            assert_ne!(signature(&one), signature(&other));
        }
        assert!(Signing::by_account(&Secret::new("no base64!".into())).is_err());
    }

    /// The signatures were made by another program, from the service's documentation.
    #[test]
    fn blobs_are_signed_as_the_service_has_it() {
        let blobs = ["r/1/2/0.csv.gz".to_owned(), "r/1/2/1.csv.gz".to_owned()];
        let account = Signing::by_account(&Secret::new(BASE64.encode("key"))).unwrap();
        let (common, sigs) = container().signed_blobs(&account, "cw", &blobs, EXPIRES);
        assert_eq!(common, "sv=2023-11-03&se=2027-01-15T08%3A00%3A00Z&sr=b&sp=cw&spr=https");
        assert_eq!(sigs[0], "uoRQK7UuNk%2FmRGZOoeRnsvWw3kdR5CB8N1djf32sdLM%3D");
        assert_ne!(sigs[0], sigs[1]);
        let whole = container().signed(&account, "cw", Some(&blobs[1]), EXPIRES);
        assert_eq!(whole, format!("{common}&sig={}", sigs[1]));

        let key = DelegationKey {
            object_id: "oid".into(),
            tenant_id: "tid".into(),
            start: "2027-01-14T08:00:00Z".into(),
            expiry: "2027-01-20T08:00:00Z".into(),
            service: "b".into(),
            version: SAS_VERSION.into(),
            value: b"key".to_vec(),
            ends: Millis(0),
        };
        let (common, sigs) = container().signed_blobs(&Signing::delegated(&key), "cw", &blobs, EXPIRES);
        assert!(common.contains("&sp=cw&skoid=oid&sktid=tid&skt=") && common.ends_with("&spr=https"), "{common}");
        assert_eq!(sigs[0], "0tRNW9ijNKuabCy7XLVSGizARFwkNE9YL%2B3XnQ7WoBI%3D");
    }
}
