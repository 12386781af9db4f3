//! The checkers can fail: each finds the violation in a history made by hand, and in what a real store leaves behind once a
//! guard is taken out of it. The same scenario on the untouched store leaves nothing to find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_core::store::Store;
use consistency_diesel::prelude::*;
use consistency_diesel::store_access;
use consistency_tests::database::Database;
use consistency_tests::effects::Effects;

use consistency_tests::faults::crash::{database_now, wait_until_ended};
use consistency_tests::faults::history::{History, Order, Run, Stored, Told};
use consistency_tests::faults::in_process::{self, InProcessNode, Wheel};
use consistency_tests::faults::invariant::Invariant::{
    KeyOrder, NoGhost, NoStartAfterSuccess, NothingLost, OneBusinessEffect, OneHolder, RecoveredInTime, WithinPolicy,
};
use consistency_tests::faults::invariant::{Invariant, Terms, check_all, violated};
use consistency_tests::faults::orders::{self, ORDER, insert_order};
use consistency_tests::faults::sabotage::{
    Sabotage, Sabotaged, enqueue_without_the_proof, enqueue_without_the_transaction,
};
use consistency_tests::for_each_database;
use consistency_tests::recorder::wait_until;
use diesel::connection::SimpleConnection;
use diesel::result::{Error, QueryResult};

/// One second, in microseconds.
const SECOND: i64 = 1_000_000;

fn task(id: i64) -> Stored {
    Stored {
        id,
        name: "by.hand".to_owned(),
        order: Some(id),
        books: false,
        state: State::Succeeded,
        attempts: 1,
        max_attempts: None,
        lost_times: 0,
        version: 1,
        order_key: None,
        changed: 20 * SECOND,
        due: 0,
        leased_until: None,
    }
}

fn run(task: i64, version: i64, started: i64, ended: Option<i64>) -> Run {
    Run {
        task,
        attempt: 1,
        version: Some(version),
        node: format!("node of version {version}"),
        started: started * SECOND,
        leased_until: Some((started + 3) * SECOND),
        ended: ended.map(|ended| ended * SECOND),
        failed: false,
    }
}

/// Two orders with a task each, which ran once and succeeded: nothing to find.
fn sound() -> History {
    History {
        taken: 100 * SECOND,
        orders: vec![Order { number: 1, calls: 1 }, Order { number: 2, calls: 1 }],
        tasks: vec![task(1), task(2)],
        runs: vec![run(1, 1, 10, Some(11)), run(2, 1, 12, Some(13))],
        bookings: Vec::new(),
        told: BTreeMap::from([(1, Told::Committed), (2, Told::Unknown), (3, Told::Failed)]),
    }
}

/// Checks that spoiling the sound history is noticed, as a violation of this invariant and of no other.
#[track_caller]
fn assert_found(invariant: Invariant, spoil: impl FnOnce(&mut History)) {
    let mut history = sound();
    spoil(&mut history);
    let violations = check_all(&history, &Terms::default());
    let found: BTreeSet<Invariant> = violations.iter().map(|violation| violation.invariant).collect();
    assert_eq!(found, BTreeSet::from([invariant]), "{violations:#?}");
    assert_eq!(violations.len(), 1, "{violations:#?}");
}

#[test]
fn a_run_of_a_node_that_does_not_hold_the_row_is_found() {
    let unheld = |history: &mut History| (history.runs[0].version, history.runs[0].leased_until) = (None, None);
    assert_found(OneHolder, unheld);
    let mut history = sound();
    unheld(&mut history);
    assert_eq!(check_all(&history, &Terms { stood_still: true, ..Terms::default() }), []);
}

#[test]
fn a_sound_history_holds() {
    assert_eq!(check_all(&sound(), &Terms::default()), []);
    assert_eq!(sound().duplicates(), 0);
}

#[test]
fn lost_calls_are_found() {
    assert_found(NothingLost, |history| {
        history.tasks.remove(1);
        history.runs.remove(1);
    });
    assert_found(NothingLost, |history| {
        history.told.insert(9, Told::Committed);
    });
    assert_found(NothingLost, |history| history.tasks[0].state = State::Failed);
    assert_found(NothingLost, |history| drop(history.runs.remove(0)));
    assert_found(NothingLost, |history| history.runs[0].failed = true);
    let mut history = sound();
    history.tasks[0].state = State::Pending;
    assert_eq!(check_all(&history, &Terms { all_ended: false, ..Terms::default() }), []);
}

#[test]
fn ghosts_are_found() {
    assert_found(NoGhost, |history| {
        history.orders.remove(1);
    });
    assert_found(NoGhost, |history| history.orders[0].calls = 0);
    assert_found(NoGhost, |history| {
        history.orders[0].calls = 0;
        history.tasks[0].order = None;
    });
    assert_found(NoGhost, |history| {
        history.told.insert(1, Told::Failed);
    });
    assert_found(NoGhost, |history| history.runs.push(run(9, 1, 14, Some(15))));
    assert_found(NoGhost, |history| history.bookings.push(9));
}

#[test]
fn two_holders_are_found() {
    // The second began while the first ran under a lease.
    assert_found(OneHolder, |history| history.runs.push(run(1, 3, 10, Some(12))));
    // The same while the first never ended.
    assert_found(OneHolder, |history| {
        history.runs[0].ended = None;
        history.runs.push(run(1, 3, 12, Some(14)));
    });
    // Two runs under one claim, one after the other.
    assert_found(OneHolder, |history| history.runs.push(run(1, 1, 15, Some(16))));
    // After the end of the lease it is a legitimate repetition.
    let mut history = sound();
    history.runs[0].ended = Some(18 * SECOND);
    history.runs.push(run(1, 3, 14, Some(16)));
    assert_eq!(check_all(&history, &Terms::default()), []);
    assert_eq!(history.duplicates(), 1);
}

#[test]
fn attempts_beyond_the_policy_are_found() {
    assert_found(WithinPolicy, |history| {
        history.tasks[0].max_attempts = Some(1);
        history.tasks[0].attempts = 2;
    });
    assert_found(WithinPolicy, |history| {
        history.tasks[0].max_attempts = Some(1);
        history.runs.push(run(1, 3, 15, Some(16)));
    });
    assert_found(WithinPolicy, |history| {
        history.tasks[0].max_attempts = Some(1);
        history.runs[0].attempt = 2;
    });
    assert_found(WithinPolicy, |history| history.tasks[0].lost_times = 6);
}

#[test]
fn starts_after_a_success_are_found() {
    assert_found(NoStartAfterSuccess, |history| history.runs.push(run(1, 3, 30, Some(31))));
    // Claimed from its success, with no rescue between.
    assert_found(NoStartAfterSuccess, |history| history.runs.push(run(1, 2, 15, Some(16))));
}

#[test]
fn a_broken_order_of_a_key_is_found() {
    let keyed =
        |history: &mut History| history.tasks.iter_mut().for_each(|task| task.order_key = Some("key".to_owned()));
    assert_found(KeyOrder, |history| {
        keyed(history);
        history.runs[0].ended = Some(13 * SECOND);
    });
    assert_found(KeyOrder, |history| {
        keyed(history);
        history.tasks[0].state = State::Dead;
        history.runs.remove(0);
    });
    let mut history = sound();
    keyed(&mut history);
    assert_eq!(check_all(&history, &Terms::default()), []);
}

#[test]
fn a_late_recovery_is_found() {
    assert_found(RecoveredInTime, |history| {
        history.runs[0] = run(1, 1, 1, None);
        history.runs.insert(1, run(1, 3, 16, Some(17)));
    });
    let mut history = sound();
    history.tasks[0].state = State::Running;
    history.tasks[0].leased_until = Some(80 * SECOND);
    let terms = Terms { all_ended: false, ..Terms::default() };
    assert_eq!(violated(&history, &terms), BTreeSet::from([RecoveredInTime]));
    assert_eq!(violated(&history, &Terms { served_since: Some(95 * SECOND), ..terms }), BTreeSet::new());
}

#[test]
fn any_other_number_of_business_effects_than_one_is_found() {
    assert_found(OneBusinessEffect, |history| history.tasks[0].books = true);
    assert_found(OneBusinessEffect, |history| {
        history.tasks[0].books = true;
        history.bookings = vec![1, 1];
    });
    assert_found(OneBusinessEffect, |history| {
        history.tasks[0].books = true;
        history.tasks[0].state = State::Dead;
        history.bookings = vec![1];
    });
}

#[consistency_task(name = "checkers.steered", retry_every = "1ms")]
fn steered(
    order: i64,
    #[inject] effects: &Effects,
    #[inject] wheel: &Arc<Wheel>,
    #[context] cx: &TaskContext,
) -> Result<(), TaskError> {
    let _ = order;
    in_process::run(effects, wheel, cx)
}

/// What a scenario's nodes are.
struct Nodes<'d> {
    database: &'d Database,
    wheel: Arc<Wheel>,
    real: Arc<dyn Store>,
}

impl Nodes<'_> {
    fn start(&self, lease: Duration, sabotages: &[Sabotage]) -> (InProcessNode, Arc<Sabotaged>) {
        let store = Sabotaged::wrap(self.database, Arc::clone(&self.real), sabotages);
        let dynamic: Arc<dyn Store> = Arc::clone(&store) as _;
        (InProcessNode::start(steered::DEFINITION, self.database, dynamic, &self.wheel, lease), store)
    }

    /// One committed order with its task.
    fn commit_one(&self) {
        self.database.execute(&insert_order(1, 1));
        let row = in_process::row(steered(1), 1);
        self.real.insert(&[row], "", Duration::ZERO).expect("the row is stored");
    }

    /// The invariants that do not hold now; the producer of order 1 was told so.
    fn violated(&self, told: Told) -> BTreeSet<Invariant> {
        let mut history = History::load(self.database);
        history.told.insert(1, told);
        for violation in check_all(&history, &Terms::default()) {
            println!("{violation}");
        }
        violated(&history, &Terms::default())
    }
}

/// A node whose network is cut runs a row past its lease, another one takes the row over, and still runs it when the first one
/// fails at last.
fn a_late_failure(nodes: &Nodes<'_>, sabotages: &[Sabotage]) -> BTreeSet<Invariant> {
    nodes.commit_one();
    let (cut_off, _) = nodes.start(Duration::from_secs(2), &[sabotages, &[Sabotage::CutOff]].concat());
    nodes.wheel.wait_for(1);
    let heir = nodes.start(Duration::from_secs(30), sabotages);
    nodes.wheel.wait_for(2);
    nodes.wheel.answer(0, false);
    let settled = |event: &Event| matches!(event, Event::LeaseLost { .. } | Event::Settled { .. });
    cut_off.recorder.wait_for("the late failure to be settled or refused", |events| events.iter().any(settled));
    if sabotages.contains(&Sabotage::Unfenced) {
        nodes.wheel.wait_for(3);
        let_them_run_for_a_while(nodes.database);
    }
    nodes.wheel.let_all_end_well();
    wait_until_ended(nodes.database);
    drop((cut_off, heir));
    nodes.violated(Told::Committed)
}

/// For longer than the checkers take clocks to round away.
fn let_them_run_for_a_while(database: &Database) {
    let begun = database_now(database);
    wait_until("them to have run for a while", || database_now(database) > begun + 20_000);
}

/// A node runs a row under a long lease while another one looks for rows to take back.
fn a_second_look(nodes: &Nodes<'_>, sabotages: &[Sabotage]) -> BTreeSet<Invariant> {
    nodes.commit_one();
    let first = nodes.start(Duration::from_secs(30), &[]);
    nodes.wheel.wait_for(1);
    let (second, store) = nodes.start(Duration::from_secs(30), sabotages);
    store.looks.wait_for(2);
    if sabotages.contains(&Sabotage::Leaseless) {
        nodes.wheel.wait_for(2);
        let_them_run_for_a_while(nodes.database);
    }
    nodes.wheel.let_all_end_well();
    wait_until_ended(nodes.database);
    drop((first, second));
    nodes.violated(Told::Committed)
}

/// What a node makes of whatever is stored for order 1: an order committed after it has run when this returns.
fn run_what_is_there(nodes: &Nodes<'_>, told: Told) -> BTreeSet<Invariant> {
    nodes.wheel.let_all_end_well();
    nodes.database.execute(&insert_order(2, 1));
    nodes.real.insert(&[in_process::row(steered(2), 2)], "", Duration::ZERO).expect("the row is stored");
    let node = nodes.start(Duration::from_secs(30), &[]);
    wait_until_ended(nodes.database);
    drop(node);
    nodes.violated(told)
}

for_each_database! {
    items {
        fn nodes(database: &Database) -> Nodes<'_> {
            orders::prepare(database);
            let real = store_access::open::<Conn>(database.address(), Duration::from_secs(20));
            Nodes { database, wheel: Arc::default(), real }
        }

        /// Order 1 through the library's own helper, with an end as `spoil` wishes.
        fn enqueue(database: &Database, spoil: impl FnOnce(&mut TaskTx<Conn>) -> QueryResult<()>) -> QueryResult<()> {
            let outbox = database.outbox().enqueue_only().start_blocking().unwrap();
            outbox.transaction(&mut database.connection::<Conn>(), |tx| {
                tx.batch_execute(&insert_order(1, 1))?;
                tx.enqueue(steered(1).biz(ORDER, 1))?;
                spoil(tx)
            })
        }
    }

    fn without_the_fence_two_holders_are_found(database: &Database) {
        assert_eq!(a_late_failure(&nodes(database), &[Sabotage::Unfenced]), BTreeSet::from([OneHolder]));
    }

    fn with_the_fence_a_late_failure_changes_nothing(database: &Database) {
        assert_eq!(a_late_failure(&nodes(database), &[]), BTreeSet::new());
    }

    fn without_leases_two_holders_are_found(database: &Database) {
        assert_eq!(a_second_look(&nodes(database), &[Sabotage::Leaseless]), BTreeSet::from([OneHolder]));
    }

    fn with_leases_a_second_look_changes_nothing(database: &Database) {
        assert_eq!(a_second_look(&nodes(database), &[]), BTreeSet::new());
    }

    fn without_the_callers_transaction_a_ghost_is_found(database: &Database) {
        let nodes = nodes(database);
        let mut business = database.connection::<Conn>();
        let row = in_process::row(steered(1), 1);
        enqueue_without_the_transaction(&*nodes.real, &mut business, &insert_order(1, 1), row);
        assert_eq!(run_what_is_there(&nodes, Told::Failed), BTreeSet::from([NoGhost]));
    }

    fn in_the_callers_transaction_a_rollback_leaves_no_ghost(database: &Database) {
        let nodes = nodes(database);
        assert!(enqueue(database, |_| Err(Error::RollbackTransaction)).is_err());
        assert_eq!(run_what_is_there(&nodes, Told::Failed), BTreeSet::new());
    }

    fn without_the_proof_before_the_flush_a_ghost_is_found(database: &Database) {
        let nodes = nodes(database);
        let mut business = database.connection::<Conn>();
        let row = in_process::row(steered(1), 1);
        enqueue_without_the_proof(&*nodes.real, &mut business, &insert_order(1, 1), row);
        assert_eq!(run_what_is_there(&nodes, Told::Committed), BTreeSet::from([NoGhost]));
    }

    fn with_the_proof_a_transaction_that_has_ended_leaves_no_ghost(database: &Database) {
        let nodes = nodes(database);
        // The producer is not told that it is committed: that is the proof's doing.
        assert!(enqueue(database, |tx| tx.batch_execute("ROLLBACK")).is_err());
        assert_eq!(run_what_is_there(&nodes, Told::Failed), BTreeSet::new());
    }
}
