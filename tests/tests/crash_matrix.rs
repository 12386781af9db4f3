//! A process that is struck at every place of a task's path, in every mode, in both worlds, on every database: it dies, and
//! another one takes over, or it lives on; every invariant holds afterwards.

use std::os::unix::process::ExitStatusExt;

use consistency_core::fault::Point::{
    self, AfterCommit, AfterComplete, AfterCompleteCommit, AfterInsert, AfterRun, BeforeSettle,
};
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::faults::crash::{Case, SHORT_LEASE, database_now, for_each_case, some_of, wait_until_ended_or};
use consistency_tests::faults::fault_node::FaultNode;
use consistency_tests::faults::history::History;
use consistency_tests::faults::invariant::{Terms, assert_holds};
use consistency_tests::faults::orders::prepare;
use consistency_tests::faults::plan::{Place, What};
use consistency_tests::faults::setup::{Mode, World};
use consistency_tests::for_each_world;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fault_node");

/// The places whose loss would be somebody's: they are in the short form too.
fn is_heart(case: Case) -> bool {
    let hearts: &[Point] = if case.mode.books() {
        &[AfterCommit, AfterComplete, AfterCompleteCommit]
    } else {
        &[AfterCommit, AfterRun, BeforeSettle]
    };
    case.place == Place::MidRun || hearts.iter().any(|point| case.place == Place::At(*point))
}

fn cases(world: World, mode: Mode) -> Vec<Case> {
    Place::all().map(|place| Case { place, mode, world }).filter(|case| case.makes_sense()).collect()
}

/// Of every mode.
fn all_cases(world: World) -> Vec<Case> {
    Mode::ALL.into_iter().flat_map(|mode| cases(world, mode)).collect()
}

/// The process dies by `signal` at each place, and another one takes over.
fn assert_survived(backend: Backend, cases: &[Case], what: What, signal: i32) {
    for_each_case(cases, |case| {
        let database = &Database::fresh(backend).unwrap();
        let after = case.crash(PROGRAM, database, what);
        assert_eq!(after.status.signal(), Some(signal), "{case:?}: {:?}", after.said);
        let terms = Terms { served_since: Some(after.served_since), ..Terms::default() };
        assert_holds(&after.history, &terms, &format!("{backend}, {what:?}, {case:?}, {:?}", after.said));
    });
}

fn assert_kills_survived(backend: Backend, world: World, mode: Mode) {
    assert_survived(backend, &some_of(cases(world, mode), is_heart, 1), What::Kill, 9);
}

/// The process lives on, and runs everything itself.
fn assert_lived_through(backend: Backend, cases: &[Case], what: What) {
    for_each_case(cases, |case| {
        let database = &Database::fresh(backend).unwrap();
        prepare(database);
        let doomed = case.doomed(what);
        case.give_something_to_rescue(PROGRAM, database, &doomed, Place::MidRun);
        let served_since = Some(database_now(database));
        let node = FaultNode::start(PROGRAM, database, doomed);
        node.wait_until_produced();
        node.wait_until_reached(case.place);
        wait_until_ended_or(database, || format!("{backend}, {what:?}, {case:?}, {:?}", node.lines()));
        let said = node.stop();
        let mut history = History::load(database);
        history.hear(&said);
        let overruled = case.place == Place::At(AfterRun);
        let terms = Terms {
            outcomes_overruled: overruled,
            stood_still: matches!(what, What::Sleep(_)),
            served_since,
            ..Terms::default()
        };
        assert_holds(&history, &terms, &format!("{backend}, {what:?}, {case:?}, {said:?}"));
    });
}

for_each_world! {
    fn a_process_killed_anywhere_loses_nothing_of_immediate_tasks_on_workers(backend: Backend, world: World) {
        assert_kills_survived(backend, world, Mode::Worker);
    }

    fn a_process_killed_anywhere_loses_nothing_of_immediate_tasks_on_the_caller(backend: Backend, world: World) {
        assert_kills_survived(backend, world, Mode::Caller);
    }

    fn a_process_killed_anywhere_loses_nothing_of_scheduled_tasks(backend: Backend, world: World) {
        assert_kills_survived(backend, world, Mode::Scheduled);
    }

    fn a_process_killed_anywhere_books_once_in_transactional_tasks_on_workers(backend: Backend, world: World) {
        assert_kills_survived(backend, world, Mode::Tx);
    }

    fn a_process_killed_anywhere_books_once_in_transactional_tasks_on_the_caller(backend: Backend, world: World) {
        assert_kills_survived(backend, world, Mode::TxCaller);
    }

    fn a_process_killed_anywhere_keeps_within_limited_attempts(backend: Backend, world: World) {
        assert_kills_survived(backend, world, Mode::Limited);
    }

    fn a_process_that_aborts_anywhere_loses_nothing(backend: Backend, world: World) {
        assert_survived(backend, &some_of(all_cases(world), |_| false, 4), What::Abort, 6);
    }

    fn an_error_anywhere_is_lived_through(backend: Backend, world: World) {
        let at_commit = |case: Case| case.mode == Mode::Worker && matches!(case.place, Place::At(AfterCommit | AfterInsert));
        assert_lived_through(backend, &some_of(all_cases(world), at_commit, 6), What::Error);
    }

    fn a_pause_past_the_lease_anywhere_is_lived_through(backend: Backend, world: World) {
        assert_lived_through(backend, &some_of(all_cases(world), |_| false, 4), What::Sleep(SHORT_LEASE * 3 / 2));
    }

    fn a_panic_around_a_body_is_lived_through(backend: Backend, world: World) {
        let bodies = [Place::At(Point::BeforeRun), Place::MidRun, Place::At(AfterRun)];
        let cases = all_cases(world).into_iter().filter(|case| bodies.contains(&case.place)).collect();
        assert_lived_through(backend, &some_of(cases, |_| false, 4), What::Panic);
    }

    fn sessions_ended_anywhere_by_the_server_are_lived_through(backend: Backend, world: World) {
        if backend != Backend::Sqlite {
            assert_lived_through(backend, &some_of(all_cases(world), |_| false, 8), What::Sever);
        }
    }
}
