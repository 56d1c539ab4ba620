//! What attempts write their blobs with: some signatures with the lease, more as they go on.

use crate::{
    access::AttemptBlobs,
    core::Core,
    reports::wants_attempts,
    store::{RunRow, StoreError, UnitRow},
};
use ferry_common::{
    failure::Failure,
    id::{AttemptNumber, UnitNumber},
    staging,
    unit::{AttemptKey, BlobAsk, BlobSignatures, SignedBlobs, StagingTarget},
};
use futures::future::try_join_all;

/// The blobs of an attempt at a unit of the run.
fn blobs_of(run: &RunRow, unit: UnitNumber, attempt: AttemptNumber) -> Result<AttemptBlobs<'_>, Failure> {
    let plan = run.plan.as_ref().ok_or_else(|| Failure::internal("the run has no plan yet"))?;
    let settings = &run.activity.settings;
    let format = plan.copy.staged_format(run.activity.source.format.kind);
    Ok(AttemptBlobs {
        run: &run.id,
        unit,
        attempt,
        extension: staging::extension(format, settings.compression),
        has_quarantine: settings.enable_skip_incompatible_row,
    })
}

impl Core {
    /// Where an attempt stages that goes on at `first_chunk`. `by_blob`: its node takes signatures for single blobs.
    pub(crate) async fn staging_of(
        &self,
        run: &RunRow,
        unit: UnitNumber,
        attempt: AttemptNumber,
        first_chunk: u32,
        by_blob: bool,
    ) -> Result<StagingTarget, Failure> {
        let access = self.access(run).await?;
        match by_blob {
            true => access.for_attempt(blobs_of(run, unit, attempt)?, first_chunk, self.now()),
            false => access.for_older_node(self.now()),
        }
    }

    /// Signatures that attempts ask for. What is signed follows from the lease: `leased` is what the node has leases of. Who
    /// gets none asks again.
    pub(crate) async fn sign_blobs(
        &self,
        leased: &[UnitRow],
        asks: &[(AttemptKey, BlobAsk)],
    ) -> Result<Vec<SignedBlobs>, StoreError> {
        // At once: what opens staging may be slow, and the node's leases wait for this answer.
        let signed = try_join_all(asks.iter().map(|(key, ask)| self.sign_one(leased, key, *ask))).await?;
        Ok(signed.into_iter().flatten().collect())
    }

    async fn sign_one(
        &self,
        leased: &[UnitRow],
        key: &AttemptKey,
        ask: BlobAsk,
    ) -> Result<Option<SignedBlobs>, StoreError> {
        let held = leased.iter().find_map(|unit| {
            let lease = unit.state.lease().filter(|lease| lease.token == key.token)?;
            Some((unit, lease))
        });
        let Some((unit, lease)) = held else { return Ok(None) };
        let Some(run) = self.store.run(&unit.run).await?.filter(wants_attempts) else { return Ok(None) };
        Ok(match self.sign_some(&run, unit.number, lease.attempt, ask).await {
            Ok(signatures) => signatures.map(|signatures| SignedBlobs { key: key.clone(), signatures }),
            Err(failure) => {
                tracing::warn!(run = %run.id, code = %failure.code, "blobs are not signed now: {}", failure.message);
                None
            }
        })
    }

    async fn sign_some(
        &self,
        run: &RunRow,
        unit: UnitNumber,
        attempt: AttemptNumber,
        ask: BlobAsk,
    ) -> Result<Option<BlobSignatures>, Failure> {
        self.access(run).await?.sign(blobs_of(run, unit, attempt)?, ask, self.now())
    }
}
