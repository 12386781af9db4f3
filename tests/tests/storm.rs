//! The short form of the storm: processes that store and run tasks, killed again and again, and nothing is lost.

use std::process::Command;

use consistency_tests::database::Database;
use consistency_tests::for_each_database;

for_each_database! {
    fn a_storm_of_kills_loses_nothing_and_doubles_nothing_outside_the_windows(database: &Database) {
        let storm = ["run", database.backend().key(), "seconds=12", "kills=6", "tasks=1000", "rate=200"];
        let output = Command::new(env!("CARGO_BIN_EXE_storm")).args(storm).output().expect("the storm");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    }
}
