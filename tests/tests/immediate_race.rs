//! The immediate run and the pollers of several outboxes at the same instant: thousands of times, one run each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store_all};

#[consistency_task]
fn in_a_thread(number: usize, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

#[consistency_task]
async fn in_a_future(number: usize, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

#[consistency_task(run_on = caller)]
fn on_the_caller(number: usize, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

/// A call of each kind in turn: handed over after the commit, or pending and so raced for by every poller.
fn call(number: usize) -> Call {
    match number % 4 {
        0 => in_a_thread(number),
        1 => in_a_future(number),
        2 => on_the_caller(number),
        _ => in_a_thread(number).key(format!("key-{number}")),
    }
}

const CALLS: usize = 2_400;

for_each_database! {
    fn every_one_of_thousands_of_immediate_calls_runs_once_whoever_looks(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let start = || {
            let builder = database.outbox().only([in_a_thread::NAME, in_a_future::NAME, on_the_caller::NAME]);
            let builder = builder.inject(Arc::clone(&probe)).poll_interval(Duration::from_millis(1));
            builder.listener(recorder.listener()).start_blocking().unwrap()
        };
        let outboxes: [Outbox; 3] = [start(), start(), start()];
        // SQLite has one writer, so its transactions are fewer and larger.
        let per_transaction = if BACKEND == Backend::Sqlite { 8 } else { 2 };
        let numbers: Vec<usize> = (0..CALLS).collect();
        std::thread::scope(|scope| {
            for (half, outbox) in numbers.chunks(CALLS / 2).zip(&outboxes) {
                scope.spawn(move || {
                    for part in half.chunks(per_transaction) {
                        store_all::<Conn>(database, outbox, part.iter().copied().map(call));
                    }
                });
            }
        });
        let mut reached = 0;
        while reached < CALLS {
            // Each further hundred has a deadline of its own.
            reached = (reached + 100).min(CALLS);
            recorder.wait_for_count(reached, State::Succeeded);
        }
        outboxes.iter().for_each(Outbox::shutdown_blocking);

        let mut runs: HashMap<String, usize> = HashMap::new();
        probe.notes().into_iter().for_each(|number| *runs.entry(number).or_default() += 1);
        let doubled: Vec<_> = runs.iter().filter(|(_, count)| **count != 1).collect();
        assert!(doubled.is_empty(), "ran more than once: {doubled:?}");
        assert_eq!(runs.len(), CALLS);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), CALLS as i64);
        assert_eq!(database.number("COUNT(*) FROM consistency_task"), CALLS as i64);
        assert_eq!(recorder.count(State::Succeeded), CALLS);
        let wrong = |event: &Event| matches!(event, Event::LeaseLost { .. } | Event::Rescued { .. } | Event::StoreTrouble { .. });
        assert_eq!(recorder.events().into_iter().find(wrong).map(|event| format!("{event:?}")), None);
    }
}
