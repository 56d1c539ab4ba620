//! Secrets that must be nowhere. The harness plants those it hands out; whatever it starts is searched for all of them when it ends: what
//! programs wrote, what coordinators answer, and what stores hold. So every scenario fails that shows one.

use memchr::memmem;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A shorter one would be found by chance.
const SECRET_BYTES_MIN: usize = 8;
/// Runs of a coordinator that are looked at, the newest first.
const RUNS_MAX: usize = 30;
/// A coordinator that was stopped says nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What begins a secret wherever it stands, and how many of a secret's characters must follow. `sig=` that is followed by less is an
/// example, or was blackened.
const BEGINNINGS: &[(&str, &str, usize)] = &[
    ("the signature of an address", "sig=", 20),
    ("the signature of an address", "sig%3D", 20),
    ("an account's key", "AccountKey=", 20),
    ("a bearer token", "Bearer ", 20),
    // {"alg": as a token's head says it, with a blank behind the colon and without.
    ("a bearer token", "eyJhbGciOi", 20),
    ("a private key", "-----BEGIN PRIVATE KEY-----", 0),
    ("a private key", "-----BEGIN EC PRIVATE KEY-----", 0),
];

/// All that were planted by this process, with what each is. Tests run side by side; a secret of one is none of another's business either.
static PLANTED: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());

fn planted() -> MutexGuard<'static, BTreeSet<(String, String)>> {
    PLANTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on this is a secret, as it is and as it stands in an address.
///
/// # Panics
/// When it is too short to be told from other text.
pub(crate) fn plant(what: &str, secret: &str) {
    assert!(secret.len() >= SECRET_BYTES_MIN, "{what} is too short");
    let mut all = planted();
    all.insert((secret.to_owned(), what.to_owned()));
    let encoded: String = secret
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    all.insert((encoded, what.to_owned()));
}

/// The secret part of a token such as `fapi_ID_SECRET`.
pub(crate) fn plant_token(text: &str) {
    if let Some(secret) = text.trim().split('_').nth(2) {
        plant("the secret of a token", secret);
    }
}

/// A place, and what is there.
pub type Place = (String, Vec<u8>);

/// What is in these places that must be nowhere. The secret itself is not shown again.
pub fn leaks(places: &[Place]) -> Vec<String> {
    let planted = planted().clone();
    let mut found = BTreeSet::new();
    for (place, bytes) in places {
        for (secret, what) in &planted {
            if let Some(at) = memmem::find(bytes, secret.as_bytes()) {
                found.insert(format!("{place} holds {what}, after {:?}", before(bytes, at)));
            }
        }
        for (what, beginning, least) in BEGINNINGS {
            for at in memmem::find_iter(bytes, beginning.as_bytes()) {
                let rest = &bytes[at + beginning.len()..];
                if rest.iter().take_while(|byte| is_of_secret(**byte)).take(*least).count() == *least {
                    found.insert(format!("{place} holds {what}, after {:?}", before(bytes, at)));
                }
            }
        }
    }
    found.into_iter().collect()
}

/// A character of base64 in its kinds, of digits, or of either as it stands in an address.
fn is_of_secret(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=%-_.".contains(&byte)
}

/// What stands before a find, to see where it comes from.
fn before(bytes: &[u8], at: usize) -> String {
    String::from_utf8_lossy(&bytes[at.saturating_sub(60)..at]).into_owned()
}

/// Fails the test if there is a leak; not while it fails already.
///
/// # Panics
/// When there is one.
pub(crate) fn assert_none(places: &[Place]) {
    if !std::thread::panicking() {
        let leaks = leaks(places);
        assert!(leaks.is_empty(), "secrets where none may be: {leaks:#?}");
    }
}

/// Files by their paths, as far as they are there.
pub(crate) fn files(paths: impl IntoIterator<Item = PathBuf>) -> Vec<Place> {
    let read = |path: PathBuf| fs::read(&path).ok().map(|bytes| (path.display().to_string(), bytes));
    paths.into_iter().filter_map(read).collect()
}

/// The files of a SQLite store, by its address `sqlite:PATH`; none of another store.
pub(crate) fn files_of_store(store: &str) -> Vec<Place> {
    let Some(path) = store.strip_prefix("sqlite:") else { return Vec::new() };
    files(["", "-wal"].map(|end| PathBuf::from(format!("{path}{end}"))))
}

/// How to ask a coordinator.
pub(crate) struct Asker {
    /// Such as `https://127.0.0.1:7480`.
    pub(crate) address: String,
    /// Who is believed, with TLS.
    pub(crate) authority: Option<Vec<u8>>,
    /// An administrator's token.
    pub(crate) token: Option<String>,
}

impl Asker {
    /// With the admin token and an authority from files, where they are there.
    pub(crate) fn secured(port: u16, authority: &Path, token: &Path) -> Self {
        let token = fs::read_to_string(token).ok().map(|text| text.trim().to_owned());
        Self { address: format!("https://127.0.0.1:{port}"), authority: fs::read(authority).ok(), token }
    }

    /// All that a coordinator tells of runs, nodes and tokens. Nothing when it is not there.
    ///
    /// It blocks, so that it can be asked while a test's values are dropped.
    pub(crate) fn answers(self) -> Vec<Place> {
        let ask = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(self.ask())
        };
        std::thread::spawn(ask).join().ok().flatten().unwrap_or_default()
    }

    async fn ask(self) -> Option<Vec<Place>> {
        let mut builder = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT);
        if let Some(authority) = &self.authority {
            builder = builder.tls_certs_only([reqwest::Certificate::from_pem(authority).ok()?]);
        }
        let http = builder.build().ok()?;
        let get = async |path: String| {
            let mut request = http.get(format!("{}{path}", self.address));
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.ok()?;
            Some((path, answer.bytes().await.ok()?.to_vec()))
        };
        let runs = get("/api/v1/runs".to_owned()).await?;
        let listed: serde_json::Value = serde_json::from_slice(&runs.1).unwrap_or_default();
        let listed = listed.as_array().or_else(|| listed["runs"].as_array()).cloned().unwrap_or_default();
        let ids = listed.iter().filter_map(|run| run["runId"].as_str()).take(RUNS_MAX);
        let of_run = |id: &str| ["", "/report", "/ledger"].map(|end| format!("/api/v1/runs/{id}{end}"));
        let paths = ids.flat_map(of_run).collect::<Vec<_>>().into_iter();
        let mut all = vec![runs];
        for path in paths.chain(["/api/v1/nodes", "/api/v1/leaks", "/api/v1/tokens", "/metrics"].map(str::to_owned)) {
            all.extend(get(path).await);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Vec<Place> {
        vec![("a place".to_owned(), text.as_bytes().to_vec())]
    }

    #[test]
    fn a_leak_is_found_and_not_shown_again() {
        plant("the password of a test", "pass+word/of=a-test");
        plant_token("fapi_0badc0ffee_00112233445566778899aabbccddeeff\n");
        let signature = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4%3D";
        for (case, text, what) in [
            ("as it is", "user:pass+word/of=a-test@host", "the password of a test"),
            ("in an address", "pass%2Bword%2Fof%3Da-test", "the password of a test"),
            ("a token", "Authorization: fapi_x_00112233445566778899aabbccddeeff", "the secret of a token"),
            ("a signature", &format!("https://a/b?sp=r&sig={signature}&se=1"), "the signature of an address"),
            ("a signature in an address", &format!("u=https%3A%2F%2Fa%3Fsig%3D{signature}"), "the signature of an"),
            ("a connection string", "AccountName=a;AccountKey=Zm9vYmFyYmF6cXV4Zm9v==;", "an account's key"),
            ("a header", "authorization: Bearer abcdefghijklmnopqrstuvwxyz", "a bearer token"),
            ("a token of Entra ID", "eyJhbGciOiAibm9uZSIsICJ0eXAiOiAiSldUIn0.eyJh.x", "a bearer token"),
            ("a key", "-----BEGIN PRIVATE KEY-----\nMC4C", "a private key"),
        ] {
            let found = leaks(&place(text));
            assert!(found.iter().any(|leak| leak.contains(what)), "{case}: {found:?}");
            let shown = found.concat();
            for secret in [signature, "of=a-test", "of%3Da-test", "00112233", "Zm9v==", "klmnop"] {
                assert!(!shown.contains(secret), "{case}: {shown}");
            }
        }
    }

    #[test]
    fn what_is_no_secret_is_no_leak() {
        let text = "https://a/b?sv=1&sig=REDACTED ?sig=... AccountKey=*** Bearer token\nfapi_0badc0ffee -----BEGIN CERTIFICATE-----";
        assert_eq!(leaks(&place(text)), Vec::<String>::new());
    }

    #[test]
    #[should_panic(expected = "secrets where none may be")]
    fn a_leak_fails_a_scenario() {
        assert_none(&place("sig=0123456789abcdefghijABCDEFGHIJ"));
    }

    #[test]
    fn a_program_that_shows_a_secret_fails_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new("echo");
        command.arg("sig=0123456789abcdefghijABCDEFGHIJ");
        let mut program = crate::Program::start(command, folder.path().join("log"));
        program.wait();
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(program)));
        assert!(dropped.is_err());
    }

    #[test]
    fn a_store_and_its_log_are_searched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ferry.db");
        fs::write(&path, "nothing").unwrap();
        fs::write(folder.path().join("ferry.db-wal"), "sig=0123456789abcdefghijABCDEFGHIJ").unwrap();
        let found = leaks(&files_of_store(&format!("sqlite:{}", path.display())));
        assert!(found.len() == 1 && found[0].contains("ferry.db-wal"), "{found:?}");
    }
}
