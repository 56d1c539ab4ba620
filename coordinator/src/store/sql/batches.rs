//! Commits of SQLite, several at a time: each costs a write through to the disk, and those that wait for one share the next.
//!
//! Each is still all or nothing by itself, and is answered only when the disk has it.

use super::{
    super::{StoreError, Write},
    writes::{apply, commit_all},
};
use sqlx::{AnyConnection, AnyPool, Connection as _};
use tokio::sync::{mpsc, oneshot};

/// Commits that share one write to the disk.
const BATCH_MAX: usize = 200;
/// Commits that wait. More wait outside.
const QUEUE_MAX: usize = 1_000;

/// Writes to commit, and who waits for the outcome.
struct Commit {
    writes: Vec<Write>,
    outcome: oneshot::Sender<Result<(), StoreError>>,
}

/// Hands commits to the one task that writes.
pub(super) struct Batches(mpsc::Sender<Commit>);

impl Batches {
    /// Starts the task. It ends when this value and its last commit are gone.
    pub(super) fn start(pool: AnyPool) -> Self {
        let (sender, mut queue) = mpsc::channel::<Commit>(QUEUE_MAX);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
                write(&pool, std::mem::take(&mut batch)).await;
            }
        });
        Self(sender)
    }

    /// Applies all writes, or none. Given up by its caller, it may be applied all the same.
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let (outcome, answer) = oneshot::channel();
        let is_gone = |_| StoreError::Database(sqlx::Error::WorkerCrashed);
        self.0.send(Commit { writes, outcome }).await.map_err(|_| StoreError::Database(sqlx::Error::WorkerCrashed))?;
        answer.await.map_err(is_gone)?
    }
}

async fn write(pool: &AnyPool, batch: Vec<Commit>) {
    if batch.len() > 1 {
        let together = async {
            let mut connection = pool.acquire().await?;
            let outcomes = together(&mut connection, &batch).await;
            if outcomes.is_err() {
                connection.close_on_drop();
            }
            outcomes
        };
        match together.await {
            Ok(outcomes) => {
                for (commit, outcome) in batch.into_iter().zip(outcomes) {
                    let _ = commit.outcome.send(outcome);
                }
                return;
            }
            // Nothing of it is in the database, or all: one by one, what is there already says so.
            Err(error) => tracing::warn!("{} commits are tried one by one after: {error}", batch.len()),
        }
    }
    let mut failure: Option<String> = None;
    for commit in batch {
        let outcome = match &failure {
            None => alone(pool, &commit.writes).await,
            // A database that is locked or full keeps each of them waiting.
            Some(why) => Err(StoreError::Database(sqlx::Error::Protocol(format!("not tried after: {why}")))),
        };
        if let Err(StoreError::Database(error)) = &outcome {
            failure.get_or_insert_with(|| error.to_string());
        }
        let _ = commit.outcome.send(outcome);
    }
}

/// One transaction for all. `None`: one of them found what it did not expect, and none is applied.
async fn all_of(connection: &mut AnyConnection, batch: &[Commit]) -> Result<Option<()>, StoreError> {
    let mut transaction = connection.begin().await?;
    for write in batch.iter().flat_map(|commit| &commit.writes) {
        match apply(&mut transaction, write).await {
            Ok(()) => {}
            Err(StoreError::Database(error)) => return Err(error.into()),
            Err(_) => {
                transaction.rollback().await?;
                return Ok(None);
            }
        }
    }
    transaction.commit().await?;
    Ok(Some(()))
}

/// One transaction for all; those that find what they do not expect are left out of it.
async fn together(connection: &mut AnyConnection, batch: &[Commit]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    // Mostly nothing is left out, and leaving out costs two statements more for each.
    if all_of(connection, batch).await?.is_some() {
        return Ok(batch.iter().map(|_| Ok(())).collect());
    }
    let mut transaction = connection.begin().await?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for commit in batch {
        let mut part = (*transaction).begin().await?;
        let mut outcome = Ok(());
        for write in &commit.writes {
            outcome = apply(&mut part, write).await;
            if outcome.is_err() {
                break;
            }
        }
        match outcome {
            Ok(()) => part.commit().await?,
            Err(StoreError::Database(error)) => return Err(error.into()),
            Err(_) => part.rollback().await?,
        }
        outcomes.push(outcome);
    }
    transaction.commit().await?;
    Ok(outcomes)
}

/// Applies all writes, or none.
pub(super) async fn alone(pool: &AnyPool, writes: &[Write]) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    let outcome = commit_all(&mut connection, writes).await;
    if matches!(outcome, Err(StoreError::Database(_))) {
        // SQLite may have undone the whole transaction by itself, and the driver not know it: what it would send as a
        // transaction next would be a part of one that never ends. A new connection has no such past.
        connection.close_on_drop();
    }
    outcome
}
