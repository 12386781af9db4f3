//! The four modes from the helper on diesel-async's connections: what runs on the caller is part of the caller's future, a body
//! that blocks does not block the caller's runtime, and a caller that gives up leaves nothing behind that nobody runs.

#![cfg(feature = "async")]

use std::sync::Arc;
use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_tests::async_stage::{Signals, on_one_thread};
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::Latch;
use consistency_tests::stage::{Probe, Stage};
use diesel::result::{Error, QueryResult};
use parking_lot::Mutex;

tokio::task_local! {
    /// Set around the test's own future: whatever sees it is polled as part of that one.
    static CALLER: ();
}

fn in_the_callers_future() -> bool {
    CALLER.try_with(|()| ()).is_ok()
}

#[consistency_task]
fn worker(text: String, #[inject] probe: &Probe) {
    probe.saw(format!("{text} {}", in_the_callers_future()));
}

#[consistency_task]
async fn async_worker(text: String, #[inject] probe: &Probe) {
    tokio::task::yield_now().await;
    probe.saw(format!("{text} {}", in_the_callers_future()));
}

#[consistency_task(run_on = caller)]
async fn async_caller(text: String, #[inject] probe: &Probe) {
    // It waits once, so that somebody has to drive it.
    tokio::task::yield_now().await;
    probe.saw(format!("{text} {}", in_the_callers_future()));
}

/// Blocks its thread until it is let go.
#[consistency_task(run_on = caller)]
fn blocking_caller(text: String, #[inject] probe: &Probe, #[inject] signals: &Signals, #[inject] go: &Latch) {
    signals.begun.raise();
    go.wait_for(1);
    probe.saw(text);
}

#[consistency_task(run_on = caller, retry_every = "10ms")]
async fn fails_first(text: String, #[context] cx: &TaskContext, #[inject] probe: &Probe) -> Result<(), String> {
    tokio::task::yield_now().await;
    probe.saw(format!("{text} {}", in_the_callers_future()));
    assert!(text != "panics" || cx.attempt() > 1, "not yet");
    if cx.attempt() == 1 { Err("not yet".to_owned()) } else { Ok(()) }
}

/// Waits until it is let go.
#[consistency_task(run_on = caller)]
async fn patient_caller(text: String, #[inject] probe: &Probe, #[inject] signals: &Signals) {
    let _dropped = signals.tell_when_dropped();
    signals.begun.raise();
    signals.go.wait_for(1).await;
    probe.saw(format!("{text} {}", in_the_callers_future()));
}

/// Never ends by itself.
#[consistency_task(run_on = caller, timeout = "50ms", retry_every = "1h")]
async fn endless(#[inject] signals: &Signals) {
    let _dropped = signals.tell_when_dropped();
    std::future::pending::<()>().await;
}

#[consistency_task(mode = scheduled, delay = "1ms")]
async fn scheduled(text: String, #[inject] probe: &Probe) {
    probe.saw(format!("{text} {}", in_the_callers_future()));
}

#[consistency_task(mode = scheduled, delay = "1ms", run_on = caller)]
async fn one_by_one(text: String, #[inject] probe: &Probe, #[inject] alone: &Arc<Mutex<()>>) {
    probe.saw(format!("{text} begins"));
    for _ in 0..10 {
        assert!(alone.try_lock().is_some(), "two of them run at the same time");
        tokio::task::yield_now().await;
    }
    probe.saw(format!("{text} ends"));
}

struct Set<'d> {
    stage: Stage<'d>,
    signals: Signals,
    go: Latch,
}

/// Everything under way, with a poller that looks every hour when `idle`.
fn set(database: &Database, idle: bool) -> Set<'_> {
    let (signals, go) = (Signals::default(), Latch::new());
    let stage = Stage::with(database, |builder| {
        let builder = builder.inject(signals.clone()).inject(go.clone()).inject(Arc::new(Mutex::new(())));
        if idle { builder.poll_interval(Duration::from_secs(3600)) } else { builder }
    });
    Set { stage, signals, go }
}

for_each_async_database! {
    async fn immediate_on_a_worker_starts_right_after_the_commit(database: &Database) {
        // Were they left to the poller, they would not run within the deadline.
        let Set { stage, .. } = set(database, true);
        CALLER.scope((), async {
            for call in [worker("thread".to_owned()), async_worker("future".to_owned())] {
                let task_id = stage.run_async::<Conn>(call).await;
                let row = database.row(&task_id);
                assert_eq!((row.state(), row.execute_times, row.owners()), (State::Succeeded, 1, 1));
                assert_eq!((row.execute_mode, row.thread_way), (1, 1));
            }
        }).await;
        assert_eq!(stage.probe.seen(), ["thread false", "future false"]);
    }

    async fn an_async_body_on_the_caller_is_part_of_the_callers_future(database: &Database) {
        let Set { stage, .. } = set(database, true);
        let mut conn = database.async_connection::<Conn>().await;
        let stored = CALLER.scope((), stage.outbox.transaction(&mut conn, async |tx| {
            let receipts = [
                tx.enqueue(async_caller("first".to_owned())).await?,
                tx.enqueue(async_caller("second".to_owned())).await?,
            ];
            assert_eq!(stage.probe.seen(), Vec::<String>::new(), "ran before the commit");
            QueryResult::Ok(receipts)
        })).await;
        assert_eq!(stage.probe.seen(), ["first true", "second true"]);
        for receipt in stored.unwrap() {
            let row = database.row(receipt.task_id());
            assert_eq!((row.state(), row.execute_times, row.owners()), (State::Succeeded, 1, 1));
            assert_eq!((row.execute_mode, row.thread_way), (1, 2));
        }
    }

    async fn a_blocking_body_on_the_caller_is_waited_for_and_the_runtime_goes_on(database: &Database) {
        // On one thread: were the helper to block it, nobody could let the body go.
        let (thread, task_id) = on_one_thread(|| async {
            let Set { stage, signals, go } = set(database, true);
            let helper = async {
                let task_id = stage.commit_async::<Conn>(blocking_caller("blocked".to_owned())).await;
                assert_eq!(stage.probe.seen(), ["blocked"], "the helper was ready before its body");
                assert_eq!(database.row(&task_id).state(), State::Succeeded);
                task_id
            };
            let other = async {
                signals.begun.wait_for(1).await;
                assert_eq!(stage.probe.seen(), Vec::<String>::new());
                go.raise();
            };
            let (task_id, ()) = tokio::join!(helper, other);
            assert_ne!(stage.probe.thread_of("blocked"), Some(std::thread::current().id()));
            (stage.probe.thread_of("blocked"), task_id)
        });
        assert_ne!(thread, Some(std::thread::current().id()));
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.owners(), row.thread_way), (1, 1, 2));
    }

    async fn everything_runs_on_a_runtime_of_one_thread(database: &Database) {
        on_one_thread(|| async {
            let Set { stage, go, .. } = set(database, false);
            go.raise();
            let mut conn = database.async_connection::<Conn>().await;
            let stored = stage.outbox.transaction(&mut conn, async |tx| {
                tx.enqueue(worker("thread".to_owned())).await?;
                tx.enqueue(async_worker("future".to_owned())).await?;
                tx.enqueue(async_caller("caller".to_owned())).await?;
                tx.enqueue(scheduled("scheduled".to_owned())).await?;
                tx.enqueue(blocking_caller("blocking".to_owned())).await
            }).await;
            let stored: QueryResult<_> = stored;
            stored.unwrap();
            assert_eq!(database.count("consistency_task", "state = 2 AND thread_way = 2"), 2);
            // The runtime's own thread has to be free for the others.
            let recorder = stage.recorder.clone();
            tokio::task::spawn_blocking(move || recorder.wait_for_count(5, State::Succeeded)).await.unwrap();
            let seen = stage.probe.seen_sorted();
            assert_eq!(seen, ["blocking", "caller false", "future false", "scheduled false", "thread false"]);
        });
    }

    async fn a_failure_on_the_caller_is_stored_and_retried_and_never_the_callers_error(database: &Database) {
        let Set { stage, .. } = set(database, false);
        let mut conn = database.async_connection::<Conn>().await;
        let stored = CALLER.scope((), stage.outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(fails_first("panics".to_owned())).await?;
            tx.enqueue(fails_first("fails".to_owned())).await
        })).await;
        let stored: QueryResult<_> = stored;
        let receipt = stored.expect("the transaction is committed");
        stage.recorder.wait_for_count(2, State::Succeeded);
        // Retries are the poller's.
        assert_eq!(stage.probe.seen_sorted(), ["fails false", "fails true", "panics false", "panics true"]);
        assert_eq!(stage.recorder.count(State::Failed), 2);
        let row = database.row(receipt.task_id());
        assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 2, None));
    }

    async fn a_body_on_the_caller_is_dropped_at_its_time_limit_and_the_helper_is_ready(database: &Database) {
        let Set { stage, signals, .. } = set(database, true);
        let task_id = stage.commit_async::<Conn>(endless()).await;
        assert_eq!(signals.dropped.count(), 1);
        stage.recorder.wait_for_settled(&task_id, State::Failed);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times), (State::Failed, 1));
        assert!(row.error_message.unwrap().contains("time limit of 50ms"));
    }

    async fn a_caller_that_gives_up_in_the_body_puts_its_row_back(database: &Database) {
        let Set { stage, signals, .. } = set(database, false);
        let helper = CALLER.scope((), stage.commit_async::<Conn>(patient_caller("patient".to_owned())));
        tokio::select! {
            task_id = helper => panic!("{task_id} ran to its end"),
            () = signals.begun.wait_for(1) => {}
        }
        // Committed all the same: the poller takes it, and the attempt that was dropped is not counted.
        signals.go.raise();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), signals.dropped.count()), (vec!["patient false".to_owned()], 2));
        let rows = database.rows("1 = 1");
        assert_eq!((rows.len(), rows[0].state(), rows[0].execute_times, rows[0].lost_times), (1, State::Succeeded, 1, 0));
    }

    async fn a_caller_that_gives_up_in_the_first_of_its_bodies_leaves_the_others_to_the_poller(database: &Database) {
        let Set { stage, signals, go } = set(database, false);
        go.raise();
        let mut conn = database.async_connection::<Conn>().await;
        let helper = stage.outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(patient_caller("first".to_owned())).await?;
            tx.enqueue(async_caller("second".to_owned())).await?;
            tx.enqueue(blocking_caller("third".to_owned())).await
        });
        tokio::select! {
            stored = CALLER.scope((), helper) => { let stored: Result<_, Error> = stored; panic!("{stored:?}") }
            () = signals.begun.wait_for(1) => {}
        }
        signals.go.raise();
        // Their leases of ten seconds are not waited for: nothing is rescued.
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["first false", "second false", "third"]);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), 3);
    }

    async fn a_caller_that_gives_up_does_not_stop_a_body_that_blocks(database: &Database) {
        let Set { stage, signals, go } = set(database, false);
        tokio::select! {
            task_id = stage.commit_async::<Conn>(blocking_caller("blocked".to_owned())) => panic!("{task_id} ran to its end"),
            () = signals.begun.wait_for(1) => {}
        }
        go.raise();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), signals.begun.count()), (vec!["blocked".to_owned()], 1));
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND version % 65536 = 1"), 1);
    }

    async fn scheduled_on_a_worker_runs_when_it_is_due(database: &Database) {
        let Set { stage, .. } = set(database, false);
        CALLER.scope((), async {
            let later = stage.commit_async::<Conn>(async_worker("later".to_owned()).delay(Duration::from_secs(3600))).await;
            let soon = stage.run_async::<Conn>(scheduled("soon".to_owned())).await;
            let delayed = stage.run_async::<Conn>(async_worker("delayed".to_owned()).delay(Duration::from_millis(1))).await;
            for task_id in [&soon, &delayed] {
                let row = database.row(task_id);
                assert_eq!((row.state(), row.execute_times, row.execute_mode, row.thread_way), (State::Succeeded, 1, 2, 1));
            }
            assert_eq!((database.row(&later).state(), database.row(&later).execute_times), (State::Pending, 0));
        }).await;
        assert_eq!(stage.probe.seen(), ["soon false", "delayed false"]);
    }

    async fn scheduled_on_the_caller_runs_one_future_after_the_other(database: &Database) {
        let Set { stage, .. } = set(database, false);
        let mut conn = database.async_connection::<Conn>().await;
        let stored = stage.outbox.transaction(&mut conn, async |tx| {
            for number in 0..10 {
                tx.enqueue(one_by_one(number.to_string())).await?;
            }
            QueryResult::Ok(())
        }).await;
        stored.unwrap();
        stage.recorder.wait_for_count(10, State::Succeeded);
        let seen = stage.probe.seen();
        for pair in seen.chunks(2) {
            assert_eq!(pair[0].replace("begins", "ends"), pair[1], "{seen:?}");
        }
        assert_eq!((seen.len(), stage.recorder.count(State::Failed)), (20, 0));
        assert_eq!(stage.probe.thread_of("0 ends"), stage.probe.thread_of("9 begins"));
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1"), 10);
        assert_eq!(database.count("consistency_task", "execute_mode = 2 AND thread_way = 2"), 10);
    }
}
