//! A coordinator without ports: for tests that play both programs in one thread, in made-up time.

pub use crate::core::Sinks;

use crate::{
    config::Limits,
    core::Core,
    duties, report,
    rpc::node::NodeRpc,
    store::{RunRow, Store, StoreError, Write},
};
use ferry_common::{activity::Activity, clock::Clock, id::RunId, link};
use serde_json::Value;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// A coordinator that runs its duties and answers nodes, and has no other door.
pub struct Rehearsal {
    core: Arc<Core>,
    shutdown: CancellationToken,
    duties: JoinHandle<()>,
}

impl Rehearsal {
    /// Starts the duties. `is_unfenced` is sabotage: it proves that tests notice when leases are not held to.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        sinks: Arc<dyn Sinks>,
        limits: Limits,
        is_unfenced: bool,
    ) -> Self {
        let mut core = Core::new(store, clock, sinks, Arc::default(), limits);
        core.is_unfenced = is_unfenced;
        let core = Arc::new(core);
        let shutdown = CancellationToken::new();
        let duties = tokio::spawn(duties::start(core.clone(), shutdown.clone()));
        Self { core, shutdown, duties }
    }

    /// What answers nodes.
    pub fn node_service(&self) -> Routes {
        Routes::new(link::service(NodeRpc::new(self.core.clone(), None, self.shutdown.clone())))
    }

    /// Takes a run in.
    pub async fn submit(&self, id: RunId, activity: Activity) -> Result<(), StoreError> {
        let row = RunRow::new(id, activity, self.core.now());
        self.core.commit(vec![Write::InsertRun(Box::new(row))]).await?;
        self.core.ring();
        Ok(())
    }

    /// Asks a run to end. It may have ended, or be past that.
    pub async fn cancel(&self, id: &RunId) {
        let _ = self.core.cancel(id).await;
    }

    /// The report of a run.
    pub async fn report(&self, id: &RunId) -> Result<Option<Value>, StoreError> {
        match self.core.store.run(id).await? {
            Some(run) => report::run_report(&self.core, &run).await.map(Some),
            None => Ok(None),
        }
    }

    /// Ends wherever it is, in the middle of whatever it does: between two steps of it, not after them.
    pub async fn kill(self) {
        self.shutdown.cancel();
        self.duties.abort();
        let _ = self.duties.await;
    }
}
