//! Time limits: an attempt that never ends is given up, its slot works on, and the row says why.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::context::CancelReason;
use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store};

const LIMIT_IN_WORDS: &str = "time limit of 300ms reached; the attempt was given up";

/// Blocks its thread for ever at its first attempt.
#[consistency_task(timeout = "300ms", retry_every = "1h")]
fn blocks_for_ever(#[inject] probe: &Arc<Probe>) {
    probe.note("blocked");
    loop {
        std::thread::park();
    }
}

/// Blocks until the test lets it go, long after its limit.
#[consistency_task(timeout = "300ms", retry_every = "1h")]
fn blocks_too_long(#[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) {
    probe.note("blocked");
    probe.go.wait_for(1);
    probe.note(format!("ended, asked to stop: {}", cx.cancel_reason() == Some(CancelReason::TimeLimit)));
}

/// Says that it was dropped.
struct Dropped(Arc<Probe>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

#[consistency_task(timeout = "300ms", retry_every = "1h")]
async fn waits_for_ever(#[inject] probe: &Arc<Probe>) {
    let _dropped = Dropped(Arc::clone(probe));
    probe.note("waits");
    std::future::pending::<()>().await;
}

#[consistency_task(timeout = "300ms", retry_every = "20ms", max_attempts = 2)]
async fn waits_twice(#[inject] probe: &Arc<Probe>) {
    probe.note("waits");
    std::future::pending::<()>().await;
}

#[consistency_task]
fn quick(#[inject] probe: &Arc<Probe>) {
    probe.note("quick");
}

for_each_database! {
    fn a_thread_blocked_for_ever_gives_its_slot_back(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([blocks_for_ever::NAME, quick::NAME]).concurrency(1);
        let outbox = outbox.inject(Arc::clone(&probe)).listener(recorder.listener()).shutdown_grace(Duration::from_millis(100));
        let outbox = outbox.start_blocking().unwrap();
        let blocked = store::<Conn>(database, &outbox, blocks_for_ever());
        probe.wait_for("blocked", 1);
        let neighbour = store::<Conn>(database, &outbox, quick());
        recorder.wait_for_settled(&blocked, State::Failed);
        recorder.wait_for_settled(&neighbour, State::Succeeded);
        // The count of slots is whole again, not merely one task let through.
        for _ in 0..3 {
            let next = store::<Conn>(database, &outbox, quick());
            recorder.wait_for_settled(&next, State::Succeeded);
        }
        let row = database.row(&blocked);
        assert_eq!((row.state(), row.execute_times), (State::Failed, 1));
        assert_eq!(row.error_message.as_deref(), Some(LIMIT_IN_WORDS));
        recorder.wait_for("the limit to be reported", |events| {
            events.iter().any(|event| matches!(event,
                Event::TimeLimitReached { attempt, limit, abandoned_threads: 1 }
                    if attempt.task_id == blocked && *limit == Duration::from_millis(300)))
        });
        outbox.shutdown_blocking();
    }

    fn a_blocked_thread_that_ends_after_all_changes_nothing(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([blocks_too_long::NAME, quick::NAME]).concurrency(1);
        let outbox = outbox.inject(Arc::clone(&probe)).listener(recorder.listener()).start_blocking().unwrap();
        let blocked = store::<Conn>(database, &outbox, blocks_too_long());
        recorder.wait_for_settled(&blocked, State::Failed);
        let row = database.row(&blocked);
        probe.go.raise();
        probe.wait_for("ended, asked to stop: true", 1);
        let neighbour = store::<Conn>(database, &outbox, quick());
        recorder.wait_for_settled(&neighbour, State::Succeeded);
        outbox.shutdown_blocking();
        assert_eq!(database.row(&blocked), row);
        let settled = recorder.events().into_iter().filter(|event| matches!(event, Event::Settled { attempt, .. } if attempt.task_id == blocked));
        assert_eq!(settled.count(), 1);
    }

    fn more_abandoned_threads_than_allowed_keep_their_slots(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([blocks_too_long::NAME, quick::NAME]).concurrency(1).max_abandoned_threads(0);
        let outbox = outbox.inject(Arc::clone(&probe)).listener(recorder.listener()).start_blocking().unwrap();
        let blocked = store::<Conn>(database, &outbox, blocks_too_long());
        recorder.wait_for_settled(&blocked, State::Failed);
        let neighbour = store::<Conn>(database, &outbox, quick());
        assert_eq!(database.row(&neighbour).state(), State::Pending);
        assert_eq!(probe.count("quick"), 0, "no slot is free for it");
        probe.go.raise();
        recorder.wait_for_settled(&neighbour, State::Succeeded);
        outbox.shutdown_blocking();
    }

    fn a_future_that_never_ends_is_dropped_at_its_limit(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([waits_for_ever::NAME, quick::NAME]).concurrency(1);
        let outbox = outbox.inject(Arc::clone(&probe)).listener(recorder.listener()).start_blocking().unwrap();
        let waiting = store::<Conn>(database, &outbox, waits_for_ever());
        recorder.wait_for_settled(&waiting, State::Failed);
        probe.wait_for("dropped", 1);
        let neighbour = store::<Conn>(database, &outbox, quick());
        recorder.wait_for_settled(&neighbour, State::Succeeded);
        let row = database.row(&waiting);
        assert_eq!((row.state(), row.execute_times), (State::Failed, 1));
        assert_eq!(row.error_message.as_deref(), Some(LIMIT_IN_WORDS));
        outbox.shutdown_blocking();
    }

    fn attempts_at_their_limit_count_towards_the_most(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([waits_twice::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, waits_twice());
        recorder.wait_for_settled(&task_id, State::Dead);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.error_message.as_deref()), (2, Some(LIMIT_IN_WORDS)));
        assert_eq!(probe.count("waits"), 2);
        outbox.shutdown_blocking();
    }
}
