//! An issuer of OpenID Connect in this process: what it says of itself, its keys, and tokens signed with them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

struct State {
    /// Numbers the key.
    number: u32,
    key: EcdsaKeyPair,
    is_away: bool,
    /// Requests for keys that were answered.
    requests: usize,
}

/// A running issuer; it ends when this is dropped.
pub struct Issuer {
    address: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_key() -> EcdsaKeyPair {
    let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let der = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("key");
    EcdsaKeyPair::from_pkcs8(kind, der.as_ref(), &random).expect("key")
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The answer to a request; `None`: none.
fn answer(state: &Mutex<State>, address: &str, request: &str) -> Option<Value> {
    let mut state = lock(state);
    if state.is_away {
        return None;
    }
    if request.starts_with("GET /.well-known/openid-configuration ") {
        return Some(json!({"issuer": address, "jwks_uri": format!("{address}/keys")}));
    }
    if !request.starts_with("GET /keys ") {
        return None;
    }
    state.requests += 1;
    // One byte that says that there is no compression, then both coordinates.
    let point: &[u8] = state.key.public_key().as_ref();
    let (x, y) = point[1..].split_at(32);
    Some(json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": format!("key-{}", state.number),
                          "x": encoded(x), "y": encoded(y)}]}))
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, address: String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    if let Some(value) = answer(&state, &address, &String::from_utf8_lossy(&head)) {
        let body = value.to_string();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

impl Issuer {
    /// What its tokens are for, where nothing else is said.
    pub const AUDIENCE: &str = "api://ferry";

    /// Starts one.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let state = State { number: 1, key: new_key(), is_away: false, requests: 0 };
        let state = Arc::new(Mutex::new(state));
        let (shared, own_address) = (state.clone(), address.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone(), own_address.clone()));
            }
        });
        Self { address, state, task }
    }

    /// Its address, as its tokens have it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A token that is good for five minutes, with some claims changed; null: without it.
    ///
    /// # Panics
    /// When it cannot be signed.
    pub fn token(&self, changes: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("time").as_secs();
        let mut claims =
            json!({"iss": self.address, "aud": Self::AUDIENCE, "sub": "somebody", "nbf": now, "exp": now + 300});
        for (name, value) in changes.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        if let Some(claims) = claims.as_object_mut() {
            claims.retain(|_, value| !value.is_null());
        }
        let state = lock(&self.state);
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": format!("key-{}", state.number)});
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = state.key.sign(&SystemRandom::new(), message.as_bytes()).expect("signature");
        format!("{message}.{}", encoded(signature))
    }

    /// A new key in place of the old one.
    pub fn rotate(&self) {
        let mut state = lock(&self.state);
        state.number += 1;
        state.key = new_key();
    }

    /// From now on it answers nobody, or does again.
    pub fn set_away(&self, is_away: bool) {
        lock(&self.state).is_away = is_away;
    }

    /// How often its keys were asked for.
    pub fn requests(&self) -> usize {
        lock(&self.state).requests
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
