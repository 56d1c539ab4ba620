//! A block-blob service that keeps names and sizes, and throws the bytes away: a sink for speed tests.
//!
//! Standard library only: `rustc -O --edition 2024 -o receiver main.rs`. One thread a connection. It knows what AzCopy,
//! rclone and Microsoft's SDKs ask of Azure Blob Storage when they upload; any signature is good, every container
//! exists. Addresses are `/devstoreaccount1/CONTAINER/BLOB` or `/CONTAINER/BLOB`.
//!
//! `receiver --listen 127.0.0.1:PORT`; `GET /stats` tells `{"blobs", "bytes", "received", "requests"}`, `DELETE /stats`
//! forgets everything. A blob cannot be read back: 404.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// What a connection reads at once: a head, and what follows it.
const BUFFER_BYTES: usize = 64 << 10;
/// Bytes that one call throws away.
const DISCARD_BYTES: usize = 16 << 20;
/// Longest list of blocks that is read.
const BLOCK_LIST_BYTES_MAX: u64 = 16 << 20;
/// Entries on one page of a listing.
const LIST_PAGE: usize = 5_000;
/// tcp(7): the bytes are dropped in the kernel and not copied.
const MSG_TRUNC: i32 = 0x20;

unsafe extern "C" {
    fn recv(socket: i32, buffer: *mut u8, length: usize, flags: i32) -> isize;
}

/// A blob that was committed.
struct Blob {
    bytes: u64,
    etag: u64,
    modified: String,
    md5: Option<String>,
}

#[derive(Default)]
struct State {
    /// By `CONTAINER/BLOB`.
    blobs: BTreeMap<String, Blob>,
    /// Sizes of blocks that wait for their list, by blob and id.
    blocks: HashMap<String, HashMap<String, u64>>,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);
static REQUESTS: AtomicU64 = AtomicU64::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);
static ETAGS: AtomicU64 = AtomicU64::new(0x8DD_0000_0000_0001);

fn with_state<T>(act: impl FnOnce(&mut State) -> T) -> T {
    act(&mut STATE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A request without its body.
struct Head {
    method: String,
    path: String,
    query: HashMap<String, String>,
    /// Names in lower case.
    headers: HashMap<String, String>,
}

impl Head {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?);
        // A proxy's form has the host in it.
        let target = target.strip_prefix("http://").map_or(target, |t| t.find('/').map_or("/", |at| &t[at..]));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")));
        let headers = lines.filter_map(|l| l.split_once(':'));
        Some(Self {
            method,
            path: decoded(path),
            query: pairs.map(|(k, v)| (decoded(k), decoded(v))).collect(),
            headers: headers.map(|(k, v)| (k.to_ascii_lowercase(), v.trim().to_owned())).collect(),
        })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Container, and blob below it.
    fn place(&self) -> (&str, &str) {
        let path = self.path.trim_start_matches('/');
        let path = path.strip_prefix("devstoreaccount1").map_or(path, |rest| rest.trim_start_matches('/'));
        path.split_once('/').unwrap_or((path, ""))
    }
}

/// Undoes per cent encoding.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = code.and_then(|c| u8::from_str_radix(c, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Text as XML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The time now, as HTTP writes it.
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let names = ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    format!(
        "{}, {day:02} {} {:04} {:02}:{:02}:{:02} GMT",
        weekdays[(days % 7) as usize],
        names[month as usize],
        year + era * 400 + u64::from(month >= 10),
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// What goes back.
struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// Length to tell where there is no body: of a blob that HEAD asks for.
    length: Option<u64>,
}

impl Answer {
    fn of(status: &'static str) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), length: None }
    }

    fn error(status: &'static str, code: &'static str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
        );
        Self { body, ..Self::of(status) }.with("x-ms-error-code", code).with("Content-Type", "application/xml")
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn with_blob(self, blob: &Blob) -> Self {
        let answer = self.with("ETag", format!("\"{:#X}\"", blob.etag)).with("Last-Modified", blob.modified.clone());
        match &blob.md5 {
            Some(md5) => answer.with("Content-MD5", md5.clone()),
            None => answer,
        }
    }
}

/// One client.
struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read and not yet used.
    from: usize,
    to: usize,
}

impl Connection {
    /// Reads more into the buffer. `false`: the client has gone.
    fn fill(&mut self) -> io::Result<bool> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.to == self.buffer.len() {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            if self.to == self.buffer.len() {
                return Err(io::Error::other("a head is too long"));
            }
        }
        let count = self.socket.read(&mut self.buffer[self.to..])?;
        self.to += count;
        Ok(count > 0)
    }

    /// The next request, up to its empty line.
    fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let unread = &self.buffer[self.from..self.to];
            if let Some(end) = unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = Head::parse(&String::from_utf8_lossy(&unread[..end]));
                self.from += end + 4;
                return head.map(Some).ok_or_else(|| io::Error::other("not a request"));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            let unread = &self.buffer[self.from..self.to];
            if let Some(end) = unread.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&unread[..end]).into_owned();
                self.from += end + 2;
                return Ok(line);
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes `bytes` of a body: into `kept`, or away.
    fn take(&mut self, mut bytes: u64, kept: Option<&mut Vec<u8>>) -> io::Result<()> {
        let buffered = bytes.min((self.to - self.from) as u64);
        let part = &self.buffer[self.from..self.from + buffered as usize];
        self.from += buffered as usize;
        bytes -= buffered;
        if let Some(kept) = kept {
            kept.extend_from_slice(part);
            let count = (&self.socket).take(bytes).read_to_end(kept)?;
            return if count as u64 == bytes { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        while bytes > 0 {
            let length = bytes.min(DISCARD_BYTES as u64) as usize;
            // SAFETY: with MSG_TRUNC a TCP socket writes nothing to the buffer (tcp(7)), which may be null.
            let count = unsafe { recv(self.socket.as_raw_fd(), std::ptr::null_mut(), length, MSG_TRUNC) };
            match count {
                1.. => bytes -= count as u64,
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                _ => match io::Error::last_os_error() {
                    e if e.kind() == ErrorKind::Interrupted => {}
                    e => return Err(e),
                },
            }
        }
        Ok(())
    }

    /// Reads the body of a request to its end. Returns its length, and its bytes where they matter.
    fn body(&mut self, head: &Head) -> io::Result<(u64, Vec<u8>)> {
        if head.header("expect").eq_ignore_ascii_case("100-continue") {
            self.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (mut kept, mut total) = (Vec::new(), 0);
        let keeps = head.query("comp") == "blocklist";
        let is_chunked = head.header("transfer-encoding").eq_ignore_ascii_case("chunked");
        loop {
            let bytes = if is_chunked {
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or_default().trim();
                u64::from_str_radix(size, 16).map_err(|_| io::Error::other("not a chunk"))?
            } else {
                head.header("content-length").parse().unwrap_or(0)
            };
            total += bytes;
            if keeps && total > BLOCK_LIST_BYTES_MAX {
                return Err(io::Error::other("a block list is too long"));
            }
            self.take(bytes, keeps.then_some(&mut kept))?;
            if !is_chunked {
                break;
            }
            if bytes == 0 {
                while !self.line()?.is_empty() {}
                break;
            }
            self.line()?;
        }
        RECEIVED.fetch_add(total, Relaxed);
        Ok((total, kept))
    }

    fn send(&mut self, head: &Head, answer: Answer) -> io::Result<()> {
        let number = REQUESTS.fetch_add(1, Relaxed);
        let version = match head.header("x-ms-version") {
            "" => "2023-11-03",
            version => version,
        };
        let mut text = format!(
            "HTTP/1.1 {}\r\nServer: receiver\r\nx-ms-request-id: 00000000-0000-0000-0000-{number:012x}\r\n\
             x-ms-version: {version}\r\nDate: {}\r\n",
            answer.status,
            now()
        );
        if let Some(id) = head.headers.get("x-ms-client-request-id") {
            text += &format!("x-ms-client-request-id: {id}\r\n");
        }
        for (name, value) in &answer.headers {
            text += &format!("{name}: {value}\r\n");
        }
        let length = answer.length.unwrap_or(answer.body.len() as u64);
        text += &format!("Content-Length: {length}\r\n\r\n");
        if head.method != "HEAD" {
            text += &answer.body;
        }
        self.socket.write_all(text.as_bytes())
    }

    fn serve(&mut self) -> io::Result<()> {
        while let Some(head) = self.head()? {
            let (bytes, body) = self.body(&head)?;
            self.send(&head, answer(&head, bytes, &body))?;
            if head.header("connection").eq_ignore_ascii_case("close") {
                break;
            }
        }
        Ok(())
    }
}

/// The ids in a block list, in order.
fn ids(list: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(list);
    let mut found = Vec::new();
    for part in text.split('<') {
        if let Some((name, id)) = part.split_once('>')
            && matches!(name, "Latest" | "Uncommitted" | "Committed")
        {
            found.push(id.trim().to_owned());
        }
    }
    found
}

fn answer(head: &Head, bytes: u64, body: &[u8]) -> Answer {
    let (container, name) = head.place();
    let comp = head.query("comp");
    match (head.method.as_str(), head.path.as_str()) {
        ("GET", "/stats") => return stats(),
        ("DELETE", "/stats") => {
            with_state(|s| *s = State::default());
            return Answer::of("200 OK");
        }
        _ => {}
    }
    if comp == "list" && !container.is_empty() {
        return list(head, container);
    }
    if name.is_empty() {
        return of_container(head, container);
    }
    let key = format!("{container}/{name}");
    match (head.method.as_str(), comp) {
        ("PUT", "block") => {
            let id = head.query("blockid").to_owned();
            with_state(|s| s.blocks.entry(key).or_default().insert(id, bytes));
            checksums(head, created())
        }
        ("PUT", "blocklist") => commit(head, key, Some(&ids(body)), bytes),
        ("PUT", "") if head.header("x-ms-copy-source").is_empty() => commit(head, key, None, bytes),
        ("PUT", "metadata" | "properties" | "tier" | "tags") => Answer::of("200 OK"),
        ("HEAD", _) | ("GET", "metadata" | "tags") => properties(&key),
        ("GET", _) => Answer::error("404 The specified blob does not exist.", "BlobNotFound"),
        ("DELETE", _) if with_state(|s| s.blobs.remove(&key)).is_some() => Answer::of("202 Accepted"),
        ("DELETE", _) => Answer::error("404 The specified blob does not exist.", "BlobNotFound"),
        _ => Answer::error("501 Not Implemented", "NotImplemented"),
    }
}

fn stats() -> Answer {
    let (blobs, bytes) = with_state(|s| (s.blobs.len(), s.blobs.values().map(|b| b.bytes).sum::<u64>()));
    let (received, requests) = (RECEIVED.load(Relaxed), REQUESTS.load(Relaxed));
    let body =
        format!("{{\"blobs\": {blobs}, \"bytes\": {bytes}, \"received\": {received}, \"requests\": {requests}}}\n");
    Answer { body, ..Answer::of("200 OK") }.with("Content-Type", "application/json")
}

fn created() -> Answer {
    Answer::of("201 Created").with("x-ms-request-server-encrypted", "true")
}

/// Sends a request's checksums back, as the service does.
fn checksums(head: &Head, mut answer: Answer) -> Answer {
    for (given, name) in [("content-md5", "Content-MD5"), ("x-ms-content-crc64", "x-ms-content-crc64")] {
        if let Some(value) = head.headers.get(given) {
            answer = answer.with(name, value.clone());
        }
    }
    answer
}

/// Makes a blob: of the blocks `ids`, or of the one body.
fn commit(head: &Head, key: String, ids: Option<&[String]>, bytes: u64) -> Answer {
    let md5 = head.headers.get("x-ms-blob-content-md5").or(head.headers.get("content-md5")).cloned();
    let blob = Blob { bytes, etag: ETAGS.fetch_add(1, Relaxed), modified: now(), md5 };
    let made = with_state(|s| {
        if head.header("if-none-match") == "*" && s.blobs.contains_key(&key) {
            return Err(Answer::error("409 The specified blob already exists.", "BlobAlreadyExists"));
        }
        let mut blob = blob;
        if let Some(ids) = ids {
            let blocks = s.blocks.get(&key);
            let sizes = ids.iter().map(|id| blocks.and_then(|b| b.get(id)).copied());
            blob.bytes = sizes
                .sum::<Option<u64>>()
                .ok_or_else(|| Answer::error("400 The specified block list is invalid.", "InvalidBlockList"))?;
        }
        s.blocks.remove(&key);
        let answer = Answer { headers: created().headers, ..Answer::of("201 Created") };
        let answer = checksums(head, answer.with_blob(&Blob { md5: None, modified: blob.modified.clone(), ..blob }));
        s.blobs.insert(key, blob);
        Ok(answer)
    });
    made.unwrap_or_else(|refused| refused)
}

fn properties(key: &str) -> Answer {
    with_state(|s| match s.blobs.get(key) {
        None => Answer::error("404 The specified blob does not exist.", "BlobNotFound"),
        Some(blob) => Answer { length: Some(blob.bytes), ..Answer::of("200 OK") }
            .with_blob(blob)
            .with("Content-Type", "application/octet-stream")
            .with("Accept-Ranges", "bytes")
            .with("x-ms-blob-type", "BlockBlob")
            .with("x-ms-lease-status", "unlocked")
            .with("x-ms-lease-state", "available")
            .with("x-ms-server-encrypted", "true")
            .with("x-ms-access-tier", "Hot"),
    })
}

/// Requests about a container, or about the account.
fn of_container(head: &Head, container: &str) -> Answer {
    let tagged = |answer: Answer| answer.with("ETag", "\"0x8DD000000000000\"").with("Last-Modified", now());
    match head.method.as_str() {
        "PUT" if !container.is_empty() => tagged(Answer::of("201 Created")),
        "DELETE" => {
            let prefix = format!("{container}/");
            with_state(|s| s.blobs.retain(|key, _| !key.starts_with(&prefix)));
            Answer::of("202 Accepted")
        }
        "GET" | "HEAD" => tagged(Answer::of("200 OK"))
            .with("x-ms-lease-status", "unlocked")
            .with("x-ms-lease-state", "available")
            .with("x-ms-sku-name", "Standard_LRS")
            .with("x-ms-account-kind", "StorageV2")
            .with("x-ms-is-hns-enabled", "false"),
        _ => Answer::error("501 Not Implemented", "NotImplemented"),
    }
}

fn list(head: &Head, container: &str) -> Answer {
    let (prefix, delimiter) = (head.query("prefix"), head.query("delimiter"));
    let (marker, page) = (head.query("marker"), head.query("maxresults").parse().unwrap_or(LIST_PAGE).min(LIST_PAGE));
    let root = format!("{container}/");
    let (mut entries, mut next, mut count) = (String::new(), String::new(), 0);
    let mut folder = String::new();
    with_state(|s| {
        for (key, blob) in s.blobs.range(format!("{root}{}", marker.max(prefix))..) {
            let Some(name) = key.strip_prefix(&root).filter(|n| n.starts_with(prefix)) else { break };
            let below = (!delimiter.is_empty()).then(|| name[prefix.len()..].find(delimiter)).flatten();
            if let Some(at) = below {
                let this = &name[..prefix.len() + at + delimiter.len()];
                if this == folder {
                    continue;
                }
                folder = this.to_owned();
            }
            if count == page {
                next = name.to_owned();
                break;
            }
            count += 1;
            entries += &match below {
                Some(_) => format!("<BlobPrefix><Name>{}</Name></BlobPrefix>", escaped(&folder)),
                None => format!(
                    "<Blob><Name>{}</Name><Properties><Creation-Time>{2}</Creation-Time>\
                     <Last-Modified>{2}</Last-Modified><Etag>{3:#X}</Etag><Content-Length>{1}</Content-Length>\
                     <Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType>\
                     <AccessTier>Hot</AccessTier><LeaseStatus>unlocked</LeaseStatus>\
                     <LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties></Blob>",
                    escaped(name),
                    blob.bytes,
                    blob.modified,
                    blob.etag
                ),
            };
        }
    });
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://{}/\" \
         ContainerName=\"{}\"><Prefix>{}</Prefix><Blobs>{entries}</Blobs><NextMarker>{}</NextMarker>\
         </EnumerationResults>",
        escaped(head.header("host")),
        escaped(container),
        escaped(prefix),
        escaped(&next)
    );
    Answer { body, ..Answer::of("200 OK") }.with("Content-Type", "application/xml")
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, flag, address] = arguments.as_slice() else {
        return Err(io::Error::other("usage: receiver --listen 127.0.0.1:PORT"));
    };
    if flag != "--listen" {
        return Err(io::Error::other(format!("unknown flag {flag}")));
    }
    let listener = TcpListener::bind(address)?;
    for socket in listener.incoming() {
        let Ok(socket) = socket else { continue };
        // A thread that ends for a bad client takes nothing with it.
        let _ = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            let _ = socket.set_nodelay(true);
            let _ = Connection { socket, buffer: vec![0; BUFFER_BYTES], from: 0, to: 0 }.serve();
        });
    }
    Ok(())
}
