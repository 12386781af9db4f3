//! Calls with nothing in them, and calls with very much.

use std::time::Duration;

use consistency_core::new_task::NewTask;
use consistency_core::state::State;
use consistency_core::store::{ClaimedTask, Outlook, Settled, Settlement};
use consistency_core::task::DEFAULT_QUEUE;

use super::steps::{
    BUDGET, Claim, LONG, NODE, SHORT, failure, insert, let_short_leases_end, row, rows, status, success,
};
use crate::store_under_test::StoreUnderTest;

/// More than one statement's worth of rows on every database.
const MANY: usize = 1500;

/// A call about nothing is no error.
pub fn empty_calls_do_nothing(on: &dyn StoreUnderTest) {
    let store = on.store();
    assert_eq!(store.insert(&[], NODE, LONG).unwrap(), []);
    assert_eq!(store.settle(&[]).unwrap(), []);
    assert_eq!(store.renew(&[], LONG).unwrap(), []);
    assert_eq!(store.rescue(BUDGET, 10).unwrap(), []);
    assert_eq!(store.look(&[]).unwrap(), Outlook::default());
    assert_eq!(store.unknown_names(&[], &[], 10).unwrap(), Vec::<String>::new());
    assert_eq!(store.prune(Duration::ZERO, 10).unwrap(), 0);
    assert_eq!(Claim::default().take(on), []);
    insert(on, &[row("one")]);
    assert_eq!(Claim { limit: 0, ..Claim::default() }.take(on), []);
    assert_eq!(store.unknown_names(&[DEFAULT_QUEUE.to_owned()], &[], 10).unwrap().len(), 1);
}

/// Batches have no limit the caller must know of.
pub fn fifteen_hundred_rows_in_one_call_each(on: &dyn StoreUnderTest) {
    let store = on.store();
    insert(on, &rows("row", MANY));
    let tasks = Claim { limit: 2 * MANY, lease: SHORT, ..Claim::default() }.take(on);
    assert_eq!(tasks.len(), MANY);
    let leases: Vec<_> = tasks.iter().map(|task| task.lease).collect();
    assert_eq!(store.renew(&leases, SHORT).unwrap().len(), MANY);
    let_short_leases_end(on);
    assert_eq!(store.rescue(BUDGET, 2 * MANY).unwrap().len(), MANY);

    let again = Claim { limit: 2 * MANY, ..Claim::default() }.take(on);
    assert_eq!(again.len(), MANY);
    let settle = |settlement: &dyn Fn(usize, &ClaimedTask) -> Settlement| -> Vec<Settled> {
        let batch: Vec<_> = again.iter().enumerate().map(|(number, task)| settlement(number, task)).collect();
        store.settle(&batch).unwrap()
    };
    let error = "a long enough error text to make the batch a large one ".repeat(20);
    let answers = settle(&|number, task| match number % 3 {
        0 => success(task),
        1 => failure(task, LONG),
        _ => Settlement { error: Some(error.clone()), ..failure(task, LONG) },
    });
    assert!(answers == vec![Settled::Written; MANY]);
    assert_eq!(status(on, &again[0].task_id).state, State::Succeeded);
    assert_eq!(status(on, &again[MANY - 1].task_id).error_message, Some(error));
    assert_eq!(store.prune(Duration::ZERO, 2 * MANY).unwrap(), MANY / 3);

    let leased: Vec<_> =
        rows("leased", MANY).into_iter().map(|row| NewTask { leased: true, execute_mode: 1, ..row }).collect();
    insert(on, &leased);
    assert_eq!(status(on, "leased-1499").lease_owner.as_deref(), Some(NODE));
}
