//! What runs have left behind: blobs in staging and staging tables that no living run owns. It looks, and deletes nothing:
//! what is not of this store may be another coordinator's.

use crate::{
    core::Core,
    store::{LENT_FOLDER_PREFIX, RunRow, StoreError},
};
use ferry_common::{
    activity::StagingType,
    failure::{Code, Failure, redact},
};
use ferry_kusto::{RequestId, commands};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};
use utoipa::ToSchema;

/// Runs whose places are looked at.
const RUNS_MAX: u32 = 1_000;
/// Blobs of one container that are looked at.
const BLOBS_MAX: usize = 100_000;
/// Time that a cluster gets for its list of tables.
const TABLES_TIMEOUT: Duration = Duration::from_secs(60);
/// How names of staging tables begin.
const STAGING_TABLES: &str = "ferry_";

/// What runs have left behind.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeaksView {
    /// Nothing was found, and everything could be looked at.
    is_clean: bool,
    blobs: Vec<LeakedBlobs>,
    tables: Vec<LeakedTable>,
    failures: Vec<NotLookedAt>,
    /// What the cluster lends, and nobody else may look at.
    warnings: Vec<NotLookedAt>,
}

/// Blobs of one run that nobody will ingest.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LeakedBlobs {
    /// Container or folder.
    place: String,
    run: String,
    /// The run is one of this store.
    is_known: bool,
    blobs: u64,
    bytes: u64,
}

/// A staging table that no living run owns.
#[derive(Serialize, ToSchema)]
struct LeakedTable {
    /// Cluster and database.
    place: String,
    table: String,
}

/// A place that could not be looked at.
#[derive(Serialize, ToSchema)]
struct NotLookedAt {
    place: String,
    message: String,
}

/// Looks wherever the newest runs have staged.
pub(crate) async fn leaks(core: &Core) -> Result<LeaksView, StoreError> {
    let mut runs: HashMap<String, RunRow> = HashMap::new();
    for run in core.store.recent_runs(RUNS_MAX).await?.into_iter().chain(core.store.live_runs().await?) {
        runs.insert(run.id.to_string(), run);
    }
    let mut blobs = Vec::new();
    let mut tables = Vec::new();
    let (mut failures, mut warnings) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for run in runs.values().filter(|run| !run.is_dry) {
        if let Some(place) = place_of(run)
            && seen.insert(place.clone())
        {
            let is_lent = run.activity.staging.kind == StagingType::FromCluster;
            match blobs_in(core, run, &runs).await {
                Ok(found) => blobs.extend(found.into_iter().map(|(owner, (count, bytes))| {
                    let is_known = runs.contains_key(&owner);
                    LeakedBlobs { place: place.clone(), run: owner, is_known, blobs: count, bytes }
                })),
                // Nobody but the cluster may look there, or it is not lent any more.
                Err(failure) if is_lent && matches!(failure.code, Code::StagingForbidden | Code::StagingMissing) => {
                    warnings.push(NotLookedAt { place, message: failure.message });
                }
                Err(failure) => failures.push(NotLookedAt { place, message: failure.message }),
            }
        }
        let sink = &run.activity.sink;
        let place = format!("{} {}", sink.endpoint, sink.database);
        if seen.insert(place.clone()) {
            match tables_in(core, run, &runs).await {
                Ok(found) => tables.extend(found.into_iter().map(|table| LeakedTable { place: place.clone(), table })),
                Err(message) => failures.push(NotLookedAt { place, message }),
            }
        }
    }
    let is_clean = blobs.is_empty() && tables.is_empty() && failures.is_empty();
    Ok(LeaksView { is_clean, blobs, tables, failures, warnings })
}

/// Where the run has staged; `None` if it had no place yet.
fn place_of(run: &RunRow) -> Option<String> {
    let staging = &run.activity.staging;
    match staging.kind {
        StagingType::AzureBlob => staging.container.clone(),
        StagingType::FileSystem => staging.folder_path.clone(),
        StagingType::FromCluster => run.lent_container.clone(),
    }
}

/// Blobs without a living owner where a run has staged: how many and how large, by run.
async fn blobs_in(
    core: &Core,
    of: &RunRow,
    runs: &HashMap<String, RunRow>,
) -> Result<BTreeMap<String, (u64, u64)>, Failure> {
    let is_lent = of.activity.staging.kind == StagingType::FromCluster;
    let storage = core.access(of).await?.whole_storage(core.now(), &core.connections)?;
    let prefix = if is_lent { LENT_FOLDER_PREFIX } else { "" };
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for blob in storage.list(prefix, BLOBS_MAX).await? {
        let owner = if is_lent { lent_owner_of(&blob.name, runs) } else { owner_of(&blob.name) };
        let Some(owner) = owner else { continue };
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

/// The same in a container that the cluster lends, to everybody: of runs that are known here and were to sweep it.
fn lent_owner_of<'a>(blob: &'a str, runs: &HashMap<String, RunRow>) -> Option<&'a str> {
    let (folder, name) = blob.split_once('/')?;
    let owner = owner_of(name)?;
    let is_own = |run: &RunRow| run.lent_folder() == folder && !run.is_left_to_cluster;
    runs.get(owner).is_some_and(is_own).then_some(owner)
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
    fn in_a_lent_container_only_runs_that_are_known_are_looked_for() {
        let run = crate::store::conformance::new_run("run-1", 0);
        let left = RunRow { is_left_to_cluster: true, ..crate::store::conformance::new_run("run-2", 0) };
        let blob = |run: &RunRow| format!("{}/{}/4/2/0.csv.gz", run.lent_folder(), run.id);
        let runs: HashMap<String, RunRow> =
            [&run, &left].into_iter().map(|run| (run.id.to_string(), run.clone())).collect();
        for (name, owner) in [
            (blob(&run), Some("run-1")),
            (blob(&left), None),
            // Another's run of the same id.
            ("ferry-0/run-1/4/2/0.csv.gz".to_owned(), None),
            (format!("{}/run-3/4/2/0.csv.gz", run.lent_folder()), None),
            ("database__table__id__file.csv.gz".to_owned(), None),
        ] {
            assert_eq!(lent_owner_of(&name, &runs), owner, "{name}");
        }
    }

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
