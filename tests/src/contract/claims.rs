//! Claiming rows: which, in which order, for whom, and never twice.

use std::collections::HashSet;
use std::sync::Barrier;
use std::time::Duration;

use consistency_core::new_task::NewTask;
use consistency_core::state::State;
use consistency_core::store::Share;
use consistency_core::task::DEFAULT_QUEUE;

use super::steps::{
    Claim, LONG, NAME, NODE, claim, claim_one, due_since, failure, handles, insert, row, rows, settle, status,
};
use crate::store_under_test::StoreUnderTest;

/// A claimed row is running, leased to the node, charged, and carries a new version and everything its run needs.
pub fn a_claim_charges_leases_and_fences(on: &dyn StoreUnderTest) {
    let new = NewTask {
        task_parameter: r#"{"order":7}"#.to_owned(),
        execute_interval_second: 30,
        max_execute_times: Some(4),
        meta: Some(r#"{"title":"seven"}"#.to_owned()),
        ..row("one")
    };
    insert(on, &[new]);
    let first = Claim { node: "node-b", ..Claim::default() }.take(on).pop().unwrap();
    assert_eq!((first.task_id.as_str(), first.method_name.as_str(), first.queue.as_str()), ("one", NAME, "default"));
    assert_eq!(
        (first.task_parameter.as_str(), first.meta.as_deref()),
        (r#"{"order":7}"#, Some(r#"{"title":"seven"}"#))
    );
    assert_eq!((first.execute_interval_second, first.max_execute_times), (30, Some(4)));
    assert_eq!((first.lease.version, first.execute_times, first.charged), (1, 1, true));
    assert!(!first.failed_before && !first.cancel_requested);
    let held = status(on, "one");
    assert_eq!((held.id, held.state, held.lease_owner.as_deref()), (first.lease.id, State::Running, Some("node-b")));
    assert_eq!((held.execute_times, held.lost_times), (1, 0));

    settle(on, failure(&first, Duration::ZERO));
    let second = claim_one(on);
    assert_eq!((second.lease.id, second.lease.version, second.execute_times), (first.lease.id, 2, 2));
    assert!(second.failed_before);
}

/// The oldest due rows come first, whatever order they were inserted in.
pub fn the_oldest_due_rows_come_first_up_to_the_limit(on: &dyn StoreUnderTest) {
    let tomorrow = NewTask { delay_us: 86_400_000_000, ..row("tomorrow") };
    insert(
        on,
        &[due_since("c", 3), tomorrow, due_since("a", 1), due_since("d", 4), due_since("b", 2), due_since("b2", 2)],
    );
    assert_eq!(handles(&claim(on, 3)), ["a", "b", "b2"]);
    assert_eq!(handles(&claim(on, 100)), ["c", "d"]);
    assert_eq!(status(on, "tomorrow").state, State::Pending);
}

/// A claim is of one queue and one priority.
pub fn only_rows_of_the_asked_queue_and_priority_are_taken(on: &dyn StoreUnderTest) {
    let mail = NewTask { queue: "mail".to_owned(), ..row("mail") };
    let urgent = NewTask { priority: 0, ..row("urgent") };
    let last = NewTask { priority: 9, queue: "mail".to_owned(), ..row("last") };
    insert(on, &[mail, urgent, last, row("usual")]);
    assert_eq!(handles(&claim(on, 10)), ["usual"]);
    assert_eq!(handles(&Claim { priority: 0, ..Claim::default() }.take(on)), ["urgent"]);
    assert_eq!(handles(&Claim { queue: "mail", ..Claim::default() }.take(on)), ["mail"]);
    assert_eq!(handles(&Claim { queue: "mail", priority: 9, ..Claim::default() }.take(on)), ["last"]);
    assert_eq!(handles(&Claim { queue: "Mail", ..Claim::default() }.take(on)), Vec::<&str>::new());
}

/// Rows of unknown names are untouched by a claim, and their names are reported, but not before they are due.
pub fn only_known_names_are_taken_and_others_are_reported(on: &dyn StoreUnderTest) {
    let of = |task_id: &str, name: &str| NewTask { method_name: name.to_owned(), ..row(task_id) };
    let later = NewTask { delay_us: 86_400_000_000, ..of("later", "not::due") };
    let elsewhere = NewTask { queue: "elsewhere".to_owned(), ..of("elsewhere", "not::asked") };
    insert(on, &[elsewhere]);
    insert(on, &[of("old", "gone::a"), of("older", "gone::b"), of("twice", "gone::a"), row("known"), later]);
    let known = [NAME.to_owned(), "never::stored".to_owned()];
    let queues = [DEFAULT_QUEUE.to_owned(), "another".to_owned()];
    let mut unknown = on.store().unknown_names(&queues, &known, 10).unwrap();
    unknown.sort();
    assert_eq!(unknown, ["gone::a", "gone::b"]);
    assert_eq!(on.store().unknown_names(&queues, &known, 1).unwrap().len(), 1);
    assert_eq!(handles(&Claim { names: known.to_vec(), ..Claim::default() }.take(on)), ["known"]);
    let untouched = status(on, "old");
    assert_eq!((untouched.state, untouched.execute_times, untouched.error_message), (State::Pending, 0, None));
    assert_eq!(Claim { names: Vec::new(), ..Claim::default() }.take(on), []);
    let similar = ["Gone::A".to_owned(), "gone".to_owned(), "gone::a::b".to_owned()];
    assert_eq!(Claim { names: similar.to_vec(), ..Claim::default() }.take(on), []);
    assert_eq!(handles(&Claim { names: vec!["gone::b".to_owned()], ..Claim::default() }.take(on)), ["older"]);
}

/// Rows that are scheduled and for the caller's thread belong to the scheduling thread; all others to workers.
pub fn the_scheduling_thread_and_the_workers_take_different_rows(on: &dyn StoreUnderTest) {
    let of = |task_id: &str, execute_mode, thread_way| NewTask { execute_mode, thread_way, ..due_since(task_id, 0) };
    insert(on, &[of("1/1", 1, 1), of("1/2", 1, 2), of("2/1", 2, 1), of("2/2", 2, 2)]);
    assert_eq!(handles(&Claim { share: Share::SchedulingThread, ..Claim::default() }.take(on)), ["2/2"]);
    assert_eq!(handles(&claim(on, 10)), ["1/1", "1/2", "2/1"]);
}

/// A look tells them apart, so that nobody asks for rows of a share that has none.
pub fn a_look_tells_the_rows_of_the_scheduling_thread_from_those_of_workers(on: &dyn StoreUnderTest) {
    let of = |task_id: &str, execute_mode, thread_way| NewTask { execute_mode, thread_way, ..due_since(task_id, 0) };
    let shares = || {
        let heads = on.store().look(&["default".to_owned()]).unwrap().heads;
        let mut shares: Vec<_> = heads.iter().map(|head| head.share).collect();
        shares.sort();
        shares
    };
    insert(on, &[of("1/2", 1, 2), of("2/1", 2, 1)]);
    assert_eq!(shares(), [Share::Workers]);
    insert(on, &[of("2/2", 2, 2)]);
    assert_eq!(shares(), [Share::Workers, Share::SchedulingThread]);
    assert_eq!(claim(on, 10).len(), 2);
    assert_eq!(shares(), [Share::SchedulingThread]);
}

/// Of what a node has claimed, it puts back what it does not hold, and nothing that was inserted leased.
pub fn what_a_lost_claim_took_is_put_back_uncharged(on: &dyn StoreUnderTest) {
    let leased = NewTask { leased: true, max_execute_times: Some(1), ..row("inserted leased") };
    insert(on, &[leased, row("lost"), row("held"), row("cancelled")]);
    let claimed = claim(on, 10);
    let id = |task_id: &str| claimed.iter().find(|task| task.task_id == task_id).unwrap().lease.id;
    on.request_cancel(id("cancelled"));
    let held = [id("held")];
    let put_back = |node, since| on.store().put_back_unheld(node, &held, since, LONG).unwrap();
    assert_eq!(put_back("node-b", LONG), 0, "another node's");
    assert_eq!(put_back(NODE, LONG), 2);
    assert_eq!(put_back(NODE, LONG), 0, "again");
    let now = |task_id| {
        let status = status(on, task_id);
        (status.state, status.execute_times, status.lost_times)
    };
    assert_eq!(now("lost"), (State::Pending, 0, 0));
    assert_eq!(now("cancelled"), (State::Cancelled, 0, 0));
    assert_eq!(now("held"), (State::Running, 1, 0));
    assert_eq!(now("inserted leased"), (State::Running, 1, 0));
    assert_eq!(handles(&claim(on, 10)), ["lost"]);
}

/// What is leased or finished is not there for a claim.
pub fn a_leased_row_is_never_claimed(on: &dyn StoreUnderTest) {
    insert(on, &[NewTask { leased: true, ..row("inserted leased") }, row("claimed")]);
    assert_eq!(handles(&claim(on, 10)), ["claimed"]);
    assert_eq!(Claim { node: "node-b", ..Claim::default() }.take(on), []);
}

/// Two claims at the same moment share four rows two and two, and neither waits for the other or goes away with less.
pub fn two_claims_share_four_rows(on: &dyn StoreUnderTest) {
    for round in 0..10 {
        insert(on, &rows(&format!("round-{round}"), 4));
        let barrier = Barrier::new(2);
        let claim_two = |node| {
            barrier.wait();
            Claim { node, limit: 2, ..Claim::default() }.take(on)
        };
        let (a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(|| claim_two("node-b"));
            (claim_two("node-a"), other.join().unwrap())
        });
        assert_eq!((a.len(), b.len()), (2, 2), "in round {round}");
        let ids: HashSet<i64> = a.iter().chain(&b).map(|task| task.lease.id).collect();
        assert_eq!(ids.len(), 4);
    }
}

/// However many claim at once, every row is taken by one of them.
pub fn claims_at_once_never_take_a_row_twice(on: &dyn StoreUnderTest) {
    const ROWS: usize = 200;
    insert(on, &rows("row", ROWS));
    let claim_all = || {
        let mut taken = Vec::new();
        loop {
            let tasks = Claim { limit: 7, lease: LONG, ..Claim::default() }.take(on);
            if tasks.is_empty() {
                return taken;
            }
            taken.extend(tasks.into_iter().map(|task| task.lease));
        }
    };
    let taken: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(claim_all)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // An empty answer may only mean that others hold the rest at this moment.
    let rest = claim(on, ROWS);
    let ids: HashSet<i64> = taken.iter().map(|lease| lease.id).chain(rest.iter().map(|task| task.lease.id)).collect();
    assert_eq!((taken.len() + rest.len(), ids.len()), (ROWS, ROWS));
    assert!(taken.iter().all(|lease| lease.version == 1));
}
