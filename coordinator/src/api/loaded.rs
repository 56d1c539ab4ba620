//! The ledger of loaded files, for programs: what is to be loaded again.

use super::{Problem, bad_request, runs::given};
use crate::{core::Core, loaded, store::Write};
use axum::{
    Json,
    extract::{Query, State},
};
use ferry_common::pattern::PathPattern;
use serde::{Deserialize, Serialize};
use std::{path::Path, sync::Arc};
use utoipa::ToSchema;

/// Files that one look takes up.
const FILES_AT_ONCE: u32 = 1_000;

/// Which files are to be loaded again.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ForgetQuery {
    /// The cluster, as `sink.endpoint` names it.
    endpoint: String,
    /// The database.
    database: String,
    /// The table.
    table: String,
    /// Pattern of absolute paths, such as `/exports/2026-11/**`; without a `/` it is matched against file names. Default: all files.
    path: Option<String>,
}

/// What was forgotten.
#[derive(Serialize, ToSchema)]
pub(super) struct ForgottenView {
    /// So many files.
    files: u64,
}

/// Forgets that files were loaded into a table: the next run with `source.skipLoadedFiles` loads them again. Rows stay.
#[utoipa::path(
    delete,
    path = "/api/v1/loaded",
    tag = "runs",
    params(ForgetQuery),
    responses((status = 200, body = ForgottenView, description = "How many files were forgotten"))
)]
pub(super) async fn forget(
    State(core): State<Arc<Core>>,
    Query(query): Query<ForgetQuery>,
) -> Result<Json<ForgottenView>, Problem> {
    for (name, text) in [("endpoint", &query.endpoint), ("database", &query.database), ("table", &query.table)] {
        if text.trim().is_empty() {
            return Err(bad_request(format!("{name} is empty")));
        }
    }
    let pattern = given(&query.path).map(PathPattern::new).transpose();
    let pattern = pattern.map_err(|why| bad_request(format!("path {why}")))?;
    let sink = loaded::sink_of(&query.endpoint, &query.database, &query.table);
    let (mut files, mut after) = (0, String::new());
    loop {
        let page = core.store.loaded_page(&sink, &after, FILES_AT_ONCE).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.key);
        let is_meant = |path: &str| pattern.as_ref().is_none_or(|pattern| pattern.matches(Path::new(path)));
        let keys: Vec<String> = page.iter().filter(|file| is_meant(&file.path)).map(|file| file.key.clone()).collect();
        if !keys.is_empty() {
            files += keys.len() as u64;
            core.commit(vec![Write::ForgetLoaded { sink: sink.clone(), keys }]).await?;
        }
    }
    tracing::info!(database = query.database, table = query.table, files, "loaded files are forgotten");
    Ok(Json(ForgottenView { files }))
}
