//! The way to each host: proxy, connection, TLS, clock; and how much the way to staging takes.

use super::{Finding, HostArgs};
use crate::{
    api::NamedCoordinatorArg,
    output::{CliError, bytes},
};
use ferry_common::{
    activity::SecretRef,
    address::leads_here,
    failure::with_causes,
    storage::{AzureBlobStorage, BlobWriter, Connections, StagingStorage as _, StorageError},
    trust::Proxies,
    unit::Integrity,
};
use reqwest::{Certificate, Url, header, tls::TlsInfo};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Time for one try.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for measuring the way to staging.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// What is sent for that: as a node sends it, in blocks of this size.
const BLOCKS: u32 = 4;
const BLOCK_BYTES: usize = 4 << 20;
/// Slower than a core can compress.
const UPLOAD_SPEED_MIN: f64 = 5e6;
/// Signatures of others begin to hold that much before they are made.
const CLOCKS_APART_MAX: f64 = 300.0;
/// An answer that takes longer comes from far away.
const LATENCY_MAX: Duration = Duration::from_millis(150);
/// Where sign-ins go, unless the environment names another place.
const ENTRA: &str = "https://login.microsoftonline.com";

/// What was found.
#[derive(Default)]
pub(super) struct Network {
    pub(super) findings: Vec<Finding>,
    /// `None`: not measured.
    pub(super) upload_bytes_per_second: Option<f64>,
}

/// A host, and what it is to ferry.
struct Host {
    what: &'static str,
    url: Url,
    /// Authorities to believe, instead of the machine's.
    authorities: Option<Vec<Certificate>>,
}

fn address(flag: &str, text: &str) -> Result<Url, CliError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| CliError::Usage(format!("{flag} must be an address that begins with https://")))
}

fn hosts(args: &HostArgs, coordinator: &NamedCoordinatorArg) -> Result<Vec<Host>, CliError> {
    let mut hosts = Vec::new();
    if let Some(named) = coordinator.named() {
        let url = address("--coordinator", &named.coordinator)?;
        hosts.push(Host { what: "coordinator", url, authorities: named.authorities()? });
    }
    for (what, flag, text) in [("cluster", "--endpoint", &args.endpoint), ("staging", "--staging", &args.staging)] {
        if let Some(text) = text {
            let mut url = address(flag, text)?;
            // Whatever stands behind the question mark is nobody's business here.
            url.set_query(None);
            hosts.push(Host { what, url, authorities: None });
        }
    }
    if hosts.iter().any(|host| host.what != "coordinator" && !leads_here(&host.url)) {
        let authority = std::env::var("AZURE_AUTHORITY_HOST").unwrap_or_else(|_| ENTRA.to_owned());
        hosts.push(Host { what: "Entra ID", url: address("AZURE_AUTHORITY_HOST", &authority)?, authorities: None });
    }
    Ok(hosts)
}

/// Tries each host that is named. Fails when one is named in a way that cannot be.
pub(super) async fn look(args: &HostArgs, coordinator: &NamedCoordinatorArg) -> Result<Network, CliError> {
    let proxies = Proxies::from_env();
    let mut network = Network { findings: vec![settings()], ..Network::default() };
    for host in hosts(args, coordinator)? {
        network.findings.extend(look_at(&host, &proxies).await);
    }
    if let (Some(container), Some(secret)) = (&args.staging, &args.staging_sas) {
        match upload(container, secret).await {
            Ok(rate) => {
                network.upload_bytes_per_second = Some(rate);
                network.findings.push(judged_upload(rate));
            }
            Err(CliError::Usage(why)) => return Err(CliError::Usage(why)),
            Err(e) => network.findings.push(Finding::bad(
                "upload to staging",
                e.to_string(),
                "the signature needs c, w and d, must not have ended, and be for this container",
            )),
        }
    }
    Ok(network)
}

/// Which variables name proxies; never what stands in them, since that may be a password.
fn settings() -> Finding {
    let names = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"];
    let is_set =
        |name: &&str| [name.to_string(), name.to_lowercase()].iter().any(|name| std::env::var_os(name).is_some());
    let set: Vec<&str> = names.into_iter().filter(is_set).collect();
    let told = if set.is_empty() { "none: every host is reached directly".to_owned() } else { set.join(", ") };
    Finding::ok("proxy settings", told)
}

fn client(host: &Host, believes_anybody: bool) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TRY_TIMEOUT)
        .tls_info(true)
        .tls_danger_accept_invalid_certs(believes_anybody);
    if leads_here(&host.url) {
        builder = builder.no_proxy();
    }
    if let Some(authorities) = &host.authorities
        && !believes_anybody
    {
        builder = builder.tls_certs_only(authorities.clone());
    }
    builder.build()
}

/// What one try found.
struct Tried {
    status: u16,
    /// Connection, TLS and answer.
    first: Duration,
    /// An answer alone, on the connection that was there.
    again: Duration,
    issuer: Option<String>,
    /// Seconds that its clock is ahead.
    ahead: Option<f64>,
}

async fn attempt(host: &Host) -> Result<Tried, reqwest::Error> {
    let http = client(host, false)?;
    let began = Instant::now();
    let response = http.get(host.url.clone()).send().await?;
    let (status, issuer, date) = (response.status().as_u16(), issuer_of(&response), date_of(&response));
    let _ = response.bytes().await;
    let first = began.elapsed();
    let began = Instant::now();
    let _ = http.get(host.url.clone()).send().await?;
    let ahead = date
        .map(|date| date - (jiff::Timestamp::now().as_millisecond() as f64 / 1000.0 - began.elapsed().as_secs_f64()));
    Ok(Tried { status, first, again: began.elapsed(), issuer, ahead })
}

/// Seconds since 1970 by the host's clock: the middle of the second that it tells.
fn date_of(response: &reqwest::Response) -> Option<f64> {
    let text = response.headers().get(header::DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(date.as_second() as f64 + 0.5)
}

/// Whose certificate the host has shown: a proxy that opens TLS shows its own.
fn issuer_of(response: &reqwest::Response) -> Option<String> {
    let certificate = response.extensions().get::<TlsInfo>()?.peer_certificate()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.issuer().to_string())
}

/// The same of a host that is not believed. Nothing but the question goes there, and the answer is not looked at.
async fn issuer_of_stranger(host: &Host) -> Option<String> {
    issuer_of(&client(host, true).ok()?.get(host.url.clone()).send().await.ok()?)
}

async fn look_at(host: &Host, proxies: &Proxies) -> Vec<Finding> {
    let name = format!("way to {}", host.what);
    let place = host.url.host_str().unwrap_or_default();
    let proxy = if leads_here(&host.url) { None } else { proxies.of(host.url.as_str()) };
    let way = proxy.as_ref().map_or_else(|| format!("{place}, directly"), |proxy| format!("{place} through {proxy}"));
    match attempt(host).await {
        Ok(tried) if tried.status == 407 => {
            let remedy = "user and password of the proxy: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT";
            vec![Finding::bad(name, format!("{way}: the proxy wants a password"), remedy)]
        }
        Ok(tried) => judged(host, name, way, &tried),
        Err(error) => {
            let why = with_causes(&error.without_url());
            if why.contains("certificate") || why.contains("UnknownIssuer") {
                let issuer = issuer_of_stranger(host).await;
                let issuer = issuer.map(|issuer| format!("; it is by {issuer}")).unwrap_or_default();
                let remedy = "if that is your authority or a proxy that opens TLS: put it into SSL_CERT_FILE, or --ca for a \
                              coordinator";
                return vec![Finding::bad(
                    name,
                    format!("{way}: its certificate is not believed ({why}){issuer}"),
                    remedy,
                )];
            }
            let remedy = if proxy.is_some() {
                "does the proxy answer, may it connect there, are user and password right? NO_PROXY names what is inside"
            } else {
                "name, address and port right, firewall open? Behind a proxy set HTTPS_PROXY"
            };
            vec![Finding::bad(name, format!("{way}: {why}"), remedy)]
        }
    }
}

fn judged(host: &Host, name: String, way: String, tried: &Tried) -> Vec<Finding> {
    let issuer = tried.issuer.as_ref().map(|issuer| format!(", certificate by {issuer}")).unwrap_or_default();
    let times = format!("{} ms to connect, {} ms an answer", tried.first.as_millis(), tried.again.as_millis());
    let detail = format!("{way}: HTTP {}, {times}{issuer}", tried.status);
    let reached = if tried.again > LATENCY_MAX && host.what != "Entra ID" {
        Finding::weak(name, detail, "far away: nodes, staging and cluster belong into one region")
    } else {
        Finding::ok(name, detail)
    };
    let mut findings = vec![reached];
    if let Some(ahead) = tried.ahead {
        findings.push(clock(host.what, ahead));
    }
    findings
}

fn clock(what: &str, ahead: f64) -> Finding {
    let name = format!("clock of {what}");
    if ahead.abs() > CLOCKS_APART_MAX {
        let detail = format!("{ahead:+.0} s against this host's");
        return Finding::bad(name, detail, "keep time by NTP: sign-ins, certificates and signatures depend on it");
    }
    Finding::ok(name, if ahead.abs() < 2.0 { "agrees with this host's".to_owned() } else { format!("{ahead:+.0} s") })
}

fn judged_upload(rate: f64) -> Finding {
    let detail = format!("{}/s, {BLOCKS} blocks at once", bytes(rate as u64));
    if rate < UPLOAD_SPEED_MIN {
        return Finding::weak(
            "upload to staging",
            detail,
            "the line holds copies up; settings.compressionLevel: 6 sends less",
        );
    }
    Finding::ok("upload to staging", detail)
}

/// Writes a blob as a node would, deletes it, and gives bytes a second.
async fn upload(container: &str, secret: &str) -> Result<f64, CliError> {
    let url = address("--staging", container)?;
    if url.scheme() != "https" && !leads_here(&url) {
        return Err(CliError::Usage("--staging: a signature is sent over https:// only".to_owned()));
    }
    let sas = SecretRef { secret: secret.to_owned() }.resolve()?;
    let integrity =
        if url.host_str().is_some_and(|host| host.contains(".blob.core.")) { Integrity::Crc64 } else { Integrity::Md5 };
    let signed = format!("{}?{}", container.trim_end_matches('/'), sas.expose().trim_start_matches('?'));
    let failed = |e: StorageError| CliError::Failed(e.to_string());
    let storage = AzureBlobStorage::new(&signed, integrity, &Connections::default()).map_err(failed)?;
    let name = format!("ferry-doctor-{}/probe", uuid::Uuid::new_v4().simple());
    let written = tokio::time::timeout(UPLOAD_TIMEOUT, write(&storage, &name)).await;
    let deleted = storage.delete(&name).await;
    let late = |_| CliError::Failed(format!("16 MB took longer than {UPLOAD_TIMEOUT:?}"));
    let time = written.map_err(late)?.map_err(failed)?;
    deleted.map_err(|e| CliError::Failed(format!("blob {name} could not be deleted again: {e}")))?;
    Ok((BLOCK_BYTES as f64 * f64::from(BLOCKS)) / time.as_secs_f64().max(1e-9))
}

async fn write(storage: &AzureBlobStorage, name: &str) -> Result<Duration, StorageError> {
    let writer: Arc<dyn BlobWriter> = storage.create(name).await?.into();
    let began = Instant::now();
    let mut sending = JoinSet::new();
    for index in 0..BLOCKS {
        let writer = writer.clone();
        let block: Vec<u8> = (0..BLOCK_BYTES).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let offset = u64::from(index) * BLOCK_BYTES as u64;
        sending.spawn(async move { writer.stage_block(index, offset, block.into()).await });
    }
    while let Some(sent) = sending.join_next().await {
        sent.map_err(|e| StorageError::Failed { place: name.to_owned(), why: e.to_string() })??;
    }
    writer.commit(BLOCKS).await?;
    Ok(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn host() -> Host {
        Host { what: "cluster", url: Url::parse("http://127.0.0.1:1/").unwrap(), authorities: None }
    }

    #[test]
    fn a_way_is_judged_by_its_delay_and_the_clock_at_its_end() {
        let tried = |again_ms, ahead| Tried {
            status: 401,
            first: Duration::from_millis(90),
            again: Duration::from_millis(again_ms),
            issuer: Some("CN=Some authority".to_owned()),
            ahead,
        };
        for (case, tried, verdicts) in [
            ("near", tried(30, Some(0.4)), vec![Verdict::Ok, Verdict::Ok]),
            ("far", tried(300, None), vec![Verdict::Weak]),
            ("another time", tried(30, Some(-4000.0)), vec![Verdict::Ok, Verdict::Bad]),
        ] {
            let found = judged(&host(), "way".to_owned(), "x, directly".to_owned(), &tried);
            assert_eq!(found.iter().map(|f| f.verdict).collect::<Vec<_>>(), verdicts, "{case}");
            assert!(found[0].detail.contains("certificate by CN=Some authority"), "{case}");
        }
    }

    #[tokio::test]
    async fn a_host_that_is_not_there_is_bad_and_says_how_it_was_tried() {
        ferry_common::install_tls_provider();
        let found = look_at(&host(), &Proxies::from_env()).await;
        assert!(found[0].verdict == Verdict::Bad && found[0].detail.contains("127.0.0.1, directly"), "{found:?}");
    }

    #[tokio::test]
    async fn a_signature_goes_nowhere_in_clear() {
        let refused = upload("http://storage.example/staging", "env:NOWHERE").await;
        assert!(matches!(refused, Err(CliError::Usage(_))));
    }
}
