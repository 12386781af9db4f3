//! Settling attempts: what each outcome writes, and what the fence keeps out.

use std::time::Duration;

use consistency_core::new_task::NewTask;
use consistency_core::retry::Decision;
use consistency_core::state::State;
use consistency_core::store::{ClaimedTask, LeaseId, Settled, Settlement};

use super::steps::{claim, claim_one, death, failure, insert, row, rows, settle, status, success};
use crate::store_under_test::StoreUnderTest;

const HOUR: Duration = Duration::from_secs(3600);

/// After success the row is finished: no owner, no error, due no more.
pub fn success_ends_the_row_and_clears_its_error(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    assert_eq!(settle(on, failure(&claim_one(on), Duration::ZERO)), Settled::Written);
    assert_eq!(status(on, "one").error_message.as_deref(), Some("it failed"));
    assert_eq!(settle(on, success(&claim_one(on))), Settled::Written);
    let done = status(on, "one");
    assert_eq!((done.state, done.error_message, done.lease_owner), (State::Succeeded, None, None));
    assert_eq!(done.execute_times, 2);
    assert_eq!(claim(on, 10), []);
}

/// A failed row is due again the given time after its settlement, with its error.
pub fn a_retry_counts_from_the_settlement(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    assert_eq!(settle(on, failure(&claim_one(on), HOUR)), Settled::Written);
    let failed = status(on, "one");
    assert_eq!((failed.state, failed.execute_times, failed.lease_owner), (State::Failed, 1, None));
    assert_eq!(failed.error_message.as_deref(), Some("it failed"));
    assert!(
        failed.due_in <= HOUR + Duration::from_millis(2) && failed.due_in > HOUR - Duration::from_secs(10),
        "{:?}",
        failed.due_in
    );
    assert_eq!(claim(on, 10), []);
}

/// A dead row is not claimed, and shows why it is dead.
pub fn a_dead_row_stays_dead(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    assert_eq!(settle(on, death(&claim_one(on))), Settled::Written);
    let dead = status(on, "one");
    assert_eq!((dead.state, dead.execute_times, dead.lease_owner), (State::Dead, 1, None));
    assert_eq!(dead.error_message.as_deref(), Some("it is hopeless"));
    assert_eq!(claim(on, 10), []);
}

/// An attempt this build could not make is given back its charge, and the row tells the reason.
pub fn a_deferred_attempt_is_not_charged(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let task = claim_one(on);
    let deferred = task.settled(Decision::Defer(HOUR), Some("written by a newer build".to_owned()), Vec::new());
    assert_eq!(settle(on, deferred), Settled::Written);
    let row = status(on, "one");
    assert_eq!((row.state, row.execute_times), (State::Failed, 0));
    assert_eq!(row.error_message.as_deref(), Some("written by a newer build"));
    assert!(row.due_in > HOUR - Duration::from_secs(10));
}

/// A row that was not started is put back as it was, due at once, without an attempt.
pub fn a_release_puts_the_row_back_as_it_was(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    assert_eq!(settle(on, claim_one(on).released()), Settled::Written);
    let back = status(on, "one");
    assert_eq!((back.state, back.execute_times, back.lease_owner), (State::Pending, 0, None));
    assert_eq!((back.due_in, back.error_message), (Duration::ZERO, None));

    assert_eq!(settle(on, failure(&claim_one(on), Duration::ZERO)), Settled::Written);
    let again = claim_one(on);
    assert_eq!(again.execute_times, 2);
    assert_eq!(settle(on, again.released()), Settled::Written);
    let back = status(on, "one");
    assert_eq!((back.state, back.execute_times), (State::Failed, 1));
    assert_eq!(back.error_message.as_deref(), Some("it failed"));
    assert_eq!(claim_one(on).lease.version, 4);
}

/// Inserts rows leased; the answer gives each as its node holds it.
fn insert_leased(on: &dyn StoreUnderTest, task_ids: &[&str]) -> impl Fn(&str) -> ClaimedTask {
    let new: Vec<_> =
        task_ids.iter().map(|task_id| NewTask { leased: true, execute_mode: 1, ..row(task_id) }).collect();
    insert(on, &new);
    let held: Vec<_> = new.into_iter().map(|row| (row.task_id.clone(), status(on, &row.task_id).id, row)).collect();
    move |task_id| match held.iter().find(|(known, ..)| known == task_id) {
        Some((_, id, row)) => ClaimedTask::from_inserted(row.clone(), *id),
        None => panic!("`{task_id}` was not inserted"),
    }
}

/// A row inserted leased and never charged is charged by the settlement of its first attempt, and not by its release.
pub fn a_row_never_charged_is_charged_by_its_settlement(on: &dyn StoreUnderTest) {
    let held = insert_leased(on, &["ran", "released"]);
    assert_eq!(settle(on, failure(&held("ran"), HOUR)), Settled::Written);
    assert_eq!(status(on, "ran").execute_times, 1);
    assert_eq!(settle(on, held("released").released()), Settled::Written);
    assert_eq!((status(on, "released").execute_times, status(on, "released").state), (0, State::Pending));
    assert_eq!(claim_one(on).task_id, "released");
}

/// Where somebody asked to cancel, no further attempt follows; the settlement may not even know of the wish.
pub fn a_wish_to_cancel_turns_failure_into_cancelled(on: &dyn StoreUnderTest) {
    insert(on, &rows("row", 3));
    let tasks = claim(on, 3);
    tasks.iter().for_each(|task| on.request_cancel(task.lease.id));
    assert_eq!(settle(on, failure(&tasks[0], HOUR)), Settled::Written);
    let cancelled = status(on, &tasks[0].task_id);
    assert_eq!((cancelled.state, cancelled.error_message.as_deref()), (State::Cancelled, Some("it failed")));
    assert_eq!(settle(on, tasks[1].released()), Settled::Written);
    assert_eq!(status(on, &tasks[1].task_id).state, State::Cancelled);
    assert_eq!(settle(on, tasks[2].cancelled()), Settled::Written);
    let unstarted = status(on, &tasks[2].task_id);
    assert_eq!((unstarted.state, unstarted.execute_times), (State::Cancelled, 0));
    // The answer of the first call may have been lost on the way.
    assert_eq!(settle(on, failure(&tasks[0], HOUR)), Settled::Written);
    assert_eq!(settle(on, tasks[1].released()), Settled::Written);
    assert_eq!(claim(on, 10), []);
}

/// Work that is done is done; and a dead row stays visible as dead.
pub fn success_counts_more_than_a_wish_to_cancel(on: &dyn StoreUnderTest) {
    insert(on, &rows("row", 2));
    let tasks = claim(on, 2);
    tasks.iter().for_each(|task| on.request_cancel(task.lease.id));
    assert_eq!(settle(on, success(&tasks[0])), Settled::Written);
    assert_eq!(settle(on, death(&tasks[1])), Settled::Written);
    assert_eq!(status(on, &tasks[0].task_id).state, State::Succeeded);
    assert_eq!(status(on, &tasks[1].task_id).state, State::Dead);
}

/// A settlement under a version that is not the row's is lost, whatever it says.
pub fn an_old_version_is_lost_and_changes_nothing(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let old = claim_one(on);
    assert_eq!(settle(on, old.released()), Settled::Written);
    let current = claim_one(on);
    let before = status(on, "one");
    for zombie in [success(&old), failure(&old, HOUR), death(&old), old.released(), old.cancelled()] {
        assert_eq!(settle(on, zombie.clone()), Settled::Lost, "{zombie:?}");
        assert_eq!(status(on, "one"), before, "{zombie:?}");
    }
    let ahead = LeaseId { version: current.lease.version + 1, ..current.lease };
    let nobody = LeaseId { id: current.lease.id + 1_000_000, version: 1 };
    for lease in [ahead, nobody] {
        assert_eq!(settle(on, Settlement { lease, ..success(&current) }), Settled::Lost);
    }
    assert_eq!(settle(on, success(&current)), Settled::Written);
    assert_eq!(settle(on, success(&old)), Settled::Lost);
}

/// The same settlement again, after its answer was lost: written, but not a second time.
pub fn settling_twice_answers_written_twice_and_charges_once(on: &dyn StoreUnderTest) {
    let held = insert_leased(on, &["a", "b", "c"]);
    for (task_id, settlement) in
        [("a", success(&held("a"))), ("b", failure(&held("b"), HOUR)), ("c", death(&held("c")))]
    {
        assert_eq!(settle(on, settlement.clone()), Settled::Written);
        let state = status(on, task_id).state;
        assert_eq!(settle(on, settlement), Settled::Written);
        let after = status(on, task_id);
        assert_eq!((after.state, after.execute_times), (state, 1));
    }
    // Another outcome under the same version is not what was written.
    assert_eq!(settle(on, failure(&held("a"), HOUR)), Settled::Lost);
    assert_eq!(settle(on, success(&held("c"))), Settled::Lost);
}

/// Rows stored with a success are stored once, however often it is written.
pub fn follow_ups_are_stored_exactly_once(on: &dyn StoreUnderTest) {
    insert(on, &[row("parent"), row("taken")]);
    let parent = claim(on, 1).remove(0);
    let follow_ups = vec![row("child-1"), row("child-2"), row("taken")];
    let settlement = parent.settled(Decision::Succeed, None, follow_ups);
    assert_eq!(settle(on, settlement.clone()), Settled::Written);
    let child = status(on, "child-1");
    assert_eq!((child.state, child.execute_times, child.lease_owner), (State::Pending, 0, None));
    assert_eq!(settle(on, settlement.clone()), Settled::Written);
    let all = claim(on, 100);
    assert_eq!(all.len(), 3);
    assert_eq!(status(on, "child-1").id, child.id);
    all.iter().for_each(|task| assert_eq!(settle(on, success(task)), Settled::Written));
    assert_eq!(settle(on, settlement), Settled::Written);
    assert_eq!(claim(on, 100), []);
}

/// What a zombie would have stored with its success is not stored.
pub fn follow_ups_of_a_lost_lease_are_not_stored(on: &dyn StoreUnderTest) {
    insert(on, &[row("parent")]);
    let zombie = claim_one(on);
    assert_eq!(settle(on, zombie.released()), Settled::Written);
    let settlement = zombie.settled(Decision::Succeed, None, vec![row("child")]);
    assert_eq!(settle(on, settlement), Settled::Lost);
    assert_eq!(on.store().status("child").unwrap(), None);
}

/// Answers come in the order asked, and one lost lease is nobody else's trouble.
pub fn a_lost_one_does_not_keep_the_others_from_being_written(on: &dyn StoreUnderTest) {
    insert(on, &rows("row", 4));
    let tasks = claim(on, 4);
    assert_eq!(settle(on, tasks[1].released()), Settled::Written);
    let with_child = tasks[3].settled(Decision::Succeed, None, vec![row("child")]);
    let batch = [death(&tasks[2]), success(&tasks[1]), success(&tasks[0]), with_child];
    let answers = on.store().settle(&batch).unwrap();
    assert_eq!(answers, [Settled::Written, Settled::Lost, Settled::Written, Settled::Written]);
    let states: Vec<_> = tasks.iter().map(|task| status(on, &task.task_id).state).collect();
    assert_eq!(states, [State::Succeeded, State::Pending, State::Dead, State::Succeeded]);
    assert_eq!(status(on, "child").state, State::Pending);
}

/// Outcomes of every kind in one settlement: each row gets its own, and one that is lost keeps none of the others.
pub fn outcomes_of_every_kind_are_written_together(on: &dyn StoreUnderTest) {
    let leased = NewTask { leased: true, ..row("handed over") };
    insert(on, &[row("succeeds"), row("fails"), row("dies"), row("put back"), row("lost")]);
    insert(on, std::slice::from_ref(&leased));
    let id = status(on, "handed over").id;
    let mut claimed = claim(on, 10);
    claimed.sort_by(|one, other| one.task_id.cmp(&other.task_id));
    let [dies, fails, mut lost, back, succeeds] = <[ClaimedTask; 5]>::try_from(claimed).unwrap();
    lost.lease.version += 1;
    let handed_over = ClaimedTask::from_inserted(leased, id);
    let outcomes = [
        success(&succeeds),
        failure(&fails, HOUR),
        success(&lost),
        death(&dies),
        success(&handed_over),
        back.released(),
    ];
    let written = on.store().settle(&outcomes).unwrap();
    let expected =
        outcomes.each_ref().map(|outcome| if outcome.lease == lost.lease { Settled::Lost } else { Settled::Written });
    assert_eq!(written, expected);
    let found = |task_id| {
        let row = status(on, task_id);
        (row.state, row.execute_times, row.error_message)
    };
    assert_eq!(found("succeeds"), (State::Succeeded, 1, None));
    assert_eq!(found("handed over"), (State::Succeeded, 1, None));
    assert_eq!(found("fails"), (State::Failed, 1, Some("it failed".to_owned())));
    assert_eq!(found("dies"), (State::Dead, 1, Some("it is hopeless".to_owned())));
    assert_eq!(found("put back"), (State::Pending, 0, None));
    assert_eq!(found("lost"), (State::Running, 1, None));
    assert_eq!(on.store().settle(&outcomes).unwrap(), expected, "and once more");
    assert_eq!(found("handed over"), (State::Succeeded, 1, None));
}
