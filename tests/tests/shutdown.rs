//! Shutdown: what is quick ends, what goes on is put back without an attempt, and another outbox takes it at once.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::context::CancelReason;
use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store, store_all};

/// Ends as soon as it is asked to, in success.
#[consistency_task]
async fn tidy(#[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) {
    probe.note("tidy begun");
    assert_eq!(cx.cancelled().await, CancelReason::Shutdown);
    assert!(cx.is_cancelled());
    probe.note("tidy ended");
}

/// Ends as soon as it is asked to, and says that this is why.
#[consistency_task(retry_every = "1h", max_attempts = 1)]
async fn gives_way(#[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    probe.note("gives_way begun");
    if probe.go.count() == 0 {
        cx.cancelled().await;
        return Err(TaskError::interrupted("stopped half-way"));
    }
    Ok(())
}

/// Fails while the runtime stops, for a reason of its own.
#[consistency_task(retry_every = "1h")]
async fn fails_meanwhile(#[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) -> Result<(), String> {
    probe.note("fails_meanwhile begun");
    cx.cancelled().await;
    Err("the carrier did not answer".to_owned())
}

/// Goes on whatever it is asked, until the test lets it go.
#[consistency_task]
fn deaf(number: i64, #[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) {
    probe.note(format!("{number} begun at attempt {}", cx.attempt()));
    probe.go.wait_for(1);
}

/// Goes on whatever it is asked, without end but for being dropped.
#[consistency_task(max_attempts = 3)]
async fn deaf_future(#[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) {
    probe.note(format!("begun at attempt {}", cx.attempt()));
    while probe.go.count() == 0 {
        std::future::pending::<()>().await;
    }
}

const SHORT_GRACE: Duration = Duration::from_millis(100);

/// The counts of the last event.
fn stopped(recorder: &Recorder) -> (usize, usize) {
    match recorder.events().last() {
        Some(Event::Stopped { drained, released, unwritten: 0 }) => (*drained, *released),
        other => panic!("the last event is {other:?}"),
    }
}

for_each_database! {
    fn quick_attempts_end_and_their_outcome_is_written(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([tidy::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let task_ids = store_all::<Conn>(database, &outbox, [tidy(), tidy()]);
        probe.wait_for("tidy begun", 2);
        outbox.shutdown_blocking();
        for task_id in task_ids {
            let row = database.row(&task_id);
            assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 1, None));
        }
        assert_eq!(stopped(&recorder), (2, 0));
    }

    fn an_attempt_that_fails_for_its_own_reason_during_the_shutdown_is_a_failed_one(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([fails_meanwhile::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, fails_meanwhile());
        probe.wait_for("fails_meanwhile begun", 1);
        outbox.shutdown_blocking();
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times), (State::Failed, 1));
        assert_eq!(row.error_message.as_deref(), Some("the carrier did not answer"));
    }

    fn an_attempt_that_gives_way_costs_nothing(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let start = |recorder: &Recorder| {
            let builder = database.outbox().only([gives_way::NAME]).inject(Arc::clone(&probe));
            builder.listener(recorder.listener()).start_blocking().unwrap()
        };
        let outbox = start(&recorder);
        let task_id = store::<Conn>(database, &outbox, gives_way());
        probe.wait_for("gives_way begun", 1);
        outbox.shutdown_blocking();
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.error_message, row.lost_times), (State::Pending, 0, None, 0));

        probe.go.raise();
        let next = Recorder::new();
        let outbox = start(&next);
        next.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(database.row(&task_id).execute_times, 1);
        outbox.shutdown_blocking();
    }

    fn what_goes_on_is_put_back_without_an_attempt_and_runs_elsewhere_at_once(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let builder = || database.outbox().only([deaf::NAME]).inject(Arc::clone(&probe)).concurrency(2).lease(Duration::from_secs(600));
        let outbox = builder().listener(recorder.listener()).shutdown_grace(SHORT_GRACE).start_blocking().unwrap();
        // Two run, two more wait for a slot.
        let task_ids = store_all::<Conn>(database, &outbox, (1..=4).map(deaf));
        probe.wait_for_notes(2);
        outbox.shutdown_blocking();
        for task_id in &task_ids {
            let row = database.row(task_id);
            assert_eq!((row.state(), row.execute_times, row.lost_times), (State::Pending, 0, 0));
            assert_eq!((row.lease_owner, row.error_message), (None, None));
        }
        assert_eq!(stopped(&recorder), (0, 2));
        assert_eq!(probe.notes().len(), 2);

        let other = Recorder::new();
        let elsewhere = builder().listener(other.listener()).start_blocking().unwrap();
        // The lease of ten minutes is not waited for.
        probe.wait_for_notes(4);
        probe.go.raise();
        other.wait_for_count(4, State::Succeeded);
        for task_id in &task_ids {
            let row = database.row(task_id);
            assert_eq!((row.state(), row.execute_times, row.lost_times), (State::Succeeded, 1, 0));
        }
        let mut notes = probe.notes();
        notes.sort();
        assert!(notes.iter().all(|note| note.ends_with("attempt 1")), "{notes:?}");
        assert_eq!(notes.len(), 6, "the two that were interrupted begun twice: {notes:?}");
        elsewhere.shutdown_blocking();
        assert!(!other.events().iter().any(|event| matches!(event, Event::Rescued { .. })));
    }

    fn a_deaf_future_is_dropped_and_its_counted_attempt_given_back(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([deaf_future::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.shutdown_grace(SHORT_GRACE).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, deaf_future());
        probe.wait_for("begun at attempt 1", 1);
        assert_eq!(database.row(&task_id).execute_times, 1, "an attempt of a limited number is counted at the insert");
        outbox.shutdown_blocking();
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.owners()), (State::Pending, 0, 1));
        assert_eq!(stopped(&recorder), (0, 1));
    }

    fn a_second_shutdown_and_one_from_every_handle_change_nothing(database: &Database) {
        let recorder = Recorder::new();
        let outbox = database.outbox().only([tidy::NAME]).inject(Probe::new()).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let clone = outbox.clone();
        outbox.shutdown_blocking();
        outbox.shutdown_blocking();
        clone.shutdown_blocking();
        drop((outbox, clone));
        let stops = recorder.events().iter().filter(|event| matches!(event, Event::Stopped { .. })).count();
        assert_eq!(stops, 1);
    }

    fn a_call_after_the_shutdown_is_stored_and_runs_elsewhere(database: &Database) {
        let probe = Probe::new();
        probe.go.raise();
        let builder = || database.outbox().only([deaf::NAME]).inject(Arc::clone(&probe));
        let outbox = builder().start_blocking().unwrap();
        outbox.shutdown_blocking();
        let task_id = store::<Conn>(database, &outbox, deaf(1));
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.owners()), (State::Pending, 0));
        let recorder = Recorder::new();
        let elsewhere = builder().listener(recorder.listener()).start_blocking().unwrap();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        elsewhere.shutdown_blocking();
    }
}
