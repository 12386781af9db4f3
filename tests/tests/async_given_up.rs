//! What is given up while somebody waits for it: a row whose Tokio runtime ends between two bodies, and a body that hangs on the
//! caller's behalf.

#![cfg(feature = "async")]

use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_tests::async_stage::{Signals, on_a_plain_thread};
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::{DEADLINE, Latch, Recorder, wait_until};
use consistency_tests::stage::Stage;
use diesel::result::QueryResult;

#[consistency_task]
async fn quick(#[inject] signals: &Signals) {
    signals.begun.raise();
}

/// Keeps its slot until the test lets it go.
#[consistency_task]
async fn patient(#[inject] signals: &Signals) {
    signals.begun.raise();
    signals.go.wait_for(1).await;
}

/// Blocks its thread long beyond its limit, until the test lets it go.
#[consistency_task(run_on = caller, timeout = "500ms", retry_every = "1h")]
fn hangs(#[inject] signals: &Signals, #[inject] go: &Latch) {
    signals.begun.raise();
    go.wait_for(1);
    signals.dropped.raise();
}

const HOUR: Duration = Duration::from_secs(3600);
/// Enough for a short mean run time, whatever the first ones took.
const WARMING_UP: usize = 40;
/// More than run before the other futures of the thread have their turn.
const ROWS: usize = 36;

fn released(recorder: &Recorder) -> Vec<i64> {
    let id = |event| if let Event::Released { id, .. } = event { Some(id) } else { None };
    recorder.events().into_iter().filter_map(id).collect()
}

for_each_async_database! {
    async fn every_row_goes_back_once_when_the_tokio_runtime_ends_between_two_bodies(database: &Database) {
        on_a_plain_thread(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (stage, signals) = runtime.block_on(async {
                let signals = Signals::default();
                let stage = Stage::with(database, |builder| {
                    builder.inject(signals.clone()).inject(Latch::new()).concurrency(1).poll_interval(HOUR)
                });
                for done in 1..=WARMING_UP {
                    stage.commit_async::<Conn>(quick()).await;
                    signals.begun.wait_for(done).await;
                }
                stage.commit_async::<Conn>(patient()).await;
                signals.begun.wait_for(WARMING_UP + 1).await;
                let mut conn = database.async_connection::<Conn>().await;
                let stored = stage.outbox.transaction(&mut conn, async |tx| {
                    for _ in 0..ROWS {
                        tx.enqueue(quick()).await?;
                    }
                    QueryResult::Ok(())
                });
                stored.await.unwrap();
                let held = i64::try_from(ROWS + 1).unwrap();
                wait_until("the rows to wait in the line", || database.count("consistency_task", "state = 1") == held);
                signals.go.raise();
                // This goes on when the slot lets the thread's other futures have their turn.
                signals.begun.wait_for(WARMING_UP + 2).await;
                (stage, signals)
            });
            // The slot is about to run its next row.
            drop(runtime);
            let left = WARMING_UP + 1 + ROWS - signals.begun.count();
            assert!(left > 0, "all rows ran in one turn");
            wait_until("the rows to be put back", || {
                let mut ids = released(&stage.recorder);
                ids.sort_unstable();
                ids.dedup();
                ids.len() == left
            });
            stage.outbox.shutdown_blocking();
            assert_eq!(released(&stage.recorder).len(), left, "none is claimed again for a runtime that is gone");
            let back = database.count("consistency_task", "state = 0 AND execute_times = 0 AND lost_times = 0");
            assert_eq!(back, i64::try_from(left).unwrap());
        });
    }

    async fn a_caller_does_not_wait_for_a_blocking_body_beyond_its_time_limit(database: &Database) {
        let (signals, go) = (Signals::default(), Latch::new());
        let stage = Stage::with(database, |builder| builder.inject(signals.clone()).inject(go.clone()));
        let committed = tokio::time::timeout(DEADLINE / 2, stage.commit_async::<Conn>(hangs())).await;
        let task_id = committed.expect("the caller waits for a body that was given up");
        assert_eq!((signals.begun.count(), signals.dropped.count()), (1, 0));
        stage.recorder.wait_for_settled(&task_id, State::Failed);
        stage.recorder.wait_for("the thread to be counted as given up", |events| {
            events.iter().any(|event| matches!(event, Event::TimeLimitReached { abandoned_threads: 1, .. }))
        });
        go.raise();
        signals.dropped.wait_for(1).await;
        assert_eq!(database.row(&task_id).state(), State::Failed);
    }

    async fn a_caller_goes_on_as_soon_as_the_outcome_of_a_blocking_body_is_written(database: &Database) {
        let (signals, go) = (Signals::default(), Latch::new());
        go.raise();
        let stage = Stage::with(database, |builder| builder.inject(signals.clone()).inject(go.clone()).busy_wait(HOUR));
        let committed = tokio::time::timeout(DEADLINE / 2, stage.commit_async::<Conn>(hangs())).await;
        let task_id = committed.expect("the caller waits for an outcome that is written");
        assert_eq!((database.row(&task_id).state(), signals.dropped.count()), (State::Succeeded, 1));
    }
}
