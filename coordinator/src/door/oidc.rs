//! Tokens of programs by somebody else: JSON web tokens of one issuer of OpenID Connect. Its keys are fetched; what a token says
//! is judged here, and nothing is asked of the issuer for it.

use crate::{config::OidcConfig, store::Role};
use ferry_common::failure::with_causes;
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
    signature,
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How far clocks may be apart.
const LEEWAY_SECONDS: u64 = 60;
/// Keys are fetched anew as often, whether anybody asks or not.
const KEYS_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// A key that is not known has the issuer asked, and no more often than this.
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(60);
/// The same after an issuer that could not be asked.
const FAILED_INTERVAL: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer of an issuer that is read.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Keys of an issuer that are kept.
const KEYS_MAX: usize = 100;
/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Why a token opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no good; in words that anybody may hear.
    Token(String),
    /// It is good, but says nothing that is a role here.
    NoRole(String),
    /// The issuer cannot be asked for its keys.
    NoKeys(String),
}

/// A key of the issuer, and what it may have signed with.
#[derive(Clone)]
struct Key {
    decoding: DecodingKey,
    algorithms: Vec<Algorithm>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, Key>,
    asked: Option<Instant>,
    /// Why asking failed, if it did the last time.
    failed: Option<String>,
}

/// The issuer, as this door knows it.
pub(crate) struct Oidc {
    config: OidcConfig,
    http: reqwest::Client,
    keys: Mutex<Keys>,
    /// Whoever asks the issuer holds it.
    asking: tokio::sync::Mutex<()>,
}

/// What an issuer says of itself. Source: OpenID Connect Discovery 1.0, section 4.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig) -> Result<Self, String> {
        // Refused when it is there already.
        let _ = RING.install_default();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(REQUEST_TIMEOUT);
        let http = http.build().map_err(|e| with_causes(&e))?;
        Ok(Self { config, http, keys: Mutex::default(), asking: tokio::sync::Mutex::default() })
    }

    /// Keeps the keys fresh until the end of the program. While the issuer is away, those that are known go on serving.
    pub(super) async fn keep(&self) {
        loop {
            let is_asked = {
                let _asking = self.asking.lock().await;
                self.ask().await;
                self.lock().failed.is_none()
            };
            tokio::time::sleep(if is_asked { KEYS_INTERVAL } else { UNKNOWN_INTERVAL }).await;
        }
    }

    /// What the bearer of this token may do.
    pub(super) async fn role_of(&self, token: &str) -> Result<Role, Refusal> {
        let (id, algorithm) = header_of(token)?;
        let key = self.key(&id).await?;
        judge(token, algorithm, &key, &self.config)
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn key(&self, id: &str) -> Result<Key, Refusal> {
        let known = |keys: &Keys| keys.by_id.get(id).cloned();
        if let Some(key) = known(&self.lock()) {
            return Ok(key);
        }
        let _asking = self.asking.lock().await;
        let may_ask = {
            let keys = self.lock();
            if let Some(key) = known(&keys) {
                return Ok(key);
            }
            let interval = if keys.failed.is_some() { FAILED_INTERVAL } else { UNKNOWN_INTERVAL };
            keys.asked.is_none_or(|at| at.elapsed() >= interval)
        };
        if may_ask {
            self.ask().await;
        }
        let keys = self.lock();
        match (known(&keys), &keys.failed) {
            (Some(key), _) => Ok(key),
            (None, Some(why)) => Err(Refusal::NoKeys(why.clone())),
            (None, None) => Err(Refusal::Token(format!(
                "the token is signed with a key that {} does not publish",
                self.config.issuer
            ))),
        }
    }

    /// Asks the issuer for its keys. What is known stays where it cannot be asked.
    async fn ask(&self) {
        let fetched = self.fetch().await;
        let mut keys = self.lock();
        keys.asked = Some(Instant::now());
        match fetched {
            Ok(by_id) => {
                tracing::debug!(keys = by_id.len(), "the issuer's keys are fetched");
                keys.by_id = by_id;
                keys.failed = None;
            }
            Err(why) => {
                let why = format!("the keys of issuer {} cannot be had: {why}", self.config.issuer);
                tracing::warn!("{why}");
                keys.failed = Some(why);
            }
        }
    }

    async fn fetch(&self) -> Result<HashMap<String, Key>, String> {
        let issuer = &self.config.issuer;
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let discovery: Discovery = serde_json::from_slice(&self.get(&address).await?)
            .map_err(|e| format!("{address} says nothing of an issuer: {e}"))?;
        // Else one issuer could pass for another.
        if discovery.issuer != *issuer {
            return Err(format!(
                "it calls itself {:?}; --oidc-issuer must be the same, letter by letter",
                discovery.issuer
            ));
        }
        OidcConfig::check_address(&discovery.jwks_uri).map_err(|why| format!("its jwks_uri {why}"))?;
        let set: JwkSet = serde_json::from_slice(&self.get(&discovery.jwks_uri).await?)
            .map_err(|e| format!("{} holds no keys: {e}", discovery.jwks_uri))?;
        let by_id: HashMap<_, _> = set.keys.iter().filter_map(key_of).take(KEYS_MAX).collect();
        if by_id.is_empty() {
            return Err(format!("{} holds no key for RS256, PS256 or ES256 that has a kid", discovery.jwks_uri));
        }
        Ok(by_id)
    }

    async fn get(&self, address: &str) -> Result<Vec<u8>, String> {
        let away = |e: reqwest::Error| format!("{address}: {}", with_causes(&e.without_url()));
        let mut response = self.http.get(address).send().await.map_err(away)?;
        if !response.status().is_success() {
            return Err(format!("{address} answers HTTP {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(away)? {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(format!("{address} answers with more than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        Ok(body)
    }
}

/// A published key with its id, if it is one that tokens may be signed with.
fn key_of(jwk: &Jwk) -> Option<(String, Key)> {
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|of| *of != PublicKeyUse::Signature) {
        return None;
    }
    let of_kind: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::PS256],
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        _ => return None,
    };
    let is_named =
        |algorithm: &Algorithm| common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(*algorithm));
    let algorithms: Vec<_> = of_kind.iter().copied().filter(is_named).collect();
    if algorithms.is_empty() {
        return None;
    }
    Some((common.key_id.clone()?, Key { decoding: DecodingKey::from_jwk(jwk).ok()?, algorithms }))
}

/// The key that a token names, and how it says that it is signed. Nothing of that is believed yet.
fn header_of(token: &str) -> Result<(String, Algorithm), Refusal> {
    let refused = |why: &str| Err(Refusal::Token(why.to_owned()));
    if token.len() > TOKEN_BYTES_MAX {
        return refused("the token is longer than any that is looked at");
    }
    // What names no algorithm that is known, such as `none`, is not read at all.
    let Ok(header) = jsonwebtoken::decode_header(token) else {
        return refused("the token is not known here, and is no signed JSON web token");
    };
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256) {
        return refused("the token's algorithm is none of RS256, PS256 and ES256");
    }
    if header.crit.is_some() {
        return refused("the token wants something understood that is not (crit)");
    }
    match header.kid {
        Some(id) => Ok((id, header.alg)),
        None => refused("the token does not say which key it is signed with (kid)"),
    }
}

/// The role that a token gives, if it is by the issuer, for us, and good now.
fn judge(token: &str, algorithm: Algorithm, key: &Key, config: &OidcConfig) -> Result<Role, Refusal> {
    let refused = Refusal::Token;
    // The key decides, not the token.
    if !key.algorithms.contains(&algorithm) {
        return Err(refused(format!("the token's key does not sign with {algorithm:?}")));
    }
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(&[&config.audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &validation);
    let claims = decoded.map_err(|e| refused(words_of(&e, config)))?.claims;
    if claims.get("iss").and_then(Value::as_str) != Some(config.issuer.as_str()) {
        return Err(refused(words_of(&ErrorKind::InvalidIssuer.into(), config)));
    }
    let named: Vec<&str> = match claim(&claims, &config.role_claim) {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let roles = config.roles.iter().filter(|(value, _)| named.contains(&value.as_str())).map(|(_, role)| *role);
    roles.max().ok_or_else(|| {
        let values: Vec<_> = config.roles.iter().map(|(value, _)| value.as_str()).collect();
        Refusal::NoRole(format!("the token's claim {} has none of {}", config.role_claim, values.join(", ")))
    })
}

/// A claim by its name, or by its path with dots.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let mut parts = name.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    })
}

fn words_of(error: &Error, config: &OidcConfig) -> String {
    match error.kind() {
        ErrorKind::ExpiredSignature => "the token has ended".to_owned(),
        ErrorKind::ImmatureSignature => "the token is not good yet: do the clocks agree?".to_owned(),
        ErrorKind::InvalidIssuer => format!("the token is not by issuer {}", config.issuer),
        ErrorKind::InvalidAudience => format!("the token is not for {}", config.audience),
        ErrorKind::InvalidSignature => "the token's signature does not hold".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token lacks the claim {claim}"),
        _ => "the token is no JSON web token that can be read".to_owned(),
    }
}

/// Signatures are checked by ring, as everywhere here; none are made.
static RING: CryptoProvider =
    CryptoProvider { signer_factory: no_signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

fn no_signer(_algorithm: &Algorithm, _key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl signature::Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        let checked = match (self.algorithm, self.key.kind()) {
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signed)
            }
            (Algorithm::PS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signed)
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signed)
            }
            _ => return Err(signature::Error::new()),
        };
        checked.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests;
