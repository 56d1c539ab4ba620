//! The way to each host: which proxy, and whether its clock agrees with the coordinator's.

use super::{Answer, Area, Check, http_client, without_address};
use crate::core::Core;
use ferry_common::{
    activity::{Activity, AuthType},
    clock::Millis,
    trust::Proxies,
};
use reqwest::{Url, header};
use std::time::Duration;

/// Signatures begin to hold a while before they are made, so that clocks this far apart do no harm.
const APART_MAX: Duration = Duration::from_secs(5 * 60);
/// Where sign-ins go, unless the environment names another place.
const ENTRA: &str = "https://login.microsoftonline.com";

/// Checks the hosts that an activity names.
pub(super) async fn look(core: &Core, activity: &Activity) -> Vec<Check> {
    let cluster = Url::parse(&activity.sink.endpoint).ok();
    let staging = activity.staging.container.as_deref().and_then(|container| Url::parse(container).ok());
    let is_known = |url: &Url| url.host_str().is_some_and(ferry_kusto::auth::is_trusted);
    let cluster = cluster.filter(is_known);
    let mut checks = Vec::new();
    let clocks = [(Area::Cluster, &cluster, "the cluster"), (Area::Staging, &staging, "staging")];
    for (area, url, whose) in clocks {
        if let Some(url) = url {
            checks.push(clock(core, area, whose, url.clone()).await);
        }
    }
    let proxies = Proxies::from_env();
    let of_staging = activity.staging.auth.as_ref().map(|auth| auth.kind);
    let is_entra = |kind: AuthType| !matches!(kind, AuthType::None | AuthType::Bearer);
    let signs_in = is_entra(activity.sink.auth.kind) || of_staging.is_some_and(is_entra);
    let entra = signs_in.then(entra).flatten();
    for url in [cluster, staging, entra].into_iter().flatten() {
        checks.push(proxy(&proxies, &url));
    }
    checks
}

fn entra() -> Option<Url> {
    let named = std::env::var("AZURE_AUTHORITY_HOST").ok().and_then(|host| Url::parse(&host).ok());
    named.or_else(|| Url::parse(ENTRA).ok())
}

fn proxy(proxies: &Proxies, url: &Url) -> Check {
    let host = url.host_str().unwrap_or_default();
    let row = Check::new(Area::Proxy, format!("way to {host}"), "reaching it").optional();
    let row = row.probed("HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY of the coordinator");
    let way = proxies.of(url.as_str()).map_or_else(|| "directly".to_owned(), |proxy| format!("through {proxy}"));
    row.found(Answer::Yes, way)
}

async fn clock(core: &Core, area: Area, whose: &str, url: Url) -> Check {
    let row = Check::new(area, format!("clock of {whose}"), "signatures, and the search for lost answers").optional();
    let row = row.probed("the Date of an answer");
    match ask(core, url).await {
        Err(why) => row.found(Answer::Unknown, why),
        Ok(apart_ms) => {
            let is_near = apart_ms.unsigned_abs() <= APART_MAX.as_millis() as u64;
            let answer = if is_near { Answer::Yes } else { Answer::No };
            row.found(answer, told(apart_ms)).else_do("keep time by NTP, on the coordinator first")
        }
    }
}

fn told(apart_ms: i64) -> String {
    let seconds = (apart_ms as f64 / 1000.0).round().abs();
    match apart_ms {
        -1_500..=1_500 => "it agrees with the coordinator's, to a second".to_owned(),
        1_501.. => format!("{seconds} s ahead of the coordinator's"),
        _ => format!("{seconds} s behind the coordinator's"),
    }
}

/// How far the host's clock is ahead, in milliseconds. It tells whole seconds.
async fn ask(core: &Core, mut url: Url) -> Result<i64, String> {
    url.set_query(None);
    let http = http_client()?;
    let sent = core.now();
    let response = http.get(url).send().await.map_err(without_address)?;
    let date = response.headers().get(header::DATE).and_then(|value| value.to_str().ok());
    apart(date.ok_or("its answer has no Date")?, sent, core.now())
}

fn apart(date: &str, sent: Millis, received: Millis) -> Result<i64, String> {
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date);
    let date = date.map_err(|e| format!("the Date of its answer cannot be read: {e}"))?;
    // A whole second stands for any moment in it.
    Ok(date.as_millisecond() + 500 - i64::midpoint(sent.0, received.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_clocks_are_apart_is_told_from_the_middle_of_the_call() {
        let sent = Millis(784_111_777_000);
        for (date, took_ms, apart_ms) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 1_000, 0),
            ("Sun, 06 Nov 1994 08:49:47 GMT", 1_000, 10_000),
            ("Sun, 06 Nov 1994 08:39:37 GMT", 3_000, -601_000),
        ] {
            assert_eq!(apart(date, sent, Millis(sent.0 + took_ms)), Ok(apart_ms), "{date}");
        }
        assert!(apart("yesterday", sent, sent).is_err());
    }

    #[test]
    fn a_clock_is_told_in_words() {
        assert_eq!(told(400), "it agrees with the coordinator's, to a second");
        assert_eq!(told(90_100), "90 s ahead of the coordinator's");
        assert_eq!(told(-7_200_000), "7200 s behind the coordinator's");
    }
}
