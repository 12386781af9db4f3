//! Each judgement is shown failing: a storm that held everything, spoilt in one place.

use consistency_core::state::State;
use consistency_tests::backend::Backend;

use super::{Killed, Verdict};
use crate::found::{Found, Task};
use crate::ledger::{Account, Micros, Run, Told};

const SECOND: Micros = 1_000_000;

/// Order 1 with tasks 11 and 12 of one key, order 2 with task 21, which books.
#[derive(Debug)]
struct Storm {
    found: Found,
    accounts: Vec<Account>,
    killed: Vec<Killed>,
}

fn run(task: i64, process: u32, began: Micros) -> Run {
    Run { task, process, began, ended: Some(began + 10), failed: false }
}

fn calm() -> Storm {
    let task = |order, key: Option<&str>, books| Task {
        order: Some(order),
        state: State::Succeeded,
        books,
        key: key.map(str::to_owned),
    };
    let tasks = [(11, task(1, Some("key"), false)), (12, task(1, Some("key"), false)), (21, task(2, None, true))];
    let found = Found { orders: [(1, 2), (2, 1)].into(), tasks: tasks.into(), bookings: [(21, 1)].into() };
    let runs = vec![run(11, 0, 1_000), run(12, 0, 2_000), run(21, 0, 3_000)];
    let succeeded = vec![(11, 1_500), (12, 2_500), (21, 3_500)];
    let told = vec![(1, Told::Committed), (2, Told::Committed), (3, Told::Failed), (4, Told::Unknown)];
    Storm { found, accounts: vec![Account { told, runs, succeeded }, Account::default()], killed: Vec::new() }
}

/// What is broken of a storm that was spoilt, by name.
#[track_caller]
fn broken(spoil: impl FnOnce(&mut Storm)) -> Vec<&'static str> {
    let mut storm = calm();
    spoil(&mut storm);
    let verdict = Verdict::of(Backend::Sqlite, &storm.found, &storm.accounts, &storm.killed);
    verdict.broken.iter().filter(|(_, count)| **count > 0).map(|(name, _)| *name).collect()
}

/// As [`broken`], and how many repeated runs were taken for those of a window.
fn windows(spoil: impl FnOnce(&mut Storm)) -> u64 {
    let mut storm = calm();
    spoil(&mut storm);
    let verdict = Verdict::of(Backend::Sqlite, &storm.found, &storm.accounts, &storm.killed);
    assert!(verdict.is_good(), "{verdict:?}");
    verdict.figures.get("doubled_in_windows").copied().unwrap_or_default()
}

/// Process 0 runs task 11 up to `ended` and is killed at `killed`; process 1 runs it again 20 s later. Nobody tells of the
/// success before.
fn run_again(storm: &mut Storm, ended: Option<Micros>, killed: Micros) {
    storm.accounts[0].runs[0].ended = ended;
    storm.accounts[0].succeeded.remove(0);
    // The row behind it comes later still.
    storm.accounts[0].runs.remove(1);
    storm.accounts[0].succeeded.remove(0);
    storm.accounts[1].runs = vec![run(11, 1, 20 * SECOND), run(12, 1, 21 * SECOND)];
    storm.killed = vec![Killed { process: 0, at: killed }];
}

#[test]
fn a_storm_that_held_everything_is_good() {
    assert_eq!(broken(|_| {}), [""; 0]);
}

#[test]
fn what_was_told_to_be_committed_and_is_not_there_is_lost() {
    assert_eq!(broken(|storm| storm.accounts[0].told.push((9, Told::Committed))), ["lost"]);
    assert_eq!(broken(|storm| drop(storm.found.tasks.remove(&12))), ["ghosts", "lost"]);
}

#[test]
fn what_succeeded_without_a_run_that_ended_well_is_lost() {
    assert_eq!(broken(|storm| storm.accounts[0].runs[0].failed = true), ["lost"]);
    assert_eq!(broken(|storm| storm.accounts[0].runs[2].ended = None), ["lost"]);
}

#[test]
fn what_was_rolled_back_and_is_there_is_a_ghost() {
    assert_eq!(broken(|storm| storm.accounts[0].told.push((2, Told::Failed))), ["ghosts"]);
    assert_eq!(broken(|storm| _ = storm.found.orders.insert(1, 1)), ["ghosts"]);
}

#[test]
fn what_did_not_end_is_stuck_or_dead() {
    let ends_as = |state| broken(|storm| storm.found.tasks.get_mut(&11).unwrap().state = state);
    assert_eq!((ends_as(State::Running), ends_as(State::Dead)), (vec!["stuck"], vec!["dead"]));
}

#[test]
fn a_run_whose_process_died_before_its_outcome_was_written_is_one_of_a_window() {
    assert_eq!(windows(|storm| run_again(storm, None, 2 * SECOND)), 1);
    assert_eq!(windows(|storm| run_again(storm, Some(1_010), 2 * SECOND)), 1);
}

#[test]
fn a_run_after_a_success_that_was_told_is_doubled() {
    let spoil = |storm: &mut Storm| {
        run_again(storm, Some(1_010), 2 * SECOND);
        storm.accounts[0].succeeded = vec![(11, 1_500)];
    };
    assert_eq!(broken(spoil), ["doubled_outside"]);
}

#[test]
fn a_run_again_without_a_kill_or_long_before_it_is_doubled() {
    assert_eq!(broken(|storm| run_again(storm, Some(1_010), 19 * SECOND)), ["doubled_outside"]);
    assert_eq!(broken(|storm| run_again(storm, None, 20 * SECOND + 1)), ["doubled_outside"]);
    let alive = |storm: &mut Storm| {
        run_again(storm, Some(1_010), 2 * SECOND);
        storm.killed.clear();
    };
    assert_eq!(broken(alive), ["doubled_outside"]);
}

#[test]
fn a_booking_too_many_or_too_few_is_wrong() {
    assert_eq!(broken(|storm| _ = storm.found.bookings.insert(21, 2)), ["bookings_wrong"]);
    assert_eq!(broken(|storm| _ = storm.found.bookings.remove(&21)), ["bookings_wrong"]);
    assert_eq!(broken(|storm| _ = storm.found.bookings.insert(11, 1)), ["ghosts"]);
}

#[test]
fn a_row_that_begins_before_the_one_before_it_is_over_breaks_the_order() {
    assert_eq!(broken(|storm| storm.accounts[0].runs[1].began = 1_005), ["order_broken"]);
    let cut_off = |storm: &mut Storm| {
        storm.accounts[0].runs.push(Run { ended: None, ..run(11, 0, 900) });
        storm.killed = vec![Killed { process: 0, at: 2_100 }];
    };
    assert!(broken(cut_off).contains(&"order_broken"));
}
