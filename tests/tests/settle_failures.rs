//! Outcomes that cannot be written: tried again, lost to another node, or refused for one row alone; never in anybody's way.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use consistency_core::error::StoreError;
use consistency_core::event::Event;
use consistency_core::fault::Point;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::faults::at_points::AtPoints;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::refusals::{allow_updates, refuse_updates};
use consistency_tests::scene::{Probe, end_leases, store, store_all};
use diesel::Connection;

/// Says that it ran.
#[consistency_task(retry_every = "50ms")]
fn quick(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

/// Runs until the test lets it go.
#[consistency_task(retry_every = "50ms")]
fn long(#[inject] probe: &Arc<Probe>) {
    probe.note("begun");
    probe.go.wait_for(1);
}

/// Which threads of the runtime meet faults.
#[derive(Default)]
struct Faults {
    /// How many settlements fail before they are sent, whoever sends them.
    settlements: usize,
    /// Whether every thread that writes from now on is cut off from the database.
    cut_off_more: bool,
    cut_off: HashSet<ThreadId>,
}

static FAULTS: AtPoints<Faults> = AtPoints::new(meet);

fn meet(point: Point) -> Result<(), StoreError> {
    if !matches!(point, Point::BeforeSettle | Point::BeforeHeartbeat | Point::BeforeRescue | Point::BeforeClaim) {
        return Ok(());
    }
    FAULTS.with(|faults| {
        if point == Point::BeforeSettle && faults.settlements > 0 {
            faults.settlements -= 1;
            return Err(StoreError::Transient("a settlement fails".into()));
        }
        let me = std::thread::current().id();
        if faults.cut_off_more {
            faults.cut_off.insert(me);
        }
        if faults.cut_off.contains(&me) {
            return Err(StoreError::Transient("this thread is cut off".into()));
        }
        Ok(())
    })
}

fn troubles(recorder: &Recorder, wanted: &str) -> usize {
    let is_it = |event: &&Event| matches!(event, Event::StoreTrouble { doing, .. } if *doing == wanted);
    recorder.events().iter().filter(is_it).count()
}

for_each_database! {
    fn a_settlement_that_fails_is_written_at_the_next_try(database: &Database) {
        let _turn = FAULTS.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([quick::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        FAULTS.with(|faults| faults.settlements = 1);
        let task_id = store::<Conn>(database, &outbox, quick(1));
        recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(troubles(&recorder, "settle"), 1);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.lost_times, probe.notes().len()), (1, 0, 1));
        outbox.shutdown_blocking();
    }

    fn settlements_that_fail_many_times_are_all_written_in_the_end(database: &Database) {
        let _turn = FAULTS.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([quick::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.settle_linger(Duration::from_millis(100)).start_blocking().unwrap();
        // Enough for a batch to be tried in parts.
        FAULTS.with(|faults| faults.settlements = 9);
        store_all::<Conn>(database, &outbox, (0..20).map(quick));
        recorder.wait_for_count(20, State::Succeeded);
        assert_eq!(troubles(&recorder, "settle"), 9);
        assert_eq!((probe.notes().len(), database.count("consistency_task", "state = 2 AND lost_times = 0")), (20, 20));
        outbox.shutdown_blocking();
    }

    fn a_settlement_that_fails_for_longer_than_the_lease_is_lost_to_the_next_node(database: &Database) {
        let _turn = FAULTS.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([long::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.lease(Duration::from_secs(1)).heartbeat(Duration::from_millis(300)).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        FAULTS.with(|faults| faults.cut_off_more = true);
        probe.go.raise();
        for doing in ["settle", "renew leases", "take back rows whose lease has ended"] {
            recorder.wait_for(doing, |events| events.iter().any(|event| matches!(
                event, Event::StoreTrouble { doing: tried, .. } if *tried == doing
            )));
        }
        FAULTS.with(|faults| faults.cut_off_more = false);
        let others = Recorder::new();
        let other = database.outbox().only([long::NAME]).inject(Arc::clone(&probe)).listener(others.listener());
        let other = other.start_blocking().unwrap();
        others.wait_for("the rescue", |events| events.iter().any(|event| matches!(event, Event::Rescued { .. })));
        others.wait_for_settled(&task_id, State::Succeeded);
        let settled = database.row(&task_id);
        FAULTS.with(|faults| faults.cut_off.clear());
        recorder.wait_for("the lost lease", |events| events.iter().any(|event| matches!(event, Event::LeaseLost { .. })));
        assert_eq!(database.row(&task_id), settled, "the late outcome changes nothing");
        assert_eq!((probe.notes().len(), recorder.count(State::Succeeded)), (2, 0));
        outbox.shutdown_blocking();
        other.shutdown_blocking();
    }

    fn one_refused_outcome_does_not_keep_the_others_and_says_why_in_its_row(database: &Database) {
        let _turn = FAULTS.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([quick::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.settle_linger(Duration::from_millis(100)).start_blocking().unwrap();
        refuse_updates(database, "NEW.state = 2 AND NEW.task_id = 'refused'", "refused by the house");
        let calls = (1..100).map(quick).chain([quick(0).key("refused")]);
        store_all::<Conn>(database, &outbox, calls);
        recorder.wait_for_count(99, State::Succeeded);
        recorder.wait_for("the refusal", |events| events.iter().any(|event| matches!(
            event, Event::SettleRefused { error, .. } if error.contains("refused by the house")
        )));
        recorder.wait_for_settled("refused", State::Failed);
        let error = database.row("refused").error_message.unwrap_or_default();
        assert!(error.contains("its outcome (succeeded) could not be written") && error.contains("refused by the house"), "{error}");
        allow_updates(database);
        recorder.wait_for_settled("refused", State::Succeeded);
        assert_eq!(database.count("consistency_task", "state = 2 AND lost_times = 0"), 100);
        assert!((1..100).all(|number| probe.count(&number.to_string()) == 1), "{:?}", probe.notes());
        outbox.shutdown_blocking();
    }

    fn a_row_nobody_can_write_keeps_neither_settlements_nor_rescues_nor_claims_of_others(database: &Database) {
        let _turn = FAULTS.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([quick::NAME, long::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.lease(Duration::from_secs(2)).heartbeat(Duration::from_millis(300)).start_blocking().unwrap();
        refuse_updates(database, "OLD.state = 1 AND NEW.state <> 1 AND NEW.task_id = 'stubborn'", "refused by the house");
        let lost = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        store::<Conn>(database, &outbox, quick(0).key("stubborn"));
        recorder.wait_for("the refusal", |events| events.iter().any(|event| matches!(event, Event::SettleRefused { .. })));
        let is_over = format!("task_id = 'stubborn' AND state = 1 AND lease_until < {}", consistency_tests::scene::now(BACKEND));
        wait_until("the end of the refused row's lease", || database.count("consistency_task", &is_over) == 1);
        // Found by the same rescue; no heartbeat renews it any more.
        database.execute(&format!("UPDATE consistency_task SET version = version + 1 WHERE task_id = '{lost}'"));
        end_leases(database, &format!("task_id = '{lost}'"));
        recorder.wait_for("the other row's rescue", |events| events.iter().any(|event| matches!(
            event, Event::Rescued { name, .. } if name == long::NAME
        )));
        probe.go.raise();
        recorder.wait_for_settled(&lost, State::Succeeded);
        let next = store::<Conn>(database, &outbox, quick(1).delay(Duration::from_millis(10)));
        recorder.wait_for_settled(&next, State::Succeeded);
        assert_eq!(database.row("stubborn").state(), State::Running);
        allow_updates(database);
        recorder.wait_for_settled("stubborn", State::Succeeded);
        outbox.shutdown_blocking();
    }

    fn a_row_somebody_has_locked_keeps_nobody_elses_outcome(database: &Database) {
        // SQLite has no locks of rows.
        if BACKEND == Backend::Sqlite { return }
        let _turn = FAULTS.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([quick::NAME, long::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.store_timeout(Duration::from_secs(2)).lease(Duration::from_secs(60)).start_blocking().unwrap();
        let locked = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        let mut holder = database.connection::<Conn>();
        holder.begin_test_transaction().unwrap();
        let lock = format!("SELECT id FROM consistency_task WHERE task_id = '{locked}' FOR UPDATE");
        diesel::RunQueryDsl::execute(diesel::sql_query(lock), &mut holder).unwrap();
        probe.go.raise();
        recorder.wait_for("the wait for the lock", |events| events.iter().any(|event| matches!(
            event, Event::StoreTrouble { doing: "settle", .. }
        )));
        store_all::<Conn>(database, &outbox, (1..=50).map(quick));
        recorder.wait_for_count(50, State::Succeeded);
        assert_eq!(database.row(&locked).state(), State::Running);
        drop(holder);
        recorder.wait_for_settled(&locked, State::Succeeded);
        let row = database.row(&locked);
        assert_eq!((row.execute_times, row.lost_times, probe.count("begun")), (1, 0, 1));
        outbox.shutdown_blocking();
    }
}
