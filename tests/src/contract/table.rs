//! Questions about single tasks, and the removal of old ones.

use std::time::Duration;

use consistency_core::enqueue::Receipt;
use consistency_core::state::State;
use consistency_core::store::{Settled, TaskStatus};

use super::steps::{
    LONG, NAME, NODE, claim, claim_one, death, failure, insert, let_short_leases_end, row, rows, settle, status,
    success,
};
use crate::recorder::wait_until_some;
use crate::store_under_test::StoreUnderTest;

/// Nothing is known of a handle nobody used.
pub fn an_unknown_handle_has_no_status(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    // White space at the end is no case: MySQL compares without it, and a key that ends so is refused.
    for unknown in ["", "on", "ONE", "two", "' OR '1'='1", "%"] {
        assert_eq!(on.store().status(unknown).unwrap(), None, "{unknown:?}");
    }
}

/// The status is what the row says now.
pub fn the_status_follows_the_row(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let inserted = status(on, "one");
    let expected = TaskStatus {
        id: inserted.id,
        task_id: "one".to_owned(),
        method_name: NAME.to_owned(),
        state: State::Pending,
        execute_times: 0,
        lost_times: 0,
        error_message: None,
        lease_owner: None,
        due_in: Duration::ZERO,
    };
    assert_eq!(inserted, expected);
    let task = claim_one(on);
    let running =
        TaskStatus { state: State::Running, execute_times: 1, lease_owner: Some(NODE.to_owned()), ..expected.clone() };
    assert_eq!(status(on, "one"), running);
    assert_eq!(settle(on, success(&task)), Settled::Written);
    assert_eq!(status(on, "one"), TaskStatus { state: State::Succeeded, execute_times: 1, ..expected });
}

/// Retention takes what is finished, a bounded number at a time, and nothing a person may still need.
pub fn pruning_deletes_finished_rows_alone_and_is_bounded(on: &dyn StoreUnderTest) {
    insert(on, &rows("row", 8));
    let tasks = claim(on, 8);
    for task in &tasks[..4] {
        assert_eq!(settle(on, success(task)), Settled::Written);
    }
    assert_eq!(settle(on, tasks[4].cancelled()), Settled::Written);
    assert_eq!(settle(on, death(&tasks[5])), Settled::Written);
    assert_eq!(settle(on, failure(&tasks[6], LONG)), Settled::Written);
    let_short_leases_end(on);
    assert_eq!(on.store().prune(Duration::ZERO, 3).unwrap(), 3);
    assert_eq!(on.store().prune(Duration::ZERO, 3).unwrap(), 2);
    assert_eq!(on.store().prune(Duration::ZERO, 3).unwrap(), 0);
    let left = |task_id: &str| on.store().status(task_id).unwrap().map(|status| status.state);
    let states: Vec<_> = tasks.iter().map(|task| left(&task.task_id)).collect();
    let expected = [State::Dead, State::Failed, State::Running].map(Some);
    assert_eq!(states[..5], [None; 5]);
    assert_eq!(states[5..], expected);
}

/// The age of a row counts from its last change.
pub fn pruning_spares_what_changed_lately(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    assert_eq!(settle(on, success(&claim_one(on))), Settled::Written);
    assert_eq!(on.store().prune(Duration::from_secs(3600), 10).unwrap(), 0);
    let ten_years = Duration::from_secs(10 * 366 * 86_400);
    assert_eq!(on.store().prune(ten_years, 10).unwrap(), 0);
    wait_until_some("the row to be old", || {
        (on.store().prune(Duration::from_millis(20), 10).unwrap() == 1).then_some(())
    });
}

/// After retention a key is new again.
pub fn a_pruned_handle_can_be_used_again(on: &dyn StoreUnderTest) {
    insert(on, &[row("key")]);
    let first = claim_one(on);
    assert_eq!(settle(on, success(&first)), Settled::Written);
    let_short_leases_end(on);
    assert_eq!(on.store().prune(Duration::ZERO, 10).unwrap(), 1);
    assert_eq!(on.store().insert(&[row("key")], NODE, LONG).unwrap(), [Receipt::Enqueued("key".to_owned())]);
    let second = claim_one(on);
    assert_ne!(second.lease.id, first.lease.id, "a primary key is never used twice: it is half of the fence");
    assert_eq!(settle(on, success(&first)), Settled::Lost);
}
