//! Kills the program at twenty random moments and starts it again each time: no order is lost, none is delivered twice.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod program;

use std::collections::HashSet;
use std::time::Duration;

use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::program::Stage;

/// Enough for the work to last longer than all the kills.
const ORDERS: i64 = 5_000;
const KILLS: usize = 20;
/// A kill falls anywhere between the first instruction and the middle of the work.
const LATEST_KILL_MS: u64 = 600;

/// The seed of the moments: `CONSISTENCY_TEST_SEED`, or a new one.
fn seed() -> u64 {
    let given = std::env::var("CONSISTENCY_TEST_SEED").ok();
    given.map_or_else(rand::random, |text| text.parse().expect("CONSISTENCY_TEST_SEED is a number"))
}

/// Every order stored, finished, booked, dispatched and told to the carrier: once each.
fn assert_everything_happened_once(database: &Database, stage: &Stage) {
    assert_eq!(database.number("COUNT(*) FROM customer_order"), ORDERS);
    assert_eq!(database.count("customer_order", "state = 'finished' AND parcel_no IS NOT NULL"), ORDERS);
    assert_eq!(database.number("COUNT(DISTINCT parcel_no) FROM customer_order"), ORDERS);
    assert_eq!(database.number("COUNT(*) FROM stock_booking"), ORDERS);
    assert_eq!(database.number("COUNT(DISTINCT order_no) FROM stock_booking"), ORDERS);
    assert_eq!(database.count("consistency_task", "state = 2"), 2 * ORDERS);
    assert_eq!(database.number("COUNT(*) FROM consistency_task"), 2 * ORDERS);

    let ledger = stage.ledger();
    let orders: HashSet<i64> = ledger.iter().map(|(order_no, _)| *order_no).collect();
    let keys: HashSet<&str> = ledger.iter().map(|(_, key)| key.as_str()).collect();
    assert_eq!(orders, (1..=ORDERS).collect());
    assert_eq!((ledger.len(), keys.len()), (orders.len(), orders.len()), "an order stands in the ledger twice");
}

for_each_database! {
    fn twenty_kills_at_random_moments_lose_nothing_and_double_nothing(database: &Database) {
        let seed = seed();
        println!("{BACKEND}: CONSISTENCY_TEST_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let stage = Stage::with_orders(ORDERS);
        stage.end_the_carriers_first_day();
        let mut stored = Vec::new();
        for kill in 1..=KILLS {
            let delay = Duration::from_millis(random.random_range(1..=LATEST_KILL_MS));
            let killed = stage.start_with_carrier(&database.url()).kill_after(delay);
            assert!(killed.is_some(), "everything was done before kill {kill}: give it more orders");
            let progress = database.try_execute("SELECT COUNT(*) FROM consistency_task");
            stored.push(if progress.is_ok() { database.count("consistency_task", "state = 2") } else { 0 });
        }
        println!("{BACKEND}: tasks done at each kill: {stored:?}");
        assert!(stored[KILLS - 1] > 0 && stored[0] < 2 * ORDERS, "the kills fell into the work");

        let ended = stage.start_with_carrier(&database.url()).wait();
        assert!(ended.status.success(), "{}: {}\n{}", ended.status, ended.errors, ended.output);
        assert_eq!(ended.errors, "");
        assert_everything_happened_once(database, &stage);

        let again = stage.start_with_carrier(&database.url()).wait();
        assert_eq!((again.status.code(), again.errors.as_str()), (Some(0), ""));
        assert!(again.output.contains(&format!("Everything is delivered already: {ORDERS} orders.")), "{}", again.output);
        assert_everything_happened_once(database, &stage);
        assert_eq!(database.backend(), BACKEND);
    }
}
