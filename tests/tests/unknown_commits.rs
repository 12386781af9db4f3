//! The answer to a COMMIT is lost, and the process lives: what it stored as its own runs within the lease, as if it had been
//! handed over, and what is not there is forgotten.

use std::cell::Cell;
use std::sync::Once;
use std::time::Duration;

use consistency_core::error::StoreError;
use consistency_core::fault::{self, Point};
use consistency_core::state::State;
use consistency_diesel::error::TransactionError;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::stage::{Probe, Stage};
use diesel::result::QueryResult;

/// So long that nothing here can be due to its end.
const LEASE: Duration = Duration::from_secs(600);

thread_local! {
    /// Where on this thread the next answer is lost.
    static LOSES: Cell<Option<Point>> = const { Cell::new(None) };
}

static ARMED: Once = Once::new();

/// Loses the next answer at `point` on this thread.
fn lose_answer(point: Point) {
    ARMED.call_once(|| {
        fault::arm(|point| {
            if LOSES.get() != Some(point) {
                return Ok(());
            }
            LOSES.set(None);
            Err(StoreError::Transient("the answer was lost".into()))
        });
    });
    LOSES.set(Some(point));
}

#[consistency_task(max_attempts = 1)]
fn once(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task(max_attempts = 1)]
async fn once_async(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task(max_attempts = 1, run_on = caller)]
fn once_on_caller(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn calls() -> [Call; 3] {
    [once("blocking".to_owned()), once_async("async".to_owned()), once_on_caller("on the caller".to_owned())]
}

/// An outbox for these calls, and for `parent`.
fn stage<'d>(database: &'d Database, parent: Option<&str>) -> Stage<'d> {
    let served = [once::NAME, once_async::NAME, once_on_caller::NAME].into_iter().chain(parent);
    Stage::with(database, |builder| builder.lease(LEASE).heartbeat(LEASE / 3).only(served))
}

#[track_caller]
fn assert_unknown(ended: &QueryResult<()>) {
    let found = ended.as_ref().map_err(TransactionError::of);
    assert!(matches!(found, Err(Some(TransactionError::CommitUnknown(_)))), "{ended:?}");
}

#[track_caller]
fn assert_each_ran_once(stage: &Stage<'_>) {
    assert_eq!(stage.probe.seen_sorted(), ["async", "blocking", "on the caller"]);
    assert_eq!(stage.database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), 3);
    assert_eq!(stage.tasks(), 3);
}

for_each_database! {
    items {
        #[consistency_task(max_attempts = 3)]
        fn parent(#[tx] tx: &mut TaskTx<Conn>, #[inject] probe: &Probe) -> QueryResult<()> {
            probe.saw("parent");
            tx.enqueue(once("child".to_owned()))?;
            lose_answer(Point::AfterCompleteCommit);
            Ok(())
        }
    }

    fn what_an_unknown_commit_has_stored_runs_within_its_lease(database: &Database) {
        let stage = stage(database, None);
        let mut conn = database.connection::<Conn>();
        lose_answer(Point::AfterCommit);
        let ended: QueryResult<()> =
            stage.outbox.transaction(&mut conn, |tx| calls().into_iter().try_for_each(|call| tx.enqueue(call).map(drop)));
        assert_unknown(&ended);
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_each_ran_once(&stage);
    }

    /// Its row is found done, and what it has enqueued runs.
    fn what_the_unknown_commit_of_a_task_has_stored_runs_within_its_lease(database: &Database) {
        let stage = stage(database, Some(parent::NAME));
        stage.commit::<Conn>(parent());
        stage.probe.wait_for(2);
        stage.recorder.wait_for_count(1, State::Succeeded);
        stage.outbox.shutdown_blocking();
        assert_eq!(stage.probe.seen(), ["parent", "child"]);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), 2);
    }

    /// A node that stops puts back what it finds there, uncharged, and another one runs it.
    fn what_is_undecided_at_a_shutdown_is_put_back(database: &Database) {
        let stage = stage(database, None);
        let mut conn = database.connection::<Conn>();
        lose_answer(Point::AfterCommit);
        let ended: QueryResult<()> =
            stage.outbox.transaction(&mut conn, |tx| calls().into_iter().try_for_each(|call| tx.enqueue(call).map(drop)));
        stage.outbox.shutdown_blocking();
        assert_unknown(&ended);
        assert_eq!(database.count("consistency_task", "state = 1"), 0, "nothing waits for its lease");
        let recorder = Recorder::new();
        let other = database.outbox().only([once::NAME, once_async::NAME, once_on_caller::NAME]).inject(stage.probe.clone()).listener(recorder.listener());
        let other = other.start_blocking().unwrap();
        let ran = stage.recorder.count(State::Succeeded);
        recorder.wait_for_count(3 - ran, State::Succeeded);
        other.shutdown_blocking();
        assert_each_ran_once(&stage);
    }
}

#[cfg(feature = "async")]
mod in_futures {
    use consistency_diesel::async_transact::AsyncTransact;
    use consistency_tests::async_stage::on_one_thread;
    use consistency_tests::for_each_async_database;

    use super::*;

    for_each_async_database! {
        async fn what_an_unknown_commit_has_stored_runs_within_its_lease(database: &Database) {
            let stage = stage(database, None);
            // On one thread, so that the answer is lost on the thread that is told so.
            on_one_thread(|| async {
                let mut conn = database.async_connection::<Conn>().await;
                lose_answer(Point::AfterCommit);
                let ended: QueryResult<()> = AsyncTransact::transaction(&stage.outbox, &mut conn, async |tx| {
                    for call in calls() {
                        tx.enqueue(call).await?;
                    }
                    Ok(())
                }).await;
                assert_unknown(&ended);
            });
            stage.recorder.wait_for_count(3, State::Succeeded);
            assert_each_ran_once(&stage);
        }
    }
}
