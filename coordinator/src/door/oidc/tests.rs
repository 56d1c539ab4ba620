use super::*;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::get_current_timestamp;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
    },
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::json;

const ISSUER: &str = "https://login.example/v2.0";
const AUDIENCE: &str = "api://ferry";
/// For tests alone.
const PEM: &[u8] = include_bytes!("../../../../tests/fixtures/application.pem");

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn config() -> OidcConfig {
    let roles = [("ferry.viewer", Role::Viewer), ("ferry.operator", Role::Operator), ("ferry.admin", Role::Admin)];
    OidcConfig {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        role_claim: "roles".to_owned(),
        roles: roles.map(|(value, role)| (value.to_owned(), role)).into(),
    }
}

/// Signs with an RSA key named `r` and a P-256 key named `e`.
struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    keys: HashMap<String, Key>,
}

impl Issuer {
    fn new() -> Self {
        let _ = RING.install_default();
        let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(PEM).unwrap() else { panic!("no PKCS#8 key") };
        let rsa = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random).unwrap();
        let public: RsaPublicKeyComponents<Vec<u8>> = rsa.public().into();
        let (n, e) = (encoded(public.n), encoded(public.e));
        // One byte that says that there is no compression, then both coordinates.
        let point: &[u8] = ec.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let (x, y) = (encoded(x), encoded(y));
        let set: JwkSet = serde_json::from_value(json!({"keys": [
            {"kty": "RSA", "kid": "r", "use": "sig", "n": n, "e": e},
            {"kty": "EC", "crv": "P-256", "kid": "e", "use": "sig", "alg": "ES256", "x": x, "y": y},
            {"kty": "RSA", "kid": "named", "alg": "RS256", "n": n, "e": e},
            {"kty": "RSA", "kid": "for-encryption", "use": "enc", "n": n, "e": e},
            {"kty": "RSA", "kid": "other-algorithm", "alg": "RS512", "n": n, "e": e},
            {"kty": "RSA", "n": n, "e": e},
            {"kty": "oct", "kid": "symmetric", "alg": "HS256", "k": n},
            {"kty": "EC", "crv": "P-384", "kid": "other-curve", "x": x, "y": y},
            {"kty": "new", "kid": "unheard-of"},
        ]}))
        .unwrap();
        let keys = set.keys.iter().filter_map(key_of).collect();
        Self { rsa, ec, keys }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        match algorithm {
            "RS256" => self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap(),
            "PS256" => self.rsa.sign(&RSA_PSS_SHA256, &random, message, &mut signature).unwrap(),
            "ES256" => signature = self.ec.sign(&random, message).unwrap().as_ref().to_vec(),
            // What everybody knows, taken for a secret.
            "HS256" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.rsa.public().as_ref());
                signature = hmac::sign(&key, message).as_ref().to_vec();
            }
            _ => signature.clear(),
        }
        signature
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = self.sign(header["alg"].as_str().unwrap(), message.as_bytes());
        format!("{message}.{}", encoded(signature))
    }

    fn judge(&self, token: &str, config: &OidcConfig) -> Result<Role, Refusal> {
        let (id, algorithm) = header_of(token)?;
        let key = self.keys.get(&id).ok_or_else(|| Refusal::Token("unknown key".to_owned()))?;
        judge(token, algorithm, key, config)
    }
}

fn good() -> Value {
    let now = get_current_timestamp();
    json!({"iss": ISSUER, "aud": AUDIENCE, "nbf": now - 5, "exp": now + 300, "roles": ["ferry.operator", "of.others"]})
}

/// The good claims with some changed; null: without it.
fn with(changes: Value) -> Value {
    let mut claims = good();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

#[test]
fn keys_that_sign_tokens_are_picked_out() {
    let issuer = Issuer::new();
    let mut ids: Vec<_> = issuer.keys.keys().map(String::as_str).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["e", "named", "r"]);
}

#[test]
fn a_good_token_gives_its_highest_role() {
    let (issuer, config) = (Issuer::new(), config());
    let now = get_current_timestamp();
    for (case, header, claims, role) in [
        ("RSA", json!({"alg": "RS256", "kid": "r", "typ": "JWT"}), good(), Role::Operator),
        ("RSA-PSS", json!({"alg": "PS256", "kid": "r"}), good(), Role::Operator),
        ("P-256", json!({"alg": "ES256", "kid": "e"}), good(), Role::Operator),
        ("one role", json!({"alg": "ES256", "kid": "e"}), with(json!({"roles": "ferry.viewer"})), Role::Viewer),
        (
            "several roles",
            json!({"alg": "ES256", "kid": "e"}),
            with(json!({"roles": ["ferry.viewer", "ferry.admin", 7]})),
            Role::Admin,
        ),
        (
            "several audiences",
            json!({"alg": "ES256", "kid": "e"}),
            with(json!({"aud": ["x", AUDIENCE]})),
            Role::Operator,
        ),
        (
            "clocks apart",
            json!({"alg": "ES256", "kid": "e"}),
            with(json!({"exp": now - 30, "nbf": now - 60})),
            Role::Operator,
        ),
        ("without nbf", json!({"alg": "ES256", "kid": "e"}), with(json!({"nbf": null})), Role::Operator),
    ] {
        assert_eq!(issuer.judge(&issuer.token(&header, &claims), &config), Ok(role), "{case}");
    }
}

#[test]
fn a_bad_token_opens_nothing() {
    let (issuer, other, config) = (Issuer::new(), Issuer::new(), config());
    let now = get_current_timestamp();
    let es = json!({"alg": "ES256", "kid": "e"});
    for (case, header, claims, words) in [
        ("another issuer", es.clone(), with(json!({"iss": "https://evil.example"})), "is not by issuer"),
        ("several issuers", es.clone(), with(json!({"iss": [ISSUER, "https://evil.example"]})), "is not by issuer"),
        ("no issuer", es.clone(), with(json!({"iss": null})), "lacks the claim iss"),
        ("another audience", es.clone(), with(json!({"aud": "api://other"})), "is not for api://ferry"),
        ("no audience", es.clone(), with(json!({"aud": null})), "lacks the claim aud"),
        ("ended", es.clone(), with(json!({"exp": now - 120})), "has ended"),
        ("without end", es.clone(), with(json!({"exp": null})), "lacks the claim exp"),
        ("an end in words", es.clone(), with(json!({"exp": "tomorrow"})), "lacks the claim exp"),
        ("not yet good", es.clone(), with(json!({"nbf": now + 120})), "not good yet"),
        ("unsigned", json!({"alg": "none", "kid": "e"}), good(), "no signed JSON web token"),
        ("the public key as a secret", json!({"alg": "HS256", "kid": "r"}), good(), "none of RS256, PS256 and ES256"),
        (
            "an algorithm of another kind of key",
            json!({"alg": "RS256", "kid": "e"}),
            good(),
            "does not sign with RS256",
        ),
        (
            "an algorithm that the key is not for",
            json!({"alg": "PS256", "kid": "named"}),
            good(),
            "does not sign with PS256",
        ),
        ("an unknown key", json!({"alg": "ES256", "kid": "x"}), good(), "unknown key"),
        ("no key", json!({"alg": "ES256"}), good(), "kid"),
        ("a header to be understood", json!({"alg": "ES256", "kid": "e", "crit": ["b64"]}), good(), "crit"),
    ] {
        match issuer.judge(&issuer.token(&header, &claims), &config) {
            Err(Refusal::Token(why)) => assert!(why.contains(words), "{case}: {why}"),
            unlike => panic!("{case}: {unlike:?}"),
        }
    }
    let holds_not: Result<Role, Refusal> = Err(Refusal::Token("the token's signature does not hold".to_owned()));
    assert_eq!(issuer.judge(&other.token(&es, &good()), &config), holds_not, "another key of the same name");
    let token = issuer.token(&es, &good());
    let parts: Vec<_> = token.split('.').collect();
    let raised = encoded(with(json!({"roles": ["ferry.admin"]})).to_string());
    assert_eq!(issuer.judge(&format!("{}.{raised}.{}", parts[0], parts[2]), &config), holds_not, "other claims");
    for nonsense in ["", "a", "a.b", "a.b.c", "a.b.c.d", "fapi_x", &"a".repeat(TOKEN_BYTES_MAX + 1)] {
        assert!(matches!(issuer.judge(nonsense, &config), Err(Refusal::Token(_))), "{nonsense}");
    }
}

#[test]
fn a_token_without_a_role_is_told_so() {
    let (issuer, mut config) = (Issuer::new(), config());
    let es = json!({"alg": "ES256", "kid": "e"});
    for roles in
        [json!(null), json!([]), json!("of.others"), json!(["FERRY.ADMIN"]), json!({"ferry.admin": true}), json!(3)]
    {
        let token = issuer.token(&es, &with(json!({"roles": roles})));
        match issuer.judge(&token, &config) {
            Err(Refusal::NoRole(why)) => {
                assert!(why.contains("claim roles") && why.contains("ferry.operator"), "{why}")
            }
            unlike => panic!("{roles}: {unlike:?}"),
        }
    }
    // Claims that lie deeper, and names with dots.
    let token = issuer
        .token(&es, &with(json!({"realm_access": {"roles": ["ferry.admin"]}, "https://x/roles": "ferry.viewer"})));
    for (claim, role) in [("realm_access.roles", Role::Admin), ("https://x/roles", Role::Viewer)] {
        config.role_claim = claim.to_owned();
        assert_eq!(issuer.judge(&token, &config), Ok(role), "{claim}");
    }
}
