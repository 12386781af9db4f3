//! Kills producer and worker at random moments, again and again: what was committed is delivered and charged for, the charge
//! once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod processes;

use std::collections::HashSet;
use std::time::Duration;

use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::processes::Stage;

/// How often each of the two programs is killed.
const KILLS: usize = 10;
/// A kill falls anywhere between the first instruction and the middle of the work.
const LATEST_KILL_MS: u64 = 600;
/// More than a producer can commit until it is killed.
const TOO_MANY: u32 = 1_000_000;

/// The seed of the moments: `CONSISTENCY_TEST_SEED`, or a new one.
fn seed() -> u64 {
    let given = std::env::var("CONSISTENCY_TEST_SEED").ok();
    given.map_or_else(rand::random, |text| text.parse().expect("CONSISTENCY_TEST_SEED is a number"))
}

/// The moments of all the kills of one program.
fn moments(random: &mut StdRng) -> Vec<Duration> {
    (0..KILLS).map(|_| Duration::from_millis(random.random_range(1..=LATEST_KILL_MS))).collect()
}

for_each_database! {
    fn whatever_is_killed_every_committed_letter_is_delivered_and_charged_for_once(database: &Database) {
        let seed = seed();
        println!("{BACKEND}: CONSISTENCY_TEST_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let stage = &Stage::on(database);
        let (for_producers, for_workers) = (moments(&mut random), moments(&mut random));

        let mut committed: HashSet<String> = std::thread::scope(|scope| {
            let producers = scope.spawn(|| {
                let killed = for_producers.into_iter().map(|moment| stage.producer(TOO_MANY).kill_after(moment));
                killed.flat_map(|killed| killed.committed().map(str::to_owned).collect::<Vec<_>>()).collect()
            });
            for moment in for_workers {
                stage.worker(4).kill_after(moment);
            }
            producers.join().unwrap()
        });
        let under_kills = committed.len();
        assert!(under_kills > 0, "no kill fell into the work");
        let last = stage.producer(50).wait();
        last.assert_well();
        committed.extend(last.committed().map(str::to_owned));
        assert_eq!(committed.len(), under_kills + 50);
        let held = database.count("consistency_task", "state = 1");
        println!("{BACKEND}: {under_kills} letters were committed between the kills, killed workers hold {held} tasks");

        // Those it takes over when their leases have run out.
        let worker = stage.worker(8);
        stage.wait_for_all();
        drop(worker);

        // A producer may have been killed between its COMMIT and its word.
        let letters: HashSet<String> = database.texts("SELECT id AS value FROM letter").into_iter().collect();
        assert!(committed.is_subset(&letters), "a committed letter is lost");
        assert_eq!(database.number("COUNT(*) FROM consistency_task"), 2 * letters.len() as i64);

        let charged = database.texts("SELECT letter_id AS value FROM postage");
        assert_eq!(charged.len(), letters.len(), "a letter was charged for twice, or not at all");
        assert_eq!(charged.into_iter().collect::<HashSet<_>>(), letters);

        let deliveries = stage.deliveries();
        let again = deliveries.values().filter(|times| **times > 1).count();
        println!("{BACKEND}: {} letters delivered, {again} of them more than once", letters.len());
        assert_eq!(deliveries.len(), letters.len(), "a letter was not delivered, or under two keys");
        assert_eq!(deliveries.into_keys().map(|(letter, _)| letter).collect::<HashSet<_>>(), letters);
        assert_eq!(database.backend(), BACKEND);
    }
}
