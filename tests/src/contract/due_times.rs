//! Times: never early, to the fraction of a second, and how long until the next.

use std::time::{Duration, Instant, SystemTime};

use consistency_core::new_task::NewTask;
use consistency_core::store::{Head, Outlook, Settled, Share};

use super::steps::{
    Claim, LONG, SHORT, claim, claim_one, claim_one_for, due_since, failure, insert, let_short_leases_end, row, settle,
    status, success,
};
use crate::recorder::wait_until_some;
use crate::store_under_test::StoreUnderTest;

const DELAY: Duration = Duration::from_millis(300);
/// What a busy machine may add before a row that is due is seen to be.
const LATE: Duration = Duration::from_secs(5);

fn delayed(task_id: &str, delay: Duration) -> NewTask {
    NewTask { delay_us: i64::try_from(delay.as_micros()).unwrap(), ..row(task_id) }
}

/// A delay of a fraction of a second is kept: not claimed before, claimed soon after.
pub fn a_row_is_never_claimed_before_it_is_due(on: &dyn StoreUnderTest) {
    for delay in [DELAY, Duration::from_micros(1), Duration::from_micros(20_400), Duration::from_millis(999)] {
        let begun = Instant::now();
        insert(on, &[delayed(&format!("{delay:?}"), delay)]);
        claim_one(on);
        let waited = begun.elapsed();
        assert!(waited >= delay && waited < delay + LATE, "due after {delay:?}, claimed after {waited:?}");
    }
}

/// A named time of the clock is kept as exactly.
pub fn a_named_time_is_kept_to_the_fraction_of_a_second(on: &dyn StoreUnderTest) {
    let due_at = SystemTime::now() + DELAY;
    let since_epoch = due_at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    insert(on, &[NewTask { due_at_us: Some(i64::try_from(since_epoch.as_micros()).unwrap()), ..row("one") }]);
    assert!(status(on, "one").due_in <= DELAY + Duration::from_millis(1));
    claim_one(on);
    // Rounded down to what SystemTime was asked in.
    let late = SystemTime::now().duration_since(due_at - Duration::from_micros(1)).expect("not early");
    assert!(late < LATE, "{late:?} late");
}

/// A retry waits as exactly as a first attempt.
pub fn a_retry_is_never_claimed_before_it_is_due(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    for delay in [DELAY, Duration::from_micros(10_700)] {
        let task = claim_one(on);
        let begun = Instant::now();
        assert_eq!(settle(on, failure(&task, delay)), Settled::Written);
        let again = claim_one(on);
        let waited = begun.elapsed();
        assert!(waited >= delay && waited < delay + LATE, "due after {delay:?}, claimed after {waited:?}");
        assert_eq!(settle(on, failure(&again, Duration::ZERO)), Settled::Written);
    }
}

/// There is no window to look back through: what was due long ago is due.
pub fn a_row_years_overdue_is_due(on: &dyn StoreUnderTest) {
    insert(on, &[NewTask { due_at_us: Some(0), ..row("epoch") }, due_since("2023", 0), row("now")]);
    let heads = on.store().look(&["default".to_owned()]).unwrap().heads;
    assert_eq!(heads, [Head { queue: "default".to_owned(), priority: 5, share: Share::Workers, wait: Duration::ZERO }]);
    assert_eq!(status(on, "epoch").due_in, Duration::ZERO);
    let taken: Vec<_> = claim(on, 10).into_iter().map(|task| task.task_id).collect();
    assert_eq!(taken, ["epoch", "2023", "now"]);
}

/// A look answers one head per queue and priority that has claimable rows: zero when due, else how long until then.
pub fn a_look_says_how_long_until_the_first_of_each_queue_and_priority(on: &dyn StoreUnderTest) {
    let in_queue = |queue: &str, priority, new: NewTask| NewTask { queue: queue.to_owned(), priority, ..new };
    let minute = Duration::from_secs(60);
    insert(
        on,
        &[
            in_queue("a", 0, delayed("a0", minute)),
            in_queue("a", 0, delayed("a0 later", 2 * minute)),
            in_queue("a", 9, row("a9")),
            in_queue("b", 5, delayed("b5", DELAY)),
            in_queue("not asked for", 5, row("c5")),
        ],
    );
    let queues = ["a".to_owned(), "b".to_owned(), "empty".to_owned()];
    let mut heads = on.store().look(&queues).unwrap().heads;
    heads.sort_by(|a, b| (&a.queue, a.priority).cmp(&(&b.queue, b.priority)));
    let found: Vec<_> = heads.iter().map(|head| (head.queue.as_str(), head.priority)).collect();
    assert_eq!(found, [("a", 0), ("a", 9), ("b", 5)]);
    let rounding = Duration::from_millis(3);
    assert!(heads[0].wait <= minute + rounding && heads[0].wait > minute - LATE, "{heads:?}");
    assert_eq!(heads[1].wait, Duration::ZERO);
    assert!(heads[2].wait <= DELAY + rounding, "{heads:?}");
    // Whoever sleeps as long as the look says finds the row due.
    wait_until_some("the row of b to be due", || {
        let heads = on.store().look(&["b".to_owned()]).unwrap().heads;
        (heads[0].wait == Duration::ZERO).then_some(())
    });
    assert_eq!(Claim { queue: "b", ..Claim::default() }.take(on).len(), 1);
}

/// Rows that are running or finished are no reason to wake up.
pub fn a_look_sees_only_what_can_be_claimed(on: &dyn StoreUnderTest) {
    let look = || on.store().look(&["default".to_owned()]).unwrap().heads;
    assert_eq!(look(), []);
    insert(on, &[row("one")]);
    assert_eq!(look().len(), 1);
    let task = claim_one(on);
    assert_eq!(look(), []);
    assert_eq!(settle(on, failure(&task, Duration::from_secs(60))), Settled::Written);
    let wait = look()[0].wait;
    assert!(wait > Duration::from_secs(50) && wait < Duration::from_secs(61), "{wait:?}");
    on.store().look(&[]).unwrap();
}

/// A look says when the first lease ends, in whichever queue: zero once it has, nothing when no row is leased.
pub fn a_look_says_when_the_first_lease_ends(on: &dyn StoreUnderTest) {
    let look = || on.store().look(&["empty".to_owned()]).unwrap();
    assert_eq!(look(), Outlook::default());
    insert(on, &[row("short"), row("long")]);
    assert_eq!(look(), Outlook::default(), "nobody holds a lease");
    let short = claim_one_for(on, SHORT);
    let long = claim_one(on);
    assert!(look().lease_ends_in.unwrap() <= SHORT + Duration::from_millis(3), "{:?}", look());
    let_short_leases_end(on);
    assert_eq!(look(), Outlook { heads: Vec::new(), lease_ends_in: Some(Duration::ZERO) });
    assert_eq!(settle(on, success(&short)), Settled::Written);
    let ends = look().lease_ends_in.unwrap();
    assert!(ends <= LONG + Duration::from_millis(3) && ends > LONG - LATE, "{ends:?}");
    assert_eq!(settle(on, success(&long)), Settled::Written);
    assert_eq!(look(), Outlook::default());
}
