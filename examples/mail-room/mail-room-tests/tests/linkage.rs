//! The trap of a workspace with tasks in several libraries, and what the programs say when they cannot start.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod processes;

use std::process::Command;

use tempfile::TempDir;

use crate::processes::Process;

/// Runs a program that must refuse to start, and returns what it complained about.
fn complaint(command: Command) -> String {
    let ended = Process::start(command).wait();
    assert_eq!((ended.status.code(), ended.lines.len()), (Some(1), 0), "{}", ended.errors);
    ended.errors
}

#[test]
fn a_worker_that_names_no_crate_of_an_expected_task_does_not_start_and_says_how_to_mend_it() {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mail-room-forgetful-worker"));
    command.arg(folder.path().join("round-book.txt"));
    let complaint = complaint(command);
    assert!(complaint.contains("no function is registered under the name `letter.charge`"), "{complaint}");
    assert!(complaint.contains("write `use the_crate as _;`"), "{complaint}");
    assert!(!complaint.contains("letter.deliver"), "its crate is named: {complaint}");
}

#[test]
fn a_database_nobody_knows_is_refused_by_both_programs() {
    let folder = TempDir::new().unwrap();
    let programs =
        [env!("CARGO_BIN_EXE_mail-room-producer-under-test"), env!("CARGO_BIN_EXE_mail-room-worker-under-test")];
    for program in programs {
        let mut command = Command::new(program);
        command.args(["--database-url", "oracle://mail"]).current_dir(folder.path());
        let complaint = complaint(command);
        assert!(complaint.contains("sqlite://FILE"), "{program}: {complaint}");
    }
}
