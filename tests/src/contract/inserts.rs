//! Inserting rows: receipts, handles that are taken, rows leased from the start.

use std::sync::Barrier;

use consistency_core::enqueue::{ExistingTask, Receipt};
use consistency_core::new_task::NewTask;
use consistency_core::state::State;
use consistency_core::store::{ClaimedTask, LeaseId, Settled};

use super::steps::{LONG, NODE, claim, insert, row, rows, settle, status, success};
use crate::store_under_test::StoreUnderTest;

/// Receipts come in the order of the rows, whatever order the database stores them in.
pub fn receipts_come_in_the_order_of_the_rows(on: &dyn StoreUnderTest) {
    insert(on, &[row("taken")]);
    let mixed = [row("z"), row("taken"), row("a"), row("a")];
    let receipts = on.store().insert(&mixed, NODE, LONG).unwrap();
    let answers: Vec<_> = receipts.iter().map(|receipt| (receipt.task_id(), receipt.is_duplicate())).collect();
    assert_eq!(answers, [("z", false), ("taken", true), ("a", false), ("a", true)]);
}

/// A second row with a handle that is taken changes nothing; the receipt tells which task holds it, and its state now.
pub fn a_taken_handle_changes_nothing_and_names_the_existing_task(on: &dyn StoreUnderTest) {
    insert(on, &[NewTask { task_parameter: r#"{"a":1}"#.to_owned(), ..row("key") }]);
    let id = status(on, "key").id;
    let second = NewTask { task_parameter: r#"{"a":2}"#.to_owned(), priority: 0, ..row("key") };
    let duplicate = |state| vec![Receipt::Duplicate(ExistingTask { id, task_id: "key".to_owned(), state })];
    let insert_second = || on.store().insert(std::slice::from_ref(&second), NODE, LONG).unwrap();

    assert_eq!(insert_second(), duplicate(State::Pending));
    let claimed = claim(on, 10);
    assert_eq!(claimed[0].task_parameter, r#"{"a":1}"#);
    assert_eq!(insert_second(), duplicate(State::Running));
    assert_eq!(settle(on, success(&claimed[0])), Settled::Written);
    assert_eq!(insert_second(), duplicate(State::Succeeded));
    assert_eq!(claim(on, 10), []);
}

/// A key is what its characters are: case counts on every database.
pub fn handles_differ_by_case(on: &dyn StoreUnderTest) {
    insert(on, &[row("Key"), row("key"), row("KEY"), row("k\u{e9}y"), row("ke\u{301}y")]);
    assert_ne!(status(on, "Key").id, status(on, "key").id);
}

/// Of several inserts of one handle at the same moment exactly one stores it, and the others learn which row it is.
pub fn of_many_inserts_of_one_handle_at_once_one_wins(on: &dyn StoreUnderTest) {
    const THREADS: usize = 4;
    for round in 0..5 {
        let handle = format!("key-{round}");
        let barrier = Barrier::new(THREADS);
        let receipts: Vec<Receipt> = std::thread::scope(|scope| {
            let insert = || {
                barrier.wait();
                on.store().insert(&[row(&handle)], NODE, LONG).unwrap().remove(0)
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(insert)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(receipts.iter().filter(|receipt| !receipt.is_duplicate()).count(), 1, "{receipts:?}");
        let id = status(on, &handle).id;
        for receipt in receipts {
            if let Receipt::Duplicate(existing) = receipt {
                assert_eq!((existing.id, existing.task_id.as_str()), (id, handle.as_str()));
            }
        }
    }
}

/// A leased row is running under its first version for its node, and no attempt is charged yet.
pub fn a_leased_row_belongs_to_its_node_from_the_start(on: &dyn StoreUnderTest) {
    let new = NewTask { leased: true, execute_mode: 1, ..row("leased") };
    let mut both = vec![new.clone()];
    both.extend(rows("pending", 1));
    insert(on, &both);
    let leased = status(on, "leased");
    assert_eq!((leased.state, leased.execute_times, leased.lease_owner.as_deref()), (State::Running, 0, Some(NODE)));
    let pending = status(on, "pending-0");
    assert_eq!((pending.state, pending.execute_times, pending.lease_owner), (State::Pending, 0, None));
    let held = ClaimedTask::from_inserted(new.clone(), leased.id);
    assert_eq!(held.lease, LeaseId { id: leased.id, version: new.first_version });
    assert_eq!(settle(on, success(&held)), Settled::Written);
    let done = status(on, "leased");
    assert_eq!((done.state, done.execute_times, done.lease_owner), (State::Succeeded, 1, None));
}

/// Where attempts are limited the first one is counted at once, so that a crash cannot lose the count.
pub fn a_leased_row_with_limited_attempts_is_charged_from_the_start(on: &dyn StoreUnderTest) {
    let new = NewTask { leased: true, execute_mode: 1, max_execute_times: Some(2), ..row("leased") };
    insert(on, std::slice::from_ref(&new));
    assert_eq!(status(on, "leased").execute_times, 1);
    let held = ClaimedTask::from_inserted(new, status(on, "leased").id);
    assert_eq!(settle(on, success(&held)), Settled::Written);
    assert_eq!(status(on, "leased").execute_times, 1);
}
