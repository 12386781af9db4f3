//! Rows claimed ahead of free slots do not wait with their node: when its slots stay taken, they go back for whoever has room.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::{Probe, store, store_all};

#[consistency_task(max_attempts = 3)]
fn quick(#[inject] probe: &Arc<Probe>) {
    probe.note("quick");
}

/// Keeps its slot until the test lets it go.
#[consistency_task]
fn stuck(#[inject] probe: &Arc<Probe>) {
    probe.note("stuck");
    probe.go.wait_for(1);
}

const SLOTS: usize = 2;
/// Enough for a short mean run time, whatever the first ones took.
const WARMING_UP: usize = 40;
const ROWS: usize = 30;

fn builder(database: &Database, recorder: &Recorder, probe: &Arc<Probe>) -> OutboxBuilder {
    let builder = database.outbox().inject(Arc::clone(probe)).listener(recorder.listener());
    builder.poll_interval(Duration::from_millis(200)).concurrency(SLOTS)
}

/// A node whose slots are taken for long and that has `ROWS` quick rows in its line.
fn holding<C>(database: &Database, recorder: &Recorder, probe: &Arc<Probe>) -> Outbox
where
    C: consistency_diesel::blocking_connection::BlockingConnection,
{
    let outbox = builder(database, recorder, probe).only([quick::NAME, stuck::NAME]).start_blocking().unwrap();
    for _ in 0..WARMING_UP {
        let task_id = store::<C>(database, &outbox, quick());
        recorder.wait_for_settled(&task_id, State::Succeeded);
    }
    store_all::<C>(database, &outbox, (0..SLOTS).map(|_| stuck()));
    probe.wait_for("stuck", SLOTS);
    store_all::<C>(database, &outbox, (0..ROWS).map(|_| quick()));
    let held = i64::try_from(SLOTS + ROWS).unwrap();
    wait_until("the rows to be claimed ahead", || database.count("consistency_task", "state = 1") == held);
    outbox
}

/// The rows put back so far, each as often as it was.
fn put_back(recorder: &Recorder) -> Vec<i64> {
    let id = |event| if let Event::Released { id, .. } = event { Some(id) } else { None };
    recorder.events().into_iter().filter_map(id).collect()
}

fn assert_all_ran_once(database: &Database, probe: &Probe) {
    assert_eq!(probe.count("quick"), WARMING_UP + ROWS);
    assert_eq!(database.count("consistency_task", "state <> 2 OR execute_times <> 1 OR lost_times <> 0"), 0);
}

for_each_database! {
    fn rows_that_wait_behind_long_bodies_are_run_by_a_node_with_room(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = holding::<Conn>(database, &recorder, &probe);
        let elsewhere = Recorder::new();
        let other = builder(database, &elsewhere, &probe).only([quick::NAME]).start_blocking().unwrap();
        elsewhere.wait_for_count(ROWS, State::Succeeded);
        let mut once = put_back(&recorder);
        once.sort_unstable();
        once.dedup();
        assert_eq!((once.len(), put_back(&recorder).len()), (ROWS, ROWS), "none is claimed ahead again");
        probe.go.raise();
        recorder.wait_for_count(WARMING_UP + SLOTS, State::Succeeded);
        assert_all_ran_once(database, &probe);
        outbox.shutdown_blocking();
        other.shutdown_blocking();
    }

    fn a_node_takes_back_itself_what_waited_as_soon_as_it_has_room(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = holding::<Conn>(database, &recorder, &probe);
        wait_until("the rows to be put back", || put_back(&recorder).len() == ROWS);
        wait_until("them to be pending", || {
            database.count("consistency_task", "state = 0 AND execute_times = 0") == i64::try_from(ROWS).unwrap()
        });
        probe.go.raise();
        recorder.wait_for_count(WARMING_UP + SLOTS + ROWS, State::Succeeded);
        assert_all_ran_once(database, &probe);
        outbox.shutdown_blocking();
    }
}
