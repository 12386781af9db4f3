//! Renewing leases: exactly those asked for, and only while they are held.

use consistency_core::state::State;
use consistency_core::store::{LeaseId, Renewed, Settled};

use super::steps::{
    BUDGET, Claim, LONG, SHORT, claim, claim_one, claim_one_for, insert, let_short_leases_end, rescue_one, row, rows,
    settle, status, success,
};
use crate::store_under_test::StoreUnderTest;

/// A renewed lease lasts; one that nobody renewed ends, even if the same node holds it.
pub fn renewing_extends_exactly_the_leases_asked_for(on: &dyn StoreUnderTest) {
    insert(on, &rows("row", 3));
    let tasks = Claim { lease: SHORT, ..Claim::default() }.take(on);
    let kept = [tasks[2].lease, tasks[0].lease];
    let mut renewed = on.store().renew(&kept, LONG).unwrap();
    renewed.sort_by_key(|renewed| renewed.id);
    let expected =
        [&tasks[0], &tasks[2]].map(|task| Renewed { id: task.lease.id, cancel_requested: false, extended: true });
    assert_eq!(renewed, expected);
    assert_eq!(rescue_one(on).id, tasks[1].lease.id);
    let_short_leases_end(on);
    assert_eq!(on.store().rescue(BUDGET, 10).unwrap(), []);
    assert_eq!(settle(on, success(&tasks[0])), Settled::Written);
}

/// Rows not answered are lost: settled, taken over, under another version, or not there.
pub fn lost_leases_are_not_renewed(on: &dyn StoreUnderTest) {
    insert(on, &rows("row", 3));
    let tasks = claim(on, 3);
    assert_eq!(settle(on, success(&tasks[0])), Settled::Written);
    assert_eq!(settle(on, tasks[1].released()), Settled::Written);
    let again = claim_one(on);
    assert_eq!(again.lease.id, tasks[1].lease.id);
    let nobody = LeaseId { id: again.lease.id + 1_000_000, version: 1 };
    let ahead = LeaseId { version: 7, ..tasks[2].lease };
    let asked = [tasks[0].lease, tasks[1].lease, nobody, ahead];
    assert_eq!(on.store().renew(&asked, LONG).unwrap(), []);
    let held = [tasks[0].lease, tasks[1].lease, tasks[2].lease, again.lease];
    let mut renewed: Vec<i64> = on.store().renew(&held, LONG).unwrap().iter().map(|renewed| renewed.id).collect();
    renewed.sort_unstable();
    assert_eq!(renewed, [again.lease.id, tasks[2].lease.id]);
}

/// The heartbeat is how a running body learns that somebody asked to cancel it.
pub fn a_renewal_tells_of_a_wish_to_cancel(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let task = claim_one(on);
    on.request_cancel(task.lease.id);
    let renewed = on.store().renew(&[task.lease], LONG).unwrap();
    assert_eq!(renewed, [Renewed { id: task.lease.id, cancel_requested: true, extended: true }]);
    assert_eq!(status(on, "one").state, State::Running);
}

/// A lease that has ended is lost when somebody takes the row, not before: the fence is the version, not the clock.
pub fn an_ended_lease_nobody_took_still_settles(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let task = claim_one_for(on, SHORT);
    let_short_leases_end(on);
    assert_eq!(claim(on, 10), [], "a claim leaves ended leases to the rescue");
    assert_eq!(settle(on, success(&task)), Settled::Written);
    assert_eq!(on.store().rescue(BUDGET, 10).unwrap(), []);
    assert_eq!(status(on, "one").state, State::Succeeded);
}
