//! What runs have left behind: blobs in staging and staging tables that no living run owns. It looks, and deletes nothing:
//! what is not of this store may be another coordinator's.

use crate::{
    access::Access,
    core::Core,
    store::{RunRow, StoreError},
};
use ferry_common::{
    activity::Staging,
    failure::{Failure, redact},
};
use ferry_kusto::{RequestId, commands};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

/// Runs whose places are looked at.
const RUNS_MAX: u32 = 1_000;
/// Blobs of one container that are looked at.
const BLOBS_MAX: usize = 100_000;
/// Time that a cluster gets for its list of tables.
const TABLES_TIMEOUT: Duration = Duration::from_secs(60);
/// How names of staging tables begin.
const STAGING_TABLES: &str = "ferry_";

/// Looks wherever the newest runs have staged.
pub(crate) async fn leaks(core: &Core) -> Result<Value, StoreError> {
    let mut runs: HashMap<String, RunRow> = HashMap::new();
    for run in core.store.recent_runs(RUNS_MAX).await?.into_iter().chain(core.store.live_runs().await?) {
        runs.insert(run.id.to_string(), run);
    }
    let mut blobs = Vec::new();
    let mut tables = Vec::new();
    let mut failures = Vec::new();
    let mut seen = HashSet::new();
    for run in runs.values() {
        let staging = &run.activity.staging;
        let place = place_of(staging);
        if seen.insert(place.clone()) {
            match blobs_in(core, staging, &runs).await {
                Ok(found) => blobs.extend(found.into_iter().map(|(owner, (count, bytes))| {
                    json!({"place": place, "run": owner, "isKnown": runs.contains_key(&owner), "blobs": count, "bytes": bytes})
                })),
                Err(failure) => failures.push(json!({"place": place, "message": failure.message})),
            }
        }
        let sink = &run.activity.sink;
        let place = format!("{} {}", sink.endpoint, sink.database);
        if seen.insert(place.clone()) {
            match tables_in(core, run, &runs).await {
                Ok(found) => tables.extend(found.into_iter().map(|table| json!({"place": place, "table": table}))),
                Err(message) => failures.push(json!({"place": place, "message": message})),
            }
        }
    }
    let is_clean = blobs.is_empty() && tables.is_empty() && failures.is_empty();
    Ok(json!({"isClean": is_clean, "blobs": blobs, "tables": tables, "failures": failures}))
}

fn place_of(staging: &Staging) -> String {
    staging.container.clone().or_else(|| staging.folder_path.clone()).unwrap_or_default()
}

/// Blobs without a living owner: how many and how large, by run.
async fn blobs_in(
    core: &Core,
    staging: &Staging,
    runs: &HashMap<String, RunRow>,
) -> Result<BTreeMap<String, (u64, u64)>, Failure> {
    let storage = Access::open(staging, &core.identities, core.now()).await?.storage(core.now())?;
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for blob in storage.list("", BLOBS_MAX).await? {
        let Some(owner) = owner_of(&blob.name) else { continue };
        // Until it was swept, somebody sees to it.
        if runs.get(owner).is_some_and(|run| !run.state.is_final() || run.sweep_at.is_some()) {
            continue;
        }
        let sums = found.entry(owner.to_owned()).or_default();
        sums.0 += 1;
        sums.1 += blob.bytes;
    }
    Ok(found)
}

/// The run in a name such as `{run}/{unit}/{attempt}/{chunk}.csv.gz`; `None` for what is named in another way.
fn owner_of(blob: &str) -> Option<&str> {
    let parts: Vec<&str> = blob.split('/').collect();
    let [run, unit, attempt, chunk] = parts.as_slice() else { return None };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let chunk = chunk.split('.').next().unwrap_or_default();
    (is_number(unit) && is_number(attempt) && is_number(chunk)).then_some(run)
}

async fn tables_in(core: &Core, of: &RunRow, runs: &HashMap<String, RunRow>) -> Result<Vec<String>, String> {
    let sink = &of.activity.sink;
    let client = core.sinks.open(&of.activity, TABLES_TIMEOUT).map_err(|failure| failure.message)?;
    let reply = client.command(&sink.database, &commands::show_tables(), &RequestId::generate("leaks")).await;
    let table = reply.map_err(|error| redact(&error.to_string()))?.table;
    let owned: HashSet<String> = runs
        .values()
        .filter(|run| !run.state.is_final() || run.sweep_at.is_some())
        .map(RunRow::staging_table)
        .collect();
    let names = table.rows.iter().map(|row| table.text(row, "TableName").to_owned());
    Ok(names.filter(|name| name.starts_with(STAGING_TABLES) && !owned.contains(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blobs_that_are_named_as_chunks_have_an_owner() {
        for (name, owner) in [
            ("run-1/4/2/0.csv.gz", Some("run-1")),
            ("run-1/4/2/0.parquet", Some("run-1")),
            ("quarantine/run-1/4-2-0.csv", None),
            ("other/a/b/0.csv", None),
            ("readme", None),
        ] {
            assert_eq!(owner_of(name), owner, "{name}");
        }
    }
}
