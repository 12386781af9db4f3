//! Nodes without room, or in the middle of something: what they claim next, what they tell, and how they stop.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consistency_core::error::StoreError;
use consistency_core::event::Event;
use consistency_core::fault::Point;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::faults::at_points::AtPoints;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Latch, Recorder, wait_until};
use consistency_tests::scene::{Probe, store, store_all};

/// Runs until the test lets it go.
#[consistency_task(retry_every = "1h")]
fn long(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
    probe.go.wait_for(1);
}

/// Ends as soon as it is asked to, in success.
#[consistency_task]
async fn tidy(#[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) {
    probe.note("begun");
    cx.cancelled().await;
    probe.note("asked to end");
}

/// What happens at the points of this process.
#[derive(Default)]
struct Points {
    fails: HashSet<Point>,
    /// Where a thread waits until the latch is raised.
    held: Option<(Point, Latch)>,
}

static POINTS: AtPoints<Points> = AtPoints::new(meet);

fn meet(point: Point) -> Result<(), StoreError> {
    let (fails, held) =
        POINTS.with(|points| (points.fails.contains(&point), points.held.take_if(|(held, _)| *held == point)));
    if let Some((_, go)) = held {
        go.wait_for(1);
    }
    if fails { Err(StoreError::Transient("cut off".into())) } else { Ok(()) }
}

/// Far above the patience that the tests give.
const BEYOND: Duration = Duration::from_millis(400);

fn left_unwritten(recorder: &Recorder) -> usize {
    match recorder.events().last() {
        Some(Event::Stopped { unwritten, .. }) => *unwritten,
        other => panic!("the last event is {other:?}"),
    }
}

for_each_database! {
    fn a_failed_rescue_is_told_by_its_own_name_and_is_over_when_one_succeeds(database: &Database) {
        let _turn = POINTS.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([long::NAME]).concurrency(1).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        store::<Conn>(database, &outbox, long(1));
        probe.wait_for("1", 1);
        POINTS.with(|points| { points.fails.insert(Point::BeforeRescue); });
        wait_until("the trouble to be told", || {
            outbox.trouble().is_some_and(|trouble| trouble.doing == "take back rows whose lease has ended")
        });
        POINTS.with(|points| points.fails.clear());
        wait_until("the trouble to be over", || outbox.trouble().is_none());
        assert_eq!(outbox.running().len(), 1);
        probe.go.raise();
        outbox.shutdown_blocking();
    }

    fn small_claims_take_no_worse_priority_while_better_rows_wait(database: &Database) {
        let _turn = POINTS.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let producer = database.outbox().enqueue_only().start_blocking().unwrap();
        store_all::<Conn>(database, &producer, (11..=14).map(|number| long(number).priority(9)));
        store_all::<Conn>(database, &producer, (1..=4).map(|number| long(number).priority(1)));
        let outbox = database.outbox().only([long::NAME]).concurrency(4).claim_batch(2).inject(Arc::clone(&probe));
        let outbox = outbox.listener(recorder.listener()).start_blocking().unwrap();
        probe.wait_for_notes(4);
        let mut first = probe.notes();
        first.sort();
        assert_eq!(first, ["1", "2", "3", "4"]);
        probe.go.raise();
        recorder.wait_for_count(8, State::Succeeded);
        outbox.shutdown_blocking();
    }

    fn a_claim_in_flight_at_the_stop_gives_its_rows_back(database: &Database) {
        let _turn = POINTS.take_turn();
        let (recorder, probe, claimed) = (Recorder::new(), Probe::new(), Latch::new());
        let builder = database.outbox().only([long::NAME, tidy::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = builder.busy_wait(Duration::from_millis(100)).start_blocking().unwrap();
        store::<Conn>(database, &outbox, tidy());
        probe.wait_for("begun", 1);
        POINTS.with(|points| points.held = Some((Point::AfterClaim, claimed.clone())));
        let task_id = store::<Conn>(database, &outbox, long(1).delay(Duration::from_millis(10)));
        wait_until("the claim", || database.row(&task_id).state() == State::Running);
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.shutdown_blocking());
            probe.wait_for("asked to end", 1);
            let asked = Instant::now();
            wait_until("its patience to be over", || asked.elapsed() > BEYOND);
            claimed.raise();
        });
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.lease_owner), (State::Pending, 0, None));
        assert_eq!(left_unwritten(&recorder), 0);
    }

    fn the_settler_has_its_own_time_at_the_stop(database: &Database) {
        let _turn = POINTS.take_turn();
        let (recorder, probe, settles) = (Recorder::new(), Probe::new(), Latch::new());
        let builder = database.outbox().only([tidy::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = builder.busy_wait(Duration::from_millis(100)).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, tidy());
        probe.wait_for("begun", 1);
        POINTS.with(|points| points.held = Some((Point::BeforeSettle, settles.clone())));
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.shutdown_blocking());
            probe.wait_for("asked to end", 1);
            let asked = Instant::now();
            wait_until("its patience to be over", || asked.elapsed() > BEYOND);
            settles.raise();
        });
        assert_eq!(database.row(&task_id).state(), State::Succeeded);
        assert_eq!(left_unwritten(&recorder), 0);
    }

    fn what_is_left_unwritten_at_the_stop_is_told(database: &Database) {
        let _turn = POINTS.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let builder = database.outbox().only([tidy::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let patience = Duration::from_secs(1);
        let outbox = builder.busy_wait(patience).store_timeout(patience).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, tidy());
        probe.wait_for("begun", 1);
        POINTS.with(|points| { points.fails.insert(Point::BeforeSettle); });
        outbox.shutdown_blocking();
        assert_eq!(database.row(&task_id).state(), State::Running, "its lease runs out");
        assert_eq!(left_unwritten(&recorder), 1);
    }
}
