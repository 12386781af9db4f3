//! Rescuing rows whose lease has ended: what becomes of them, how often, and that their old node is shut out.

use std::collections::HashSet;
use std::sync::Barrier;
use std::time::Duration;

use consistency_core::new_task::NewTask;
use consistency_core::rescue::Rescued;
use consistency_core::state::State;
use consistency_core::store::{ClaimedTask, Settled};

use super::steps::{
    BUDGET, Claim, LONG, NAME, NODE, SHORT, claim, claim_one, claim_one_for, death, failure, insert,
    let_short_leases_end, rescue_one, row, rows, settle, status, success,
};
use crate::store_under_test::StoreUnderTest;

/// A rescued row is failed, due at once, charged for its attempt, and tells who lost it.
pub fn a_lease_that_ended_makes_the_row_failed_and_due(on: &dyn StoreUnderTest) {
    insert(on, &[row("lost"), row("held")]);
    let lost = claim_one_for(on, SHORT);
    let held = claim_one(on);
    let rescued = rescue_one(on);
    let expected = Rescued {
        id: lost.lease.id,
        task_id: "lost".to_owned(),
        method_name: NAME.to_owned(),
        node: NODE.to_owned(),
        state: State::Failed,
        lost_times: 1,
    };
    assert_eq!(rescued, expected);
    let row = status(on, "lost");
    assert_eq!((row.state, row.execute_times, row.lost_times, row.lease_owner), (State::Failed, 1, 1, None));
    assert_eq!(row.due_in, Duration::ZERO);
    let error = row.error_message.unwrap();
    assert!(error.contains("worker died") && error.contains(NODE), "{error}");
    assert_eq!(status(on, "held").lease_owner.as_deref(), Some(NODE));
    let again = claim_one(on);
    assert_eq!((again.lease.id, again.execute_times, again.failed_before), (lost.lease.id, 2, true));
    assert!(again.lease.version > lost.lease.version);
    assert_eq!(settle(on, success(&held)), Settled::Written);
}

/// A hand-off never started costs no attempt.
pub fn a_row_inserted_leased_is_rescued_without_an_attempt(on: &dyn StoreUnderTest) {
    let new = NewTask { leased: true, execute_mode: 1, ..row("one") };
    on.store().insert(&[new], "node-b", SHORT).unwrap();
    let rescued = rescue_one(on);
    assert_eq!((rescued.node.as_str(), rescued.state), ("node-b", State::Failed));
    assert_eq!((status(on, "one").execute_times, status(on, "one").lost_times), (0, 1));
    assert_eq!(claim_one(on).execute_times, 1);
}

/// A rescue is bounded, and takes none twice.
pub fn a_rescue_takes_at_most_its_limit(on: &dyn StoreUnderTest) {
    insert(on, &rows("row", 5));
    assert_eq!(Claim { lease: SHORT, ..Claim::default() }.take(on).len(), 5);
    let_short_leases_end(on);
    let mut ids = HashSet::new();
    for expected in [2, 2, 1, 0] {
        let rescued = on.store().rescue(BUDGET, 2).unwrap();
        assert_eq!(rescued.len(), expected);
        ids.extend(rescued.iter().map(|rescued| rescued.id));
    }
    assert_eq!(ids.len(), 5);
}

/// A task that ends its worker every time is dead at the loss that uses up the budget, and not one sooner.
pub fn the_fifth_loss_in_a_row_is_the_last(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    for loss in 1..=BUDGET {
        claim_one_for(on, SHORT);
        let rescued = rescue_one(on);
        let expected = if loss < BUDGET { State::Failed } else { State::Dead };
        assert_eq!((rescued.state, rescued.lost_times), (expected, i64::from(loss)));
    }
    let dead = status(on, "one");
    assert_eq!((dead.state, dead.execute_times, dead.lost_times), (State::Dead, 5, 5));
    assert!(dead.error_message.unwrap().contains("worker died"));
    assert_eq!(claim(on, 10), []);
}

/// Only losses in a row count: an attempt that ends by itself starts the count again.
pub fn any_settlement_of_an_attempt_clears_the_losses(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    for _ in 0..2 {
        claim_one_for(on, SHORT);
        rescue_one(on);
    }
    assert_eq!(status(on, "one").lost_times, 2);
    assert_eq!(settle(on, claim_one(on).released()), Settled::Written);
    assert_eq!(status(on, "one").lost_times, 2, "a release is no attempt");
    assert_eq!(settle(on, failure(&claim_one(on), Duration::ZERO)), Settled::Written);
    assert_eq!(status(on, "one").lost_times, 0);
}

/// A lost attempt that was the last allowed one makes the row dead, whatever the budget says.
pub fn used_up_attempts_make_the_row_dead(on: &dyn StoreUnderTest) {
    insert(on, &[NewTask { max_execute_times: Some(2), ..row("claimed") }]);
    claim_one_for(on, SHORT);
    assert_eq!(rescue_one(on).state, State::Failed);
    assert_eq!(claim_one_for(on, SHORT).execute_times, 2);
    assert_eq!(rescue_one(on).state, State::Dead);
    assert_eq!((status(on, "claimed").execute_times, status(on, "claimed").lost_times), (2, 2));

    let leased = NewTask { leased: true, execute_mode: 1, max_execute_times: Some(1), ..row("leased") };
    on.store().insert(&[leased], NODE, SHORT).unwrap();
    assert_eq!(rescue_one(on).state, State::Dead);
    assert_eq!(claim(on, 10), []);
}

/// A task somebody wants cancelled is not tried again.
pub fn a_wish_to_cancel_is_granted_at_the_rescue(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let task = claim_one_for(on, SHORT);
    on.request_cancel(task.lease.id);
    assert_eq!(rescue_one(on).state, State::Cancelled);
    assert_eq!((status(on, "one").state, status(on, "one").lease_owner), (State::Cancelled, None));
    assert_eq!(claim(on, 10), []);
}

/// Whatever the old node says after the rescue is lost, before and after somebody else has the row.
pub fn a_rescued_row_is_lost_to_its_old_node(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let zombie = claim_one_for(on, SHORT);
    rescue_one(on);
    let before = status(on, "one");
    assert_eq!(settle(on, success(&zombie)), Settled::Lost);
    assert_eq!(settle(on, zombie.cancelled()), Settled::Lost);
    assert_eq!(on.store().renew(&[zombie.lease], LONG).unwrap(), []);
    assert_eq!(status(on, "one"), before);

    let successor = Claim { node: "node-b", ..Claim::default() }.take(on).remove(0);
    assert_eq!(settle(on, success(&zombie)), Settled::Lost);
    assert_eq!(status(on, "one").lease_owner.as_deref(), Some("node-b"));
    assert_eq!(settle(on, success(&successor)), Settled::Written);
    assert_eq!(settle(on, failure(&zombie, Duration::ZERO)), Settled::Lost);
    assert_eq!(status(on, "one").state, State::Succeeded);
}

/// A rescue writes failed, dead or cancelled too. The old node's outcome of the same name was not written all the same:
/// its error and its interval are nowhere in the table.
pub fn what_a_rescue_wrote_is_not_taken_for_the_old_nodes_work(on: &dyn StoreUnderTest) {
    let last = NewTask { max_execute_times: Some(1), ..row("last") };
    insert(on, &[row("failed"), row("cancelled"), last]);
    let zombies = Claim { lease: SHORT, ..Claim::default() }.take(on);
    let zombie = |task_id: &str| -> &ClaimedTask { zombies.iter().find(|task| task.task_id == task_id).unwrap() };
    on.request_cancel(zombie("cancelled").lease.id);
    for _ in 0..3 {
        rescue_one(on);
    }
    assert_eq!(status(on, "last").state, State::Dead);
    assert_eq!(settle(on, failure(zombie("failed"), LONG)), Settled::Lost);
    assert_eq!(settle(on, failure(zombie("cancelled"), LONG)), Settled::Lost);
    assert_eq!(settle(on, death(zombie("last"))), Settled::Lost);
    assert!(status(on, "last").error_message.unwrap().contains("worker died"));
}

/// Of several rescues at once, one takes each row, and each loss counts once.
pub fn rescues_at_once_take_each_row_once(on: &dyn StoreUnderTest) {
    const ROWS: usize = 40;
    const THREADS: usize = 3;
    insert(on, &rows("row", ROWS));
    assert_eq!(Claim { lease: SHORT, ..Claim::default() }.take(on).len(), ROWS);
    let_short_leases_end(on);
    let barrier = Barrier::new(THREADS);
    let rescue_all = || {
        barrier.wait();
        let mut ids = Vec::new();
        loop {
            let rescued = on.store().rescue(BUDGET, 7).unwrap();
            if rescued.is_empty() {
                return ids;
            }
            ids.extend(rescued.iter().map(|rescued| (rescued.id, rescued.lost_times)));
        }
    };
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(rescue_all)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.extend(on.store().rescue(BUDGET, ROWS).unwrap().iter().map(|rescued| (rescued.id, rescued.lost_times)));
    assert!(all.iter().all(|(_, lost_times)| *lost_times == 1));
    let ids: HashSet<i64> = all.iter().map(|(id, _)| *id).collect();
    assert_eq!((all.len(), ids.len()), (ROWS, ROWS));
}
