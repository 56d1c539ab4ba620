//! An application's certificate instead of a secret: Entra ID is sent an assertion that the certificate's key has signed.

use azure_core::{
    error::{Error, ErrorKind},
    http::ClientMethodOptions,
};
use azure_identity::ClientAssertion;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{RSA_PSS_SHA256, RsaKeyPair},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use std::{fmt, fs::File, io::Read as _, path::PathBuf};

/// How long an assertion is good. Source: Entra ID, "Certificate credentials": 5 to 10 minutes.
const ASSERTION_SECONDS: i64 = 600;
/// Largest file with key and certificates that is read.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// Asks for the whole chain in the assertion, for applications that know the issuer and not the certificate: the variable of
/// Microsoft's own libraries.
const CHAIN_VARIABLE: &str = "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN";

/// Where a certificate and its key are, as PEM.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum CertificatePlace {
    /// A file. It is read again for each assertion: by then it may hold a newer one.
    File(PathBuf),
    /// The text itself.
    Text(String),
}

impl fmt::Debug for CertificatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Text(_) => f.write_str("Text(..)"),
        }
    }
}

/// A key, the certificate that is for it, and what comes with that.
struct Certified {
    key: RsaKeyPair,
    /// DER; the key's own first.
    chain: Vec<CertificateDer<'static>>,
}

impl CertificatePlace {
    fn read(&self) -> Result<Certified, String> {
        let of = |why: String| match self {
            Self::File(path) => format!("the certificate in {}: {why}", path.display()),
            Self::Text(_) => format!("the certificate: {why}"),
        };
        let mut text = Vec::new();
        match self {
            Self::File(path) => {
                let file = File::open(path).map_err(|e| of(e.to_string()))?;
                file.take(PEM_BYTES_MAX).read_to_end(&mut text).map_err(|e| of(e.to_string()))?;
            }
            Self::Text(pem) => text.extend_from_slice(pem.as_bytes()),
        }
        Certified::parse(&text).map_err(|why| of(why.to_owned()))
    }
}

impl Certified {
    /// Reads PEM. Nothing of the text is repeated.
    fn parse(pem: &[u8]) -> Result<Self, &'static str> {
        let no_rsa = "its key is no RSA key of 2048 bits or more";
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(
            |_| "it holds no key that can be read: PEM with -----BEGIN PRIVATE KEY-----, not encrypted, is wanted",
        )?;
        let key = match &key {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| no_rsa)?,
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(|_| no_rsa)?,
            _ => return Err(no_rsa),
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let mut chain = chain.map_err(|_| "its PEM is damaged")?;
        // A certificate holds its public key as it is.
        let public: &[u8] = key.public().as_ref();
        let own = chain.iter().position(|der| der.windows(public.len()).any(|part| part == public));
        let own = own.ok_or("it holds no certificate for its key")?;
        chain.swap(0, own);
        Ok(Self { key, chain })
    }

    /// The assertion of application `client_id` for the token endpoint `audience`.
    /// Source: Entra ID, "Certificate credentials", assertion format.
    fn assertion(&self, client_id: &str, audience: &str, sends_chain: bool, now: i64) -> Result<String, &'static str> {
        let thumbprint = digest::digest(&digest::SHA256, &self.chain[0]);
        let mut header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(thumbprint)});
        if sends_chain {
            header["x5c"] = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
        }
        let claims = json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": uuid::Uuid::new_v4().to_string(),
            "iat": now, "nbf": now, "exp": now + ASSERTION_SECONDS,
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let signed = self.key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature);
        signed.map_err(|_| "its key signs nothing")?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Makes an assertion whenever a token is asked for.
#[derive(Debug)]
pub(super) struct CertificateAssertion {
    place: CertificatePlace,
    client_id: String,
    audience: String,
    sends_chain: bool,
}

impl CertificateAssertion {
    /// Assertions of application `client_id` for the token endpoint `audience`. What cannot be used now is refused.
    pub(super) fn new(place: CertificatePlace, client_id: String, audience: String) -> Result<Self, String> {
        place.read()?;
        let asked = std::env::var(CHAIN_VARIABLE).unwrap_or_default();
        let sends_chain = asked == "1" || asked.eq_ignore_ascii_case("true");
        Ok(Self { place, client_id, audience, sends_chain })
    }

    fn make(&self) -> Result<String, String> {
        let now = jiff::Timestamp::now().as_second();
        let certified = self.place.read()?;
        Ok(certified.assertion(&self.client_id, &self.audience, self.sends_chain, now)?)
    }
}

#[async_trait::async_trait]
impl ClientAssertion for CertificateAssertion {
    async fn secret(&self, _options: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        self.make().map_err(|why| Error::with_message(ErrorKind::Credential, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents};

    /// For tests alone: no application knows it.
    const PEM: &str = include_str!("../../../tests/fixtures/application.pem");
    const KEY_MARK: &str = "-----BEGIN PRIVATE KEY-----";

    #[test]
    fn an_assertion_is_signed_for_its_endpoint() {
        let certified = Certified::parse(PEM.as_bytes()).unwrap();
        let text = certified.assertion("client", "https://login.example/t/oauth2/v2.0/token", true, 1_000).unwrap();
        let (message, signature) = text.rsplit_once('.').unwrap();
        let key: RsaPublicKeyComponents<Vec<u8>> = certified.key.public().into();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        key.verify(&RSA_PSS_2048_8192_SHA256, message.as_bytes(), &signature).unwrap();
        let part = |index: usize| -> serde_json::Value {
            let bytes = URL_SAFE_NO_PAD.decode(message.split('.').nth(index).unwrap()).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        let (header, claims) = (part(0), part(1));
        assert_eq!(header["alg"], "PS256");
        assert_eq!(URL_SAFE_NO_PAD.decode(header["x5t#S256"].as_str().unwrap()).unwrap().len(), 32);
        assert_eq!(header["x5c"].as_array().unwrap().len(), 1);
        assert_eq!(claims["aud"], "https://login.example/t/oauth2/v2.0/token");
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("client"), &json!("client")));
        assert_eq!((&claims["nbf"], &claims["exp"]), (&json!(1_000), &json!(1_600)));
        let again = certified.assertion("client", "a", false, 1_000).unwrap();
        assert_ne!(again.split('.').nth(1), text.split('.').nth(1), "each has an id of its own");
    }

    #[test]
    fn what_cannot_be_used_is_told_apart_and_not_shown() {
        let at = PEM.find(KEY_MARK).unwrap();
        let (before, rest) = PEM.split_at(at);
        let end = rest.find("-----END PRIVATE KEY-----").unwrap() + "-----END PRIVATE KEY-----\n".len();
        let (key, after) = rest.split_at(end);
        let certificates = format!("{before}{after}");
        for (case, pem, words) in [
            ("a certificate alone", certificates.clone(), "no key"),
            ("a key alone", key.to_owned(), "no certificate for its key"),
            ("neither", "hunter2".to_owned(), "no key"),
            ("locked", certificates + &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "not encrypted"),
        ] {
            let why = CertificatePlace::Text(pem).read().err().unwrap();
            assert!(why.contains(words) && !why.contains("hunter2"), "{case}: {why}");
        }
        let why = CertificatePlace::File("/nowhere/application.pem".into()).read().err().unwrap();
        assert!(why.contains("/nowhere/application.pem"), "{why}");
        assert_eq!(format!("{:?}", CertificatePlace::Text(PEM.to_owned())), "Text(..)");
    }
}
