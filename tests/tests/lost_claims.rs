//! A claim that was committed although its answer was lost: what it took is put back at once, by the node that asked for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use consistency_core::event::Event;
use consistency_core::fault::Point;
use consistency_core::state::State;
use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::faults::sitting::take_turn;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store, store_all};

/// Says that it ran.
#[consistency_task]
fn plain(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

/// A lease lost would end it.
#[consistency_task(max_attempts = 1)]
fn once(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

/// Longer than a test may take.
const LEASE: Duration = Duration::from_secs(60);
const SELDOM: Duration = Duration::from_secs(600);

fn builder(database: &Database, recorder: &Recorder, probe: &Arc<Probe>) -> OutboxBuilder {
    let builder = database.outbox().only([plain::NAME, once::NAME]).lease(LEASE).heartbeat(LEASE / 4);
    builder.inject(Arc::clone(probe)).listener(recorder.listener())
}

fn losses(recorder: &Recorder) -> usize {
    recorder.events().iter().filter(|event| matches!(event, Event::Rescued { .. })).count()
}

for_each_database! {
    fn what_a_claim_took_whose_answer_was_lost_runs_long_before_its_lease_ends(database: &Database) {
        let (turn, recorder, probe) = (take_turn(), Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let stored = store_all::<Conn>(database, &elsewhere, [plain(1), once(2)]);
        let claiming = turn.hold_next(Point::AfterClaim, true);
        let outbox = builder(database, &recorder, &probe).poll_interval(SELDOM).start_blocking().unwrap();
        claiming.wait();
        assert_eq!(database.count("consistency_task", "state = 1 AND execute_times = 1"), 2);
        let begun = Instant::now();
        claiming.leave();
        for task_id in &stored {
            recorder.wait_for_settled(task_id, State::Succeeded);
            let row = database.row(task_id);
            assert_eq!((row.execute_times, row.lost_times), (1, 0), "{row:?}");
        }
        assert!(begun.elapsed() < LEASE / 2);
        assert_eq!((losses(&recorder), probe.notes().len()), (0, 2));
        outbox.shutdown_blocking();
    }

    fn a_row_about_to_be_handed_over_is_no_row_of_a_lost_claim(database: &Database) {
        let (turn, recorder, probe) = (take_turn(), Recorder::new(), Probe::new());
        let outbox = builder(database, &recorder, &probe).migrate().poll_interval(Duration::from_millis(20));
        let outbox = outbox.start_blocking().unwrap();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let handing_over = turn.hold_next(Point::AfterCommit, false);
        std::thread::scope(|scope| {
            let committing = scope.spawn(|| store::<Conn>(database, &outbox, once(1)));
            handing_over.wait();
            let claiming = turn.hold_next(Point::AfterClaim, true);
            let claimed = store::<Conn>(database, &elsewhere, plain(2));
            claiming.wait();
            claiming.leave();
            recorder.wait_for_settled(&claimed, State::Succeeded);
            // Committed, leased to this node, and not yet known to it.
            assert_eq!(database.count("consistency_task", "state = 1 AND execute_times = 1"), 1);
            handing_over.leave();
            recorder.wait_for_settled(&committing.join().unwrap(), State::Succeeded);
        });
        assert_eq!(probe.notes(), ["2", "1"]);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), 2);
        outbox.shutdown_blocking();
    }
}
