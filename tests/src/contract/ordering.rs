//! Ordering keys: of each, the oldest unfinished row alone can be claimed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use consistency_core::new_task::NewTask;
use consistency_core::state::State;
use consistency_core::store::Settled;
use parking_lot::Mutex;

use super::steps::{
    Claim, SHORT, claim, claim_one, claim_one_for, death, due_since, failure, handles, insert, ordered, rescue_one,
    row, settle, status, success,
};
use crate::recorder::wait_until;
use crate::store_under_test::StoreUnderTest;

const HOUR: Duration = Duration::from_secs(3600);

/// One claim takes one row of a key, and the next one only after that is through.
pub fn only_the_oldest_unfinished_row_of_a_key_is_taken(on: &dyn StoreUnderTest) {
    insert(on, &[ordered("a1", "a"), ordered("a2", "a"), ordered("b1", "b"), row("free"), ordered("a3", "a")]);
    let mut first = claim(on, 10);
    first.sort_by(|one, other| one.task_id.cmp(&other.task_id));
    assert_eq!(handles(&first), ["a1", "b1", "free"]);
    assert_eq!(claim(on, 10), []);
    let mut head = first.remove(0);
    for next in ["a2", "a3"] {
        assert_eq!(settle(on, success(&head)), Settled::Written);
        let taken = claim(on, 10);
        assert_eq!(handles(&taken), [next]);
        head = taken.into_iter().next().unwrap();
    }
}

/// The order is that of the inserts, not of the due times.
pub fn a_row_not_yet_due_holds_up_its_key(on: &dyn StoreUnderTest) {
    let later = NewTask { delay_us: 3_600_000_000, ..ordered("a1", "a") };
    let due = NewTask { order_key: Some("a".to_owned()), ..due_since("a2", 0) };
    insert(on, &[later, due, ordered("b1", "b")]);
    assert_eq!(handles(&claim(on, 10)), ["b1"]);
    assert_eq!(status(on, "a2").state, State::Pending);
}

/// Nobody takes the next row while one is running, inserted leased or claimed.
pub fn a_running_row_holds_up_its_key_for_everybody(on: &dyn StoreUnderTest) {
    insert(
        on,
        &[NewTask { leased: true, ..ordered("a1", "a") }, ordered("a2", "a"), ordered("b1", "b"), ordered("b2", "b")],
    );
    assert_eq!(handles(&claim(on, 10)), ["b1"]);
    assert_eq!(Claim { node: "node-b", ..Claim::default() }.take(on), []);
}

/// A failed row is tried again before the next one of its key is tried at all.
pub fn a_failed_row_holds_up_its_key_until_it_is_through(on: &dyn StoreUnderTest) {
    insert(on, &[ordered("a1", "a"), ordered("a2", "a")]);
    assert_eq!(settle(on, failure(&claim_one(on), HOUR)), Settled::Written);
    assert_eq!(claim(on, 10), []);
    insert(on, &[ordered("b1", "b"), ordered("b2", "b")]);
    assert_eq!(settle(on, failure(&claim_one(on), Duration::ZERO)), Settled::Written);
    let again = claim_one(on);
    assert_eq!(again.task_id, "b1");
    assert_eq!(settle(on, success(&again)), Settled::Written);
    assert_eq!(claim_one(on).task_id, "b2");
}

/// What must come after a dead row waits for a person; other keys and free rows flow.
pub fn a_dead_row_holds_up_its_key_and_no_other(on: &dyn StoreUnderTest) {
    insert(on, &[ordered("a1", "a")]);
    assert_eq!(settle(on, death(&claim_one(on))), Settled::Written);
    insert(on, &[ordered("a2", "a"), ordered("b1", "b"), row("free")]);
    let tasks = claim(on, 10);
    let taken: HashSet<_> = handles(&tasks).into_iter().collect();
    assert_eq!(taken, HashSet::from(["b1", "free"]));
    assert_eq!(status(on, "a2").state, State::Pending);
}

/// A cancelled row holds up nobody.
pub fn a_cancelled_row_lets_its_key_go_on(on: &dyn StoreUnderTest) {
    insert(on, &[ordered("a1", "a"), ordered("a2", "a")]);
    assert_eq!(settle(on, claim_one(on).cancelled()), Settled::Written);
    assert_eq!(claim_one(on).task_id, "a2");
}

/// A row whose worker died is tried again first.
pub fn a_lost_row_stays_first_of_its_key(on: &dyn StoreUnderTest) {
    insert(on, &[ordered("a1", "a"), ordered("a2", "a")]);
    assert_eq!(claim_one_for(on, SHORT).task_id, "a1");
    rescue_one(on);
    assert_eq!(handles(&claim(on, 10)), ["a1"]);
}

/// Several workers, several keys, some failures: rows of one key never overlap, and are through in their order.
pub fn claims_at_once_keep_the_order_of_each_key(on: &dyn StoreUnderTest) {
    const KEYS: usize = 4;
    const EACH: usize = 10;
    let new: Vec<_> = (0..KEYS * EACH)
        .map(|number| {
            let (key, place) = (number % KEYS, number / KEYS);
            ordered(&format!("{key}/{place}"), &format!("key-{key}"))
        })
        .collect();
    insert(on, &new);
    let running: Mutex<HashSet<String>> = Mutex::new(HashSet::new());
    let through: Mutex<HashMap<String, Vec<usize>>> = Mutex::new(HashMap::new());
    let work = || {
        wait_until("every row to be through", || {
            for task in (Claim { limit: 2, ..Claim::default() }).take(on) {
                let (key, place) = task.task_id.split_once('/').unwrap();
                let place: usize = place.parse().unwrap();
                assert!(running.lock().insert(key.to_owned()), "two rows of key {key} run at once");
                let fails = place % 4 == 1 && task.execute_times == 1;
                if !fails {
                    through.lock().entry(key.to_owned()).or_default().push(place);
                }
                running.lock().remove(key);
                let settlement = if fails { failure(&task, Duration::ZERO) } else { success(&task) };
                assert_eq!(settle(on, settlement), Settled::Written);
            }
            through.lock().values().map(Vec::len).sum::<usize>() == KEYS * EACH
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(work);
        }
    });
    for (key, places) in through.into_inner() {
        assert_eq!(places, (0..EACH).collect::<Vec<_>>(), "key {key}");
    }
}
