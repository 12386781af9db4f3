//! Leases: kept alive under long tasks, fenced when stolen, run out when their holder is gone, and never a reason to run twice.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::context::CancelReason;
use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::{Probe, end_leases, ms_between, now, store};

/// Runs until the test lets it go.
#[consistency_task(retry_every = "50ms", max_attempts = 9)]
fn long(#[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) {
    let _inside = probe.enter("long");
    probe.note(format!("begun {}", cx.attempt()));
    probe.go.wait_for(cx.attempt() as usize);
    probe.note(format!("ended {}", cx.attempt()));
}

/// Ends when it is asked to, with an error that says why.
#[consistency_task(retry_every = "50ms")]
async fn obedient(#[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) -> Result<(), String> {
    probe.note("begun");
    let reason = cx.cancelled().await;
    probe.note(format!("{reason:?}"));
    Err(format!("stopped: {reason:?}"))
}

const LEASE: Duration = Duration::from_millis(1500);

for_each_database! {
    fn a_task_longer_than_its_lease_runs_once_while_the_heart_beats(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let start = || {
            let builder = database.outbox().only([long::NAME]).inject(Arc::clone(&probe)).lease(LEASE);
            builder.heartbeat(LEASE / 5).listener(recorder.listener()).start_blocking().unwrap()
        };
        // The second one would rescue and run the row.
        let (outbox, other) = (start(), start());
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun 1", 1);
        let beyond = format!(
            "task_id = '{task_id}' AND {} > {} AND lease_until > {}",
            ms_between(BACKEND, "gmt_create", now(BACKEND)),
            2 * LEASE.as_millis(),
            now(BACKEND)
        );
        wait_until("the task to run for two leases", || database.count("consistency_task", &beyond) == 1);
        probe.go.raise();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.owners(), row.lost_times), (State::Succeeded, 1, 1, 0));
        assert_eq!(probe.notes(), ["begun 1", "ended 1"]);
        assert!(!recorder.events().iter().any(|event| matches!(event, Event::Rescued { .. } | Event::LeaseLost { .. })));
        outbox.shutdown_blocking();
        other.shutdown_blocking();
    }

    fn a_stolen_lease_makes_the_settlement_a_lost_one_and_the_row_stays_as_it_is(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([long::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun 1", 1);
        database.execute("UPDATE consistency_task SET version = version + 1, lease_owner = 'another node' WHERE state = 1");
        let stolen = database.row(&task_id);
        probe.go.raise();
        recorder.wait_for("the lease to be reported lost", |events| {
            events.iter().any(|event| matches!(event, Event::LeaseLost { attempt } if attempt.task_id == task_id))
        });
        assert_eq!(database.row(&task_id), stolen);
        assert_eq!((stolen.state(), stolen.lease_owner.as_deref()), (State::Running, Some("another node")));
        assert!(!recorder.events().iter().any(|event| matches!(event, Event::Settled { .. })));
        outbox.shutdown_blocking();
        assert_eq!(database.row(&task_id), stolen, "the shutdown releases only what is held");
    }

    fn a_body_hears_at_the_next_heartbeat_that_its_lease_is_lost(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([obedient::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.heartbeat(Duration::from_millis(50)).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, obedient());
        probe.wait_for("begun", 1);
        database.execute("UPDATE consistency_task SET version = version + 1 WHERE state = 1");
        probe.wait_for(&format!("{:?}", CancelReason::LeaseLost), 1);
        recorder.wait_for("the lost lease", |events| events.iter().any(|event| matches!(event, Event::LeaseLost { .. })));
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.owners(), row.error_message), (State::Running, 2, None));
        outbox.shutdown_blocking();
    }

    fn a_row_whose_lease_is_over_is_taken_back_and_its_late_first_runner_changes_nothing(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let start = || {
            let builder = database.outbox().only([long::NAME]).inject(Arc::clone(&probe)).lease(Duration::from_secs(60));
            builder.heartbeat(Duration::from_secs(30)).listener(recorder.listener()).start_blocking().unwrap()
        };
        let (first, second) = (start(), start());
        let task_id = store::<Conn>(database, &first, long());
        probe.wait_for("begun 1", 1);
        // As if the first runner's process had been asleep for an hour.
        end_leases(database, "lease_owner IS NOT NULL");
        probe.wait_for("begun 2", 1);
        probe.go.raise();
        recorder.wait_for("the first runner's settlement to be refused", |events| {
            events.iter().any(|event| matches!(event, Event::LeaseLost { attempt } if attempt.attempt == 1))
        });
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.owners()), (State::Running, 2, 3), "the rescue raises the fence as well");
        probe.go.raise();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.lost_times, row.error_message), (State::Succeeded, 2, 0, None));
        first.shutdown_blocking();
        second.shutdown_blocking();
    }

    fn a_rescued_row_says_who_lost_it_and_how_often(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let task_id = store::<Conn>(database, &elsewhere, long());
        // As a node leaves it that was killed, twice before.
        database.execute(&format!(
            "UPDATE consistency_task SET state = 1, version = 3, execute_times = 3, lost_times = 2, \
             lease_owner = 'gone-1', lease_until = {}",
            now(BACKEND)
        ));
        let outbox = database.outbox().only([long::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        probe.wait_for("begun 4", 1);
        recorder.wait_for("the rescue", |events| {
            events.iter().any(|event| matches!(event,
                Event::Rescued { name, node, state: State::Failed, lost_times: 3, .. }
                    if name == long::NAME && node == "gone-1"))
        });
        let message = database.row(&task_id).error_message.unwrap();
        assert_eq!(message, "the worker died or lost touch: node gone-1 let its lease run out (3 in a row)");
        (0..4).for_each(|_| probe.go.raise());
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.lost_times, row.error_message), (4, 0, None));
        outbox.shutdown_blocking();
    }

    fn a_wish_to_cancel_reaches_the_body_and_ends_the_row_when_the_attempt_fails(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([obedient::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.heartbeat(Duration::from_millis(50)).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, obedient());
        probe.wait_for("begun", 1);
        database.execute("UPDATE consistency_task SET cancel_requested = 1 WHERE state = 1");
        probe.wait_for(&format!("{:?}", CancelReason::Requested), 1);
        recorder.wait_for_settled(&task_id, State::Cancelled);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.lease_owner.as_deref()), (State::Cancelled, 1, None));
        assert_eq!(row.error_message.as_deref(), Some("stopped: Requested"));
        outbox.shutdown_blocking();
        assert_eq!(probe.count("begun"), 1);
    }

    fn a_wish_to_cancel_does_not_undo_a_success(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([long::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun 1", 1);
        database.execute("UPDATE consistency_task SET cancel_requested = 1 WHERE state = 1");
        probe.go.raise();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(database.row(&task_id).state(), State::Succeeded);
        outbox.shutdown_blocking();
    }
}
