//! A process that is stopped past its lease, or whose heart does not beat: on waking it starts nothing it held, and what it
//! still runs cannot be settled.

use consistency_core::fault::Point::{
    AfterClaim, AfterCommit, AfterComplete, AfterInsert, AfterRun, BeforeComplete, BeforeHeartbeat, BeforeSettle,
};
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::faults::crash::{
    Case, SHORT_LEASE, database_now, for_each_case, has_ended, some_of, wait_until_ended_or, wait_until_leases_end,
};
use consistency_tests::faults::fault_node::FaultNode;
use consistency_tests::faults::history::History;
use consistency_tests::faults::invariant::{Terms, assert_holds};
use consistency_tests::faults::orders::prepare;
use consistency_tests::faults::plan::{Fault, Place, What};
use consistency_tests::faults::setup::{Mode, Setup, World};
use consistency_tests::for_each_world;
use consistency_tests::recorder::wait_until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fault_node");

/// Where a stopped process holds rows that it has not settled.
fn stops(world: World) -> Vec<Case> {
    let at = |mode: Mode, points: &[_]| {
        let places = points.iter().map(|point| Place::At(*point)).chain([Place::MidRun]);
        places.map(|place| Case { place, mode, world }).collect::<Vec<_>>()
    };
    [
        at(Mode::Worker, &[AfterInsert, AfterCommit, AfterRun, BeforeSettle]),
        at(Mode::Caller, &[AfterCommit, AfterRun, BeforeSettle]),
        at(Mode::Scheduled, &[AfterClaim, AfterRun, BeforeSettle]),
        at(Mode::Tx, &[AfterCommit, BeforeComplete, AfterComplete]),
        at(Mode::TxCaller, &[AfterCommit, BeforeComplete, AfterComplete]),
    ]
    .concat()
}

/// Whether the stopped process has a transaction open that keeps others from its rows: they wait until it goes on.
fn keeps_others_out(backend: Backend, case: Case) -> bool {
    match case.place {
        Place::At(AfterInsert | AfterComplete) => true,
        Place::At(BeforeComplete) | Place::MidRun => case.mode.books() && backend == Backend::Sqlite,
        _ => false,
    }
}

/// Whether it is stopped within a body, which keeps the only slot.
fn occupies_the_slot(case: Case) -> bool {
    matches!(case.place, Place::MidRun | Place::At(AfterRun | BeforeComplete | AfterComplete))
}

/// Whether it is stopped between the begin of a body and its settlement.
fn runs(case: Case) -> bool {
    matches!(case.place, Place::MidRun | Place::At(AfterRun | BeforeSettle | BeforeComplete))
}

fn assert_starts_nothing(backend: Backend, case: Case) {
    let database = &Database::fresh(backend).unwrap();
    prepare(database);
    let setup = Setup { slots: 1, ..case.doomed(What::Stop) };
    let mut stopped = FaultNode::start(PROGRAM, database, setup);
    stopped.wait_until_stopped();
    let stopped_at = database_now(database);
    let held = database.rows("state = 1");
    let heir = FaultNode::start(PROGRAM, database, case.heir());
    let said = |stopped: &FaultNode| format!("{backend}, {case:?}: {:?}, heir: {:?}", stopped.lines(), heir.lines());
    let mut kept_out = keeps_others_out(backend, case);
    if kept_out {
        wait_until_leases_end(database);
        let over = stopped_at + i64::try_from(SHORT_LEASE.as_micros()).unwrap();
        wait_until("the lease to be over", || database_now(database) > over);
    } else {
        // Another thread may have been stopped in the middle of a write: on SQLite that keeps everybody out.
        wait_until(&format!("every task to end, {}", said(&stopped)), || {
            kept_out = heir.lines().iter().any(|line| line.ends_with("database is locked"));
            kept_out || has_ended(database)
        });
    }
    stopped.go_on();
    stopped.wait_until_produced();
    wait_until_ended_or(database, || said(&stopped));
    let said = stopped.stop();
    let heir_said = heir.stop();

    let what = format!("{backend}, {case:?}: {said:?}, heir: {heir_said:?}");
    let mut history = History::load(database);
    history.hear(&said);
    // Its one slot may have been between the last look at the lease and the first statement of a body, unless that is where it
    // was stopped.
    let stood_still = !occupies_the_slot(case);
    assert_holds(&history, &Terms { stood_still, ..Terms::default() }, &what);
    let late = held.iter().flat_map(|row| {
        let owner = row.lease_owner.as_deref().unwrap();
        history.runs_of(row.id).filter(move |run| run.node == owner && run.started > stopped_at)
    });
    let late: Vec<_> = late.collect();
    assert!(late.len() <= usize::from(stood_still), "{what}: it was stopped at {stopped_at} and began {late:?}");
    if runs(case) && !kept_out {
        let refused =
            held.iter().any(|row| said.iter().any(|line| line.starts_with(&format!("lease lost {} ", row.id))));
        assert!(refused, "{what}: nothing was refused");
    }
}

for_each_world! {
    fn a_process_stopped_past_its_lease_starts_nothing_it_held_and_settles_nothing(backend: Backend, world: World) {
        let heart = |case: Case| {
            let place = if case.mode == Mode::Scheduled { Place::At(AfterClaim) } else { Place::MidRun };
            case.place == place && case.mode != Mode::Caller
        };
        for_each_case(&some_of(stops(world), heart, 3), |case| assert_starts_nothing(backend, *case));
    }

    fn with_its_heart_silent_a_process_loses_its_lease_and_its_late_settlement_is_refused(backend: Backend, world: World) {
        // A long transaction keeps others out of SQLite, so that nobody takes its row.
        let modes = Mode::ALL.into_iter().filter(|mode| backend != Backend::Sqlite || !mode.books());
        let cases = modes.map(|mode| Case { place: Place::At(BeforeHeartbeat), mode, world }).collect();
        for_each_case(&some_of(cases, |case: Case| case.mode == Mode::Worker, 1), |case| {
            let database = &Database::fresh(backend).unwrap();
            prepare(database);
            let silent = FaultNode::start(PROGRAM, database, Setup {
                orders: 1..2,
                stay: SHORT_LEASE * 3,
                plan: vec![Fault::every(case.place, What::Sleep(SHORT_LEASE * 4))],
                ..case.doomed(What::Kill)
            });
            silent.wait_until_reached(case.place);
            let heir = FaultNode::start(PROGRAM, database, case.heir());
            silent.wait_until_produced();
            silent.wait_for_line_that_begins("lease lost");
            wait_until_ended_or(database, || format!("{case:?}: {:?}, heir {:?}", silent.lines(), heir.lines()));
            let (said, heir_said) = (silent.stop(), heir.stop());
            let what = format!("{backend}, {case:?}: {said:?}, heir: {heir_said:?}");
            let history = History::load(database);
            assert_holds(&history, &Terms::default(), &what);
            // It may have claimed the row again before its heir did, and lost it again.
            let lost = said.iter().filter(|line| line.starts_with("lease lost")).count();
            assert_eq!(history.runs.len(), lost + 1, "{what}");
            assert!(!said.iter().any(|line| line.starts_with("settled")), "{what}");
        });
    }
}
