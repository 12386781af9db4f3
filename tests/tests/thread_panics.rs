//! A panic outside of a body, of a driver or a log, ends none of the runtime's threads: it is told, and the thread goes on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use consistency_core::error::StoreError;
use consistency_core::event::Event;
use consistency_core::fault::Point;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::faults::at_points::AtPoints;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::{Probe, store};
use parking_lot::MutexGuard;
use tracing::span;

/// Says that it ran.
#[consistency_task(retry_every = "1h")]
fn quick(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

/// Runs until the test lets it go.
#[consistency_task(retry_every = "1h")]
fn long(#[inject] probe: &Arc<Probe>) {
    probe.note("begun");
    probe.go.wait_for(1);
}

/// What happens at the points of this process.
#[derive(Default)]
struct Points {
    /// Where the next thread panics.
    panics: Option<Point>,
    reached: HashMap<Point, usize>,
}

static POINTS: AtPoints<Points> = AtPoints::new(meet);
/// Whether the log panics on the settling thread, and how often it has.
static LOG_PANICS: AtomicBool = AtomicBool::new(false);
static LOG_PANICKED: AtomicUsize = AtomicUsize::new(0);

/// The points of this process belong to one test at a time, and so does its log.
fn turn() -> MutexGuard<'static, ()> {
    static LOGGED: Once = Once::new();
    LOGGED.call_once(|| tracing::subscriber::set_global_default(PanickingLog).unwrap());
    POINTS.take_turn()
}

fn panic_next_at(point: Point) {
    POINTS.with(|points| points.panics = Some(point));
}

fn meet(point: Point) -> Result<(), StoreError> {
    let panics = POINTS.with(|points| {
        *points.reached.entry(point).or_default() += 1;
        points.panics.take_if(|panics| *panics == point).is_some()
    });
    assert!(!panics, "the driver is broken");
    Ok(())
}

/// Writes nothing, and panics when it is to.
struct PanickingLog;

impl tracing::Subscriber for PanickingLog {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, _event: &tracing::Event<'_>) {
        if LOG_PANICS.load(Ordering::Acquire) && std::thread::current().name() == Some("consistency-settle") {
            LOG_PANICKED.fetch_add(1, Ordering::AcqRel);
            panic!("the log is broken");
        }
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// Waits until the runtime tells of a panic while doing this.
fn wait_for_panic(recorder: &Recorder, wanted: &str) {
    recorder.wait_for(&format!("the panic while it tries to {wanted}"), |events| {
        events.iter().any(|event| matches!(
            event, Event::StoreTrouble { doing, error } if *doing == wanted && error.contains("the driver is broken")
        ))
    });
}

for_each_database! {
    items {
        /// Writes in its own transaction.
        #[consistency_task(retry_every = "50ms")]
        fn writes(number: i64, #[tx] tx: &mut TaskTx<Conn>) -> Result<(), diesel::result::Error> {
            use diesel::RunQueryDsl;
            diesel::sql_query(format!("INSERT INTO business (id) VALUES ({number})")).execute(tx)?;
            Ok(())
        }
    }

    fn the_dispatcher_goes_on(database: &Database) {
        let _turn = turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([quick::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        panic_next_at(Point::BeforeClaim);
        let task_id = store::<Conn>(database, &outbox, quick(1).delay(Duration::from_millis(10)));
        recorder.wait_for_settled(&task_id, State::Succeeded);
        wait_for_panic(&recorder, "look for due tasks");
        wait_until("the trouble to be over", || outbox.trouble().is_none());
        outbox.shutdown_blocking();
    }

    fn the_settler_goes_on_and_writes_the_outcome_it_had(database: &Database) {
        let _turn = turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([quick::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        panic_next_at(Point::BeforeSettle);
        let task_id = store::<Conn>(database, &outbox, quick(1));
        recorder.wait_for_settled(&task_id, State::Succeeded);
        wait_for_panic(&recorder, "settle");
        assert_eq!((database.row(&task_id).execute_times, probe.count("1")), (1, 1));
        outbox.shutdown_blocking();
    }

    fn the_heartbeat_goes_on(database: &Database) {
        let _turn = turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([long::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.lease(Duration::from_secs(2)).heartbeat(Duration::from_millis(100)).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        panic_next_at(Point::BeforeHeartbeat);
        wait_for_panic(&recorder, "renew leases");
        let beats = || POINTS.with(|points| points.reached.get(&Point::AfterHeartbeat).copied().unwrap_or(0));
        let before = beats();
        wait_until("more beats", || beats() > before + 2);
        probe.go.raise();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        outbox.shutdown_blocking();
    }

    fn a_log_that_panics_changes_nothing(database: &Database) {
        let _turn = turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([quick::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let before = LOG_PANICKED.load(Ordering::Acquire);
        LOG_PANICS.store(true, Ordering::Release);
        let first = store::<Conn>(database, &outbox, quick(1));
        wait_until("the log to panic", || LOG_PANICKED.load(Ordering::Acquire) > before);
        LOG_PANICS.store(false, Ordering::Release);
        recorder.wait_for_settled(&first, State::Succeeded);
        let second = store::<Conn>(database, &outbox, quick(2));
        recorder.wait_for_settled(&second, State::Succeeded);
        outbox.shutdown_blocking();
    }

    fn a_panic_beside_a_body_puts_its_row_back(database: &Database) {
        let _turn = turn();
        database.execute("CREATE TABLE business (id INTEGER NOT NULL PRIMARY KEY)");
        let recorder = Recorder::new();
        let outbox = database.outbox().only([writes::NAME]).listener(recorder.listener()).store_timeout(Duration::from_secs(60));
        let outbox = outbox.start_blocking().unwrap();
        panic_next_at(Point::BeforeComplete);
        let task_id = store::<Conn>(database, &outbox, writes(7));
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.lost_times, database.count("business", "id = 7")), (1, 0, 1));
        outbox.shutdown_blocking();
    }
}
