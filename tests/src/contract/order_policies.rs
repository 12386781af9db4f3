//! What becomes of an ordering key when a row of it is given up, or comes back to life.

use std::collections::HashSet;
use std::time::Duration;

use consistency_core::new_task::NewTask;
use consistency_core::state::State;
use consistency_core::store::Settled;
use consistency_core::when_dead::WhenDead;
use parking_lot::Mutex;

use super::steps::{
    BUDGET, Claim, SHORT, claim, claim_one, claim_one_for, death, handles, insert, ordered, rescue_one, row, settle,
    status, success,
};
use crate::recorder::wait_until;
use crate::store_under_test::StoreUnderTest;

/// A row of an ordering key with this policy.
fn with_policy(task_id: &str, key: &str, policy: WhenDead) -> NewTask {
    NewTask { order_policy: policy.code(), ..ordered(task_id, key) }
}

/// A parked row is dead like any other, and its key flows on without it.
pub fn a_parked_row_lets_its_key_go_on(on: &dyn StoreUnderTest) {
    insert(on, &[with_policy("a1", "a", WhenDead::Park), ordered("a2", "a"), ordered("a3", "a")]);
    let head = claim_one(on);
    assert_eq!((head.task_id.as_str(), head.when_dead), ("a1", Some(WhenDead::Park)));
    assert_eq!(settle(on, death(&head)), Settled::Written);
    let parked = status(on, "a1");
    assert_eq!((parked.state, parked.error_message.as_deref()), (State::Dead, Some("it is hopeless")));
    for next in ["a2", "a3"] {
        let task = claim_one(on);
        assert_eq!((task.task_id.as_str(), task.when_dead), (next, Some(WhenDead::Block)));
        assert_eq!(claim(on, 10), []);
        assert_eq!(settle(on, success(&task)), Settled::Written);
    }
    assert_eq!(status(on, "a1").state, State::Dead);
}

/// A skipped row keeps its error, is finished, and its key flows on.
pub fn a_skipped_row_lets_its_key_go_on_and_keeps_its_error(on: &dyn StoreUnderTest) {
    insert(on, &[with_policy("a1", "a", WhenDead::Skip), ordered("a2", "a")]);
    let head = claim_one(on);
    let settlement = death(&head);
    assert_eq!(settlement.state, State::Skipped);
    assert_eq!(settle(on, settlement.clone()), Settled::Written);
    let skipped = status(on, "a1");
    assert_eq!((skipped.state, skipped.error_message.as_deref()), (State::Skipped, Some("it is hopeless")));
    assert_eq!((skipped.execute_times, skipped.lease_owner), (1, None));
    assert_eq!(settle(on, settlement), Settled::Written, "a repeated call hears that it was written");
    let next = claim_one(on);
    assert_eq!(next.task_id, "a2");
    assert_eq!(settle(on, death(&next)), Settled::Written);
    assert_eq!(status(on, "a2").state, State::Dead, "each row has its own policy");
    on.let_time_pass(5 * SHORT);
    assert_eq!(on.store().prune(Duration::ZERO, 10).unwrap(), 1, "retention takes the skipped one alone");
}

/// A rescue gives up by the same rule: the crash budget, or the attempts, used up.
pub fn a_rescue_that_gives_up_follows_the_policy(on: &dyn StoreUnderTest) {
    let last = |policy| NewTask { max_execute_times: Some(1), ..with_policy("attempts", "b", policy) };
    for (policy, given_up, flows) in [
        (WhenDead::Block, State::Dead, false),
        (WhenDead::Park, State::Dead, true),
        (WhenDead::Skip, State::Skipped, true),
    ] {
        let name = |what: &str| format!("{what}-{policy:?}");
        let key = name("key");
        insert(
            on,
            &[
                with_policy(&name("budget"), &key, policy),
                NewTask { task_id: name("attempts"), order_key: Some(name("other")), ..last(policy) },
            ],
        );
        for loss in 1..=BUDGET {
            let lost = if loss == 1 { 2 } else { 1 };
            wait_until("the rows to be claimed", || {
                Claim { lease: SHORT, ..Claim::default() }.take(on).len() == lost || {
                    assert_eq!(lost, 1, "both are due");
                    false
                }
            });
            for _ in 0..lost {
                rescue_one(on);
            }
        }
        for what in ["budget", "attempts"] {
            let row = status(on, &name(what));
            assert_eq!(row.state, given_up, "{policy:?}, {what}");
            assert!(row.error_message.unwrap().contains("worker died"));
        }
        insert(on, &[ordered(&name("next"), &key), ordered(&name("other-next"), &name("other"))]);
        let taken = claim(on, 10);
        assert_eq!(taken.len(), if flows { 2 } else { 0 }, "{policy:?}");
        for task in &taken {
            assert_eq!(settle(on, success(task)), Settled::Written);
        }
    }
}

/// Without an ordering key there is nobody to go on: given up is dead.
pub fn a_row_without_a_key_is_dead_when_it_is_given_up(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    let task = claim_one(on);
    assert_eq!(task.when_dead, None);
    assert_eq!(settle(on, death(&task)), Settled::Written);
    assert_eq!(status(on, "one").state, State::Dead);
}

/// A parked row that a person retries is a row of its key again: never beside another one, and first when its turn comes.
pub fn a_parked_row_put_back_never_runs_beside_another(on: &dyn StoreUnderTest) {
    insert(on, &[with_policy("a1", "a", WhenDead::Park), ordered("a2", "a"), ordered("a3", "a")]);
    let parked = claim_one(on);
    assert_eq!(settle(on, death(&parked)), Settled::Written);
    let second = claim_one(on);
    assert_eq!(second.task_id, "a2");
    on.put_back(parked.lease.id);
    assert_eq!(claim(on, 10), [], "a2 runs");
    assert_eq!(settle(on, success(&second)), Settled::Written);
    let again = claim_one(on);
    assert_eq!(again.task_id, "a1");
    assert_eq!(claim(on, 10), []);
    assert_eq!(settle(on, success(&again)), Settled::Written);
    assert_eq!(claim_one(on).task_id, "a3");
}

/// The same of a cancelled row, and of one whose neighbour's lease has ended but was not rescued yet.
pub fn a_cancelled_row_put_back_never_runs_beside_another(on: &dyn StoreUnderTest) {
    insert(on, &[ordered("a1", "a"), ordered("a2", "a")]);
    let first = claim_one(on);
    assert_eq!(settle(on, first.cancelled()), Settled::Written);
    let second = claim_one_for(on, SHORT);
    on.put_back(first.lease.id);
    on.let_time_pass(5 * SHORT);
    assert_eq!(claim(on, 10), [], "a2 may still run");
    assert_eq!(rescue_one(on).id, second.lease.id);
    assert_eq!(handles(&claim(on, 10)), ["a1"]);
}

/// Rows put back at the very moment others of their keys are claimed: never two of a key at once.
pub fn rows_put_back_while_others_are_claimed_never_run_beside_them(on: &dyn StoreUnderTest) {
    const KEYS: usize = 3;
    const EACH: usize = 12;
    let parked: Vec<_> =
        (0..KEYS).map(|key| with_policy(&format!("p{key}"), &format!("key-{key}"), WhenDead::Park)).collect();
    insert(on, &parked);
    let mut ids = Vec::new();
    for _ in 0..KEYS {
        let task = claim_one(on);
        ids.push(task.lease.id);
        assert_eq!(settle(on, death(&task)), Settled::Written);
    }
    let new: Vec<_> =
        (0..KEYS * EACH).map(|number| ordered(&format!("row-{number}"), &format!("key-{}", number % KEYS))).collect();
    insert(on, &new);
    let running: Mutex<HashSet<String>> = Mutex::new(HashSet::new());
    let through = Mutex::new(0);
    let key_of = |task_id: &str| match task_id.strip_prefix('p') {
        Some(key) => key.to_owned(),
        None => (task_id["row-".len()..].parse::<usize>().unwrap() % KEYS).to_string(),
    };
    let work = || {
        wait_until("every row to be through", || {
            // Two claims that meet at a key may also be told to try again later.
            let taken = match on.store().claim(&Claim { limit: 2, ..Claim::default() }.request()) {
                Err(error) if error.is_transient() => Vec::new(),
                taken => taken.unwrap(),
            };
            for task in taken {
                let key = key_of(&task.task_id);
                assert!(running.lock().insert(key.clone()), "two rows of key {key} run at once");
                std::thread::yield_now();
                running.lock().remove(&key);
                // Given up again, it is put back again: as often as the others leave time for.
                let is_parked = task.when_dead == Some(WhenDead::Park);
                let settlement = if is_parked { death(&task) } else { success(&task) };
                assert_eq!(settle(on, settlement), Settled::Written);
                *through.lock() += usize::from(!is_parked);
            }
            *through.lock() == KEYS * EACH
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
        scope.spawn(|| {
            // Bounded: what is put back goes first, and the others are to get through as well.
            for _ in 0..40 {
                ids.iter().for_each(|id| on.put_back(*id));
                std::thread::yield_now();
            }
        });
    });
}
