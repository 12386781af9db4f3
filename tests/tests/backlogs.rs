//! What lies in the table, much as it may be, holds up nothing that is due: dead rows, rows nobody here knows, rows of the
//! future, ten thousand rows of a noisy task, and a table being pruned.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::bulk::Bulk;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::length::is_long;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store, store_all};

#[consistency_task]
fn quiet(#[inject] probe: &Arc<Probe>) {
    probe.note("quiet");
}

/// Runs until the test lets it go.
#[consistency_task]
fn noisy(#[inject] probe: &Arc<Probe>) {
    probe.note("noisy");
    probe.go.wait_for(1);
}

#[consistency_task(name = "backlogs.noisy_apart", queue = "noisy")]
fn noisy_apart(#[inject] probe: &Arc<Probe>) {
    probe.note("noisy");
    probe.go.wait_for(1);
}

const NAMES: [&str; 3] = [quiet::NAME, noisy::NAME, noisy_apart::NAME];
/// So long that no test below could pass by waiting for a second look.
const SELDOM: Duration = Duration::from_secs(600);
const DAY: i64 = 86_400;

/// As many rows, or many times as many in the long form.
fn rows(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}

/// Starts an outbox that looks once, and runs the one due row that another process has left behind, known by its key.
fn the_due_row_runs_at_the_first_look<C>(database: &Database)
where
    C: consistency_diesel::blocking_connection::BlockingConnection,
{
    let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
    let due = store::<C>(database, &elsewhere, quiet().key("due"));
    let recorder = Recorder::new();
    let builder =
        database.outbox().only(NAMES).poll_interval(SELDOM).inject(Probe::new()).listener(recorder.listener());
    let outbox = builder.start_blocking().unwrap();
    recorder.wait_for_settled(&due, State::Succeeded);
    outbox.shutdown_blocking();
}

for_each_database! {
    fn ten_thousand_dead_rows_delay_no_due_one(database: &Database) {
        database.migrate();
        Bulk { state: 4, ..Bulk::due("dead", quiet::NAME, 10_000) }.load(database);
        the_due_row_runs_at_the_first_look::<Conn>(database);
        assert_eq!(database.count("consistency_task", "state = 4"), 10_000);
    }

    fn rows_of_the_future_delay_no_due_one_however_good_their_priority(database: &Database) {
        database.migrate();
        let future = rows(10_000, 1_000_000);
        Bulk { priority: 0, seconds: DAY, ..Bulk::due("later", quiet::NAME, future) }.load(database);
        the_due_row_runs_at_the_first_look::<Conn>(database);
        assert_eq!(database.count("consistency_task", "state = 0 AND version = 0"), future as i64);
    }

    fn rows_nobody_here_knows_delay_no_due_one_and_stay_as_they_are(database: &Database) {
        database.migrate();
        let unknown = rows(10_000, 100_000);
        Bulk::due("unknown", "gone::somewhere", unknown).load(database);
        the_due_row_runs_at_the_first_look::<Conn>(database);
        let untouched = "method_name = 'gone::somewhere' AND state = 0 AND version = 0 AND execute_times = 0";
        assert_eq!(database.count("consistency_task", untouched), unknown as i64);
    }

    fn in_one_queue_the_oldest_due_goes_first_unless_another_has_a_better_priority(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        Bulk::due("noisy", noisy::NAME, 10_000).load(database);
        let builder = database.outbox().only(NAMES).concurrency(2).inject(Arc::clone(&probe));
        let outbox = builder.listener(recorder.listener()).start_blocking().unwrap();
        probe.wait_for("noisy", 2);
        let behind = store::<Conn>(database, &outbox, quiet().key("behind"));
        let before = store::<Conn>(database, &outbox, quiet().key("before").priority(1));
        probe.go.raise();
        recorder.wait_for_settled(&before, State::Succeeded);
        // What had been claimed ahead of it went first: a short line, and not the ten thousand.
        let notes = probe.notes();
        let ahead = notes.iter().position(|note| note == "quiet").unwrap();
        assert!(ahead < 5_000, "{ahead} noisy ones went before the better priority");
        outbox.shutdown_blocking();
        let row = database.row(&behind);
        assert!(row.state() != State::Succeeded || probe.count("noisy") > 9_900, "{row:?} overtook what was due before it");
    }

    fn a_noisy_task_with_a_queue_of_its_own_delays_no_other(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        Bulk { queue: "noisy", ..Bulk::due("noisy", noisy_apart::NAME, 10_000) }.load(database);
        let builder = database.outbox().only(NAMES).queue("noisy", 4).inject(Arc::clone(&probe));
        let outbox = builder.listener(recorder.listener()).start_blocking().unwrap();
        probe.wait_for("noisy", 4);
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let due = store_all::<Conn>(database, &elsewhere, (0..20).map(|_| quiet()));
        recorder.wait_for_count(due.len(), State::Succeeded);
        assert_eq!(probe.count("noisy"), 4, "all of its slots are taken, and no other");
        assert_eq!(database.count("consistency_task", "queue = 'noisy' AND state = 0"), 10_000 - 4);
        probe.go.raise();
        outbox.shutdown_blocking();
    }

    fn a_table_is_pruned_while_tasks_run(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let finished = rows(30_000, 1_000_000);
        // What waits for months has small ids: pruning passes it by.
        Bulk { seconds: 90 * DAY, ..Bulk::due("later", quiet::NAME, finished / 3) }.load(database);
        Bulk { state: 2, seconds: -7 * DAY, ..Bulk::due("old", quiet::NAME, finished) }.load(database);
        let builder = database.outbox().only(NAMES).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = builder.start_blocking().unwrap();
        let (mut pruned, mut ran) = (0, 0);
        let begun = std::time::Instant::now();
        let longest = std::thread::scope(|scope| {
            let pruning = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                loop {
                    let begun = std::time::Instant::now();
                    let batch = outbox.prune_blocking(Duration::from_secs(3_600), 1_000).unwrap();
                    longest = longest.max(begun.elapsed());
                    pruned += batch;
                    if batch == 0 {
                        return longest;
                    }
                }
            });
            while !pruning.is_finished() {
                let stored = store_all::<Conn>(database, &outbox, [quiet(), quiet().delay(Duration::from_millis(1))]);
                ran += stored.len();
                stored.iter().for_each(|task_id| recorder.wait_for_settled(task_id, State::Succeeded));
            }
            pruning.join().unwrap()
        });
        eprintln!("{BACKEND}: {pruned} rows pruned in {:?}, the longest batch {longest:?}; {ran} ran meanwhile", begun.elapsed());
        outbox.shutdown_blocking();
        assert_eq!(pruned, finished);
        assert_eq!(database.count("consistency_task", "state = 2"), ran as i64, "what is younger stays");
        assert_eq!(database.count("consistency_task", "state = 0"), (finished / 3) as i64);
        let troubled = recorder.events().into_iter().any(|event| matches!(event, Event::StoreTrouble { .. }));
        assert!(!troubled, "{:?}", recorder.events());
    }
}
