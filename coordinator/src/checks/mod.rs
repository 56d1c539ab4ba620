//! Every connection and permission that a copy needs, each looked at by a probe that changes nothing: yes, no or unknown.
//!
//! Nothing here stops a copy, and what cannot be known is told as unknown: a role may come through a group that nobody shows.

mod around;
mod cluster;
mod network;
mod roles;
mod staging;

use crate::{access::Access, core::Core, ingest};
use ferry_common::{
    activity::Activity,
    failure::{Failure, redact, with_causes},
};
use ferry_kusto::{Engine, KustoError};
use serde::Serialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Time for one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time that the cluster gets for one: less, so that its own words arrive.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(15);

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Yes,
    No,
    Unknown,
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Area {
    Cluster,
    Staging,
    Source,
    Runtime,
    Store,
    Proxy,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    name: String,
    area: Area,
    /// What it is needed for.
    needs: &'static str,
    /// The role that gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    is_mandatory: bool,
    result: Answer,
    /// How it was found out.
    probe: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    /// A mandatory check that nothing is known of yet.
    fn new(area: Area, name: impl Into<String>, needs: &'static str) -> Self {
        Self {
            name: name.into(),
            area,
            needs,
            role: None,
            is_mandatory: true,
            result: Answer::Unknown,
            probe: String::new(),
            detail: String::new(),
            remedy: None,
        }
    }

    fn optional(self) -> Self {
        Self { is_mandatory: false, ..self }
    }

    fn by(self, role: &'static str) -> Self {
        Self { role: Some(role), ..self }
    }

    fn probed(self, probe: impl Into<String>) -> Self {
        Self { probe: probe.into(), ..self }
    }

    fn found(self, result: Answer, detail: impl Into<String>) -> Self {
        Self { result, detail: detail.into(), ..self }
    }

    /// What to do about it, unless all is well.
    fn else_do(self, remedy: impl Into<String>) -> Self {
        let remedy = (self.result != Answer::Yes).then(|| remedy.into());
        Self { remedy, ..self }
    }
}

/// What the checks come to.
fn verdict(checks: &[Check]) -> &'static str {
    let fails = |check: &&Check| check.result == Answer::No;
    match checks.iter().filter(fails).map(|check| check.is_mandatory).max() {
        Some(true) => "failed",
        Some(false) => "degraded",
        None => "ok",
    }
}

/// Runs a probe of the cluster; one that takes too long counts as unanswered.
async fn in_time<T>(client: &dyn Engine, probe: impl Future<Output = Result<T, KustoError>>) -> Result<T, KustoError> {
    let late = |_| KustoError::Lost {
        endpoint: client.endpoint().to_owned(),
        why: format!("nothing came within {PROBE_TIMEOUT:?}"),
    };
    tokio::time::timeout(PROBE_TIMEOUT, probe).await.map_err(late)?
}

/// A client that asks other hosts: it follows no redirect, and takes no longer than a probe may.
fn http_client() -> Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PROBE_TIMEOUT);
    builder.build().map_err(without_address)
}

/// Why a host gave no answer. The address may hold a signature.
fn without_address(error: reqwest::Error) -> String {
    with_causes(&error.without_url())
}

/// An error of the cluster in safe words.
fn words(error: &KustoError) -> String {
    redact(&ingest::judged(error).message)
}

/// The staging's access, and the cluster's client: what several checks share.
struct Opened {
    client: Result<Arc<dyn Engine>, Failure>,
    access: Result<Access, Failure>,
}

/// Runs all checks. `tries`: what no probe can tell is tried with things that are removed again.
pub(crate) async fn run(core: &Core, activity: &Activity, tries: bool) -> Value {
    let access = tokio::time::timeout(PROBE_TIMEOUT, core.access_before_run(activity)).await;
    let opened = Opened {
        client: core.sinks.open(activity, CLUSTER_TIMEOUT),
        access: access.unwrap_or_else(|_| Err(Failure::internal("the sign-in to staging takes too long"))),
    };
    let (cluster, staging, network, around) = tokio::join!(
        Box::pin(cluster::look(core, activity, &opened, tries)),
        Box::pin(staging::look(core, activity, &opened)),
        Box::pin(network::look(core, activity)),
        Box::pin(around::look(core, activity)),
    );
    let checks: Vec<Check> = [cluster, staging, around, network].into_iter().flatten().collect();
    json!({"verdict": verdict(&checks), "checks": checks})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mandatory_no_fails() {
        let check =
            |is_mandatory, result| Check { is_mandatory, ..Check::new(Area::Cluster, "x", "y").found(result, "") };
        for (checks, expected) in [
            (vec![check(true, Answer::Yes), check(true, Answer::Unknown), check(false, Answer::Unknown)], "ok"),
            (vec![check(true, Answer::Yes), check(false, Answer::No)], "degraded"),
            (vec![check(true, Answer::No), check(false, Answer::No)], "failed"),
        ] {
            assert_eq!(verdict(&checks), expected, "{checks:?}");
        }
    }

    #[test]
    fn a_remedy_is_for_what_is_not_well() {
        let check = |result| Check::new(Area::Store, "x", "y").found(result, "").else_do("z").remedy;
        assert_eq!(check(Answer::Yes), None);
        assert_eq!(check(Answer::No).as_deref(), Some("z"));
    }
}
