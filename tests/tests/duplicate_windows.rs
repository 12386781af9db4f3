//! Where exactly the death of a process makes a task run twice, and that it does so nowhere else: what `docs/guide/duplicates.md`
//! says.

use std::time::Duration;

use consistency_core::fault::Point::{
    AfterClaim, AfterCommit, AfterHeartbeat, AfterRescue, AfterRun, AfterSettle, BeforeHeartbeat, BeforeRescue,
    BeforeRun, BeforeSettle,
};
use consistency_core::state::State;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::faults::crash::{Aftermath, Case, for_each_case, some_of};
use consistency_tests::faults::invariant::{Terms, assert_holds};
use consistency_tests::faults::plan::{Fault, Place, What};
use consistency_tests::faults::setup::{Mode, Role, Setup, World};
use consistency_tests::for_each_world;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fault_node");

/// The modes without `#[tx]`, each with attempts enough.
const PLAIN: [Mode; 3] = [Mode::Worker, Mode::Caller, Mode::Scheduled];

/// From the begin of the body until its outcome is committed.
const WINDOW: [Place; 3] = [Place::MidRun, Place::At(AfterRun), Place::At(BeforeSettle)];

/// A process with one task is killed there, another one takes over.
fn kill(backend: Backend, case: Case) -> Aftermath {
    let database = &Database::fresh(backend).unwrap();
    let mut setup = Setup { orders: 1..2, ..case.doomed(What::Kill) };
    if matches!(case.place, Place::At(BeforeHeartbeat | AfterHeartbeat)) && !case.mode.books() {
        // The row is held and renewed, and its body has not begun: a body under way is another case.
        setup.plan.push(Fault::first(Place::At(BeforeRun), What::Sleep(Duration::from_secs(60))));
    }
    if matches!(case.place, Place::At(BeforeRescue | AfterRescue)) {
        // It finds the row of a process that died before its body, and has none of its own.
        setup.role = Role::Node;
    }
    let before = Place::At(if case.mode.is_immediate() { AfterCommit } else { AfterClaim });
    let after = case.crash_as(PROGRAM, database, setup, before);
    assert_holds(&after.history, &Terms::default(), &format!("{backend}, {case:?}, {:?}", after.said));
    after
}

fn assert_runs_twice(backend: Backend, world: World, place: Place) {
    for_each_case(&PLAIN.map(|mode| Case { place, mode, world }), |case| {
        let after = kill(backend, *case);
        let what = format!("{backend}, {case:?}: {after:#?}");
        let [task] = &after.history.tasks[..] else { panic!("{what}") };
        assert_eq!(task.state, State::Succeeded, "{what}");
        let [first, second] = &after.history.runs[..] else { panic!("{what}") };
        assert_ne!(first.node, second.node, "{what}");
        // A rescue and a claim lie between: the second run began after the first one's lease.
        assert_eq!(second.version, first.version.map(|version| version + 2), "{what}");
        assert!(first.leased_until.unwrap() <= second.started + 2_000, "{what}");
        assert_eq!(after.history.duplicates(), 1, "{what}");
    });
}

for_each_world! {
    fn killed_in_the_middle_of_its_body_a_task_runs_twice(backend: Backend, world: World) {
        assert_runs_twice(backend, world, Place::MidRun);
    }

    fn killed_right_after_its_body_a_task_runs_twice(backend: Backend, world: World) {
        assert_runs_twice(backend, world, Place::At(AfterRun));
    }

    fn killed_before_its_outcome_is_written_a_task_runs_twice(backend: Backend, world: World) {
        assert_runs_twice(backend, world, Place::At(BeforeSettle));
    }

    fn killed_anywhere_else_a_task_has_exactly_one_effect(backend: Backend, world: World) {
        let all = PLAIN.into_iter().flat_map(|mode| Place::all().map(move |place| Case { place, mode, world }));
        let cases = all.filter(|case| case.makes_sense() && !WINDOW.contains(&case.place)).collect();
        let heart = |case: Case| {
            matches!(case.place, Place::At(AfterCommit | AfterSettle)) && case.mode == Mode::Worker
                || case.place == Place::At(AfterClaim) && case.mode == Mode::Scheduled
        };
        for_each_case(&some_of(cases, heart, 4), |case| {
            let after = kill(backend, *case);
            let history = &after.history;
            assert_eq!(history.duplicates(), 0, "{backend}, {case:?}: {after:#?}");
            for task in &history.tasks {
                let effects = history.runs_of(task.id).filter(|run| !run.failed).count();
                assert_eq!(effects, 1, "{backend}, {case:?}: {after:#?}");
            }
        });
    }

    fn killed_anywhere_a_transactional_task_books_exactly_once(backend: Backend, world: World) {
        let modes = [Mode::Tx, Mode::TxCaller];
        let all = modes.into_iter().flat_map(|mode| Place::all().map(move |place| Case { place, mode, world }));
        let heart = |case: Case| case.mode == Mode::Tx && case.place == Place::MidRun;
        // One transaction that is never let go would keep the heartbeat out of SQLite.
        let beats = |case: &Case| backend == Backend::Sqlite && matches!(case.place, Place::At(AfterHeartbeat));
        for_each_case(&some_of(all.filter(|case| !beats(case)).collect(), heart, 4), |case| {
            let after = kill(backend, *case);
            // As many as there are orders: none when the process died before its COMMIT.
            assert_eq!(after.history.bookings.len(), after.history.orders.len(), "{backend}, {case:?}: {after:#?}");
        });
    }
}
