//! Attempts inside a transaction: the row is completed with the body's commit, or not at all.

use std::sync::{Arc, LazyLock};

use consistency_core::dispatch::EnqueueOnly;
use consistency_core::enqueue::EnqueueRules;
use consistency_core::error::TaskError;
use consistency_core::state::State;
use consistency_core::store::{ClaimedTask, Settled, TransactionOutcome};

use consistency_core::task::{NeededType, tx_body};
use tokio::runtime::{Builder, Runtime};

use super::steps::{SHORT, claim_one, claim_one_for, failure, insert, rescue_one, row, settle, status};
use crate::store_under_test::StoreUnderTest;

/// Where asynchronous connections live.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// Runs a body; `None` when the store runs none, as it must say then.
fn run(on: &dyn StoreUnderTest, task: &ClaimedTask, answer: Result<(), &str>) -> Option<(TransactionOutcome, usize)> {
    let rules = EnqueueRules { max_argument_bytes: 1000, served: None, queues: None };
    let mut runs = 0;
    let connections = on.store().connections();
    let connection = connections.first().copied().unwrap_or_else(NeededType::of::<()>);
    let mut body = tx_body(|_| {
        runs += 1;
        Box::pin(std::future::ready(answer.map_err(TaskError::message)))
    });
    let outcome = RUNTIME.block_on(on.store().run_in_transaction(
        connection,
        task.lease,
        task.charge_when_run(),
        &EnqueueOnly::new(Arc::new(rules), None),
        &mut body,
    ));
    if connections.is_empty() {
        assert!(matches!(outcome, TransactionOutcome::NotStarted(_)), "{outcome:?}");
        assert_eq!(runs, 0);
        return None;
    }
    Some((outcome, runs))
}

/// The body's commit is the row's success.
pub fn a_body_that_succeeds_completes_its_row(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    assert_eq!(settle(on, failure(&claim_one(on), std::time::Duration::ZERO)), Settled::Written);
    let task = claim_one(on);
    let Some((outcome, runs)) = run(on, &task, Ok(())) else { return };
    assert!(matches!(outcome, TransactionOutcome::Committed), "{outcome:?}");
    let done = status(on, "one");
    assert_eq!((runs, done.state, done.execute_times), (1, State::Succeeded, 2));
    assert_eq!((done.error_message, done.lease_owner), (None, None));
    // A time limit that strikes at the same moment finds the row done.
    assert_eq!(settle(on, failure(&task, SHORT)), Settled::Lost);
}

/// After a failure the row is still held: its settlement follows.
pub fn a_body_that_fails_leaves_its_row_to_be_settled(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let task = claim_one(on);
    let Some((outcome, runs)) = run(on, &task, Err("no stock")) else { return };
    assert!(matches!(&outcome, TransactionOutcome::Failed(error) if error.text() == "no stock"), "{outcome:?}");
    assert_eq!((runs, status(on, "one").state, status(on, "one").execute_times), (1, State::Running, 1));
    assert_eq!(settle(on, failure(&task, SHORT)), Settled::Written);
    assert_eq!(status(on, "one").execute_times, 1);
}

/// A zombie's body may run, but nothing of it is committed.
pub fn a_body_that_lost_its_lease_completes_nothing(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let zombie = claim_one_for(on, SHORT);
    rescue_one(on);
    let before = status(on, "one");
    let Some((outcome, _)) = run(on, &zombie, Ok(())) else { return };
    assert!(matches!(outcome, TransactionOutcome::LeaseLost), "{outcome:?}");
    assert_eq!(status(on, "one"), before);
    let successor = claim_one(on);
    let Some((outcome, _)) = run(on, &zombie, Ok(())) else { return };
    assert!(matches!(outcome, TransactionOutcome::LeaseLost), "{outcome:?}");
    let Some((outcome, _)) = run(on, &successor, Ok(())) else { return };
    assert!(matches!(outcome, TransactionOutcome::Committed), "{outcome:?}");
}
