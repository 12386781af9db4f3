//! Ordering keys: one at a time, in the order of the commits, whatever fails, and each key by itself.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, retry_by_hand, store, store_all};

/// Fails at its first attempt now and then.
#[consistency_task(retry_every = "10ms")]
async fn step(key: &str, number: i64, #[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) -> Result<(), String> {
    let _inside = probe.enter(key);
    tokio::time::sleep(Duration::from_micros(500)).await;
    if number % 5 == 0 && cx.attempt() == 1 {
        return Err("not the first time".to_owned());
    }
    probe.note(format!("{key} {number}"));
    Ok(())
}

/// Dies while the test has not mended it.
#[consistency_task]
fn fragile(key: &str, number: i64, #[inject] probe: &Arc<Probe>) -> Result<(), TaskError> {
    if number == 0 && probe.go.count() == 0 {
        return Err(TaskError::permanent("a poison head"));
    }
    probe.note(format!("{key} {number}"));
    Ok(())
}

/// Runs until the test lets it go.
#[consistency_task]
fn slow(key: &str, number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("{key} {number}"));
    probe.go.wait_for(usize::try_from(number).unwrap());
}

const KEYS: [&str; 3] = ["red", "green", "blue"];

for_each_database! {
    fn rows_of_one_key_run_alone_and_in_the_order_of_their_commits(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let start = || {
            let builder = database.outbox().only([step::NAME]).inject(Arc::clone(&probe)).poll_interval(Duration::from_millis(5));
            builder.listener(recorder.listener()).start_blocking().unwrap()
        };
        let outboxes = [start(), start()];
        // Several writers race for the same keys; who commits first is first.
        std::thread::scope(|scope| {
            for (writer, outbox) in (0..4).zip(outboxes.iter().cycle()) {
                scope.spawn(move || {
                    for number in 0..12 {
                        let key = KEYS[number % KEYS.len()];
                        store::<Conn>(database, outbox, step(key, (writer * 100 + number) as i64).ordered_by(key));
                    }
                });
            }
        });
        recorder.wait_for_count(48, State::Succeeded);
        let notes = probe.notes();
        for key in KEYS {
            let committed: Vec<String> = database
                .rows(&format!("order_key = '{key}'"))
                .iter()
                .map(|row| {
                    let arguments: serde_json::Value = serde_json::from_str(&row.task_parameter).unwrap();
                    format!("{key} {}", arguments["number"])
                })
                .collect();
            let ran: Vec<&String> = notes.iter().filter(|note| note.starts_with(key)).collect();
            assert_eq!(ran, committed.iter().collect::<Vec<_>>());
            assert_eq!(ran.len(), 16);
            assert_eq!(probe.most_inside(key), 1, "{key}: two ran at once");
        }
        assert_eq!(database.count("consistency_task", "state = 2 AND error_message IS NULL"), 48);
        for outbox in outboxes {
            outbox.shutdown_blocking();
        }
    }

    fn a_dead_head_holds_up_its_own_key_alone_until_it_is_mended(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([fragile::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let poisoned = store_all::<Conn>(database, &outbox, (0..3).map(|number| fragile("red", number).ordered_by("red")));
        recorder.wait_for_settled(&poisoned[0], State::Dead);
        let flowing = store_all::<Conn>(database, &outbox, (1..6).map(|number| fragile("blue", number).ordered_by("blue")));
        recorder.wait_for_settled(flowing.last().unwrap(), State::Succeeded);
        let free = store::<Conn>(database, &outbox, fragile("free", 1));
        recorder.wait_for_settled(&free, State::Succeeded);
        for task_id in &poisoned[1..] {
            let row = database.row(task_id);
            assert_eq!((row.state(), row.owners()), (State::Pending, 0), "it waits behind the dead one");
        }
        assert!(!probe.notes().iter().any(|note| note.starts_with("red")));

        probe.go.raise();
        retry_by_hand(database, &format!("task_id = '{}'", poisoned[0]));
        recorder.wait_for_settled(&poisoned[2], State::Succeeded);
        let red: Vec<String> = probe.notes().into_iter().filter(|note| note.starts_with("red")).collect();
        assert_eq!(red, ["red 0", "red 1", "red 2"]);
        outbox.shutdown_blocking();
    }

    fn the_next_of_a_key_waits_for_a_slow_one_while_other_keys_flow(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([slow::NAME, fragile::NAME]).inject(Arc::clone(&probe));
        let outbox = outbox.listener(recorder.listener()).start_blocking().unwrap();
        let red = store_all::<Conn>(database, &outbox, [slow("red", 1).ordered_by("red"), slow("red", 2).ordered_by("red")]);
        probe.wait_for("red 1", 1);
        let blue = store_all::<Conn>(database, &outbox, (1..9).map(|number| fragile("blue", number).ordered_by("blue")));
        recorder.wait_for_settled(blue.last().unwrap(), State::Succeeded);
        assert_eq!(probe.count("red 2"), 0);
        assert_eq!(database.row(&red[1]).state(), State::Pending);
        probe.go.raise();
        probe.wait_for("red 2", 1);
        assert_eq!(database.row(&red[0]).state(), State::Succeeded, "the first is settled before the second begins");
        probe.go.raise();
        recorder.wait_for_settled(&red[1], State::Succeeded);
        outbox.shutdown_blocking();
    }
}
