//! Asks the worker to stop in the middle of its work, and shows that it ends in good order and leaves the rest to the next.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod processes;

use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::wait_until;

use crate::processes::{Process, Stage};

const LETTERS: i64 = 500;

for_each_database! {
    fn a_worker_told_to_stop_ends_with_0_runs_nothing_and_loses_nothing(database: &Database) {
        let stage = Stage::on(database);
        // The first creates the tables; then two at once.
        stage.producer(0).wait().assert_well();
        let producers = [stage.producer(LETTERS as u32 / 2), stage.producer(LETTERS as u32 / 2)];
        for producer in producers.map(Process::wait) {
            producer.assert_well();
            assert_eq!(producer.committed().count() as i64, LETTERS / 2);
        }
        // A producer runs nothing.
        assert_eq!(database.count("consistency_task", "state = 0 AND execute_times = 0"), 2 * LETTERS);

        // One slot, so that the signal falls into the work.
        let first = stage.worker(1);
        wait_until("some task to succeed", || database.count("consistency_task", "state = 2") > 0);
        first.signal("TERM");
        let ended = first.wait();
        ended.assert_well();
        assert_eq!(ended.lines, ["started", "stopped"]);
        let done = database.count("consistency_task", "state = 2");
        assert!(done < 2 * LETTERS, "everything was done before the signal");
        assert_eq!(database.count("consistency_task", "state = 0 AND NULLIF(lease_owner, '') IS NULL"), 2 * LETTERS - done);

        let second = stage.worker(8);
        stage.wait_for_all();
        second.signal("INT");
        second.wait().assert_well();

        // Nothing was cut off, so nothing was tried twice.
        let at_once = "state = 2 AND execute_times = 1 AND lost_times = 0";
        assert_eq!(database.count("consistency_task", at_once), 2 * LETTERS);
        assert_eq!(database.number("COUNT(*) FROM postage"), LETTERS);
        let deliveries = stage.deliveries();
        assert_eq!(deliveries.len() as i64, LETTERS);
        assert!(deliveries.values().all(|times| *times == 1));
        assert_eq!(database.backend(), BACKEND);
    }
}
