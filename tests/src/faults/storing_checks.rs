//! What is stored and booked against what was committed: I1, I2 and I8. Pure.

use std::collections::{BTreeMap, BTreeSet};

use consistency_core::state::State;

use crate::faults::history::{History, Stored, Told};
use crate::faults::invariant::Terms;

/// I1.
pub(super) fn nothing_lost(history: &History, terms: &Terms) -> Vec<String> {
    let mut lost = Vec::new();
    let stored = tasks_by_order(history);
    let count = |number: i64| stored.get(&number).copied().unwrap_or_default();
    for order in &history.orders {
        if count(order.number) < order.calls {
            let found = count(order.number);
            lost.push(format!(
                "order {} is committed with {} calls, of which {found} are stored",
                order.number, order.calls
            ));
        }
    }
    for (number, told) in &history.told {
        if *told == Told::Committed && count(*number) == 0 && !orders(history).contains(number) {
            lost.push(format!("order {number} was told to be committed, and there is nothing of it"));
        }
    }
    for task in &history.tasks {
        if terms.all_ended && !has_ended(task) {
            lost.push(format!("task {} has not ended: it is {}", task.id, task.state));
        }
        let completed = history.runs_of(task.id).any(|run| run.ended.is_some() && !run.failed);
        if task.state == State::Succeeded && !completed {
            lost.push(format!("task {} is succeeded, and no run of it ended well", task.id));
        }
    }
    lost
}

fn has_ended(task: &Stored) -> bool {
    matches!(task.state, State::Succeeded | State::Dead | State::Cancelled | State::Skipped)
}

/// I2.
pub(super) fn no_ghost(history: &History) -> Vec<String> {
    let mut ghosts = Vec::new();
    let (orders, stored) = (orders(history), tasks_by_order(history));
    for task in &history.tasks {
        match task.order {
            Some(number) if orders.contains(&number) => {}
            Some(number) => ghosts.push(format!("task {} is stored, and its order {number} is not", task.id)),
            None => ghosts.push(format!("task {} is stored without an order", task.id)),
        }
    }
    for order in &history.orders {
        let found = stored.get(&order.number).copied().unwrap_or_default();
        if found > order.calls {
            ghosts.push(format!("order {} has {} calls, and {found} are stored", order.number, order.calls));
        }
    }
    for (number, told) in &history.told {
        if *told == Told::Failed && orders.contains(number) {
            ghosts.push(format!("order {number} was told to have failed, and it is committed"));
        }
    }
    let known: BTreeSet<i64> = history.tasks.iter().map(|task| task.id).collect();
    for run in history.runs.iter().filter(|run| !known.contains(&run.task)) {
        ghosts.push(format!("{} ran task {}, which is not stored", run.node, run.task));
    }
    for task in history.bookings.iter().filter(|task| !known.contains(task)) {
        ghosts.push(format!("task {task} has booked, which is not stored"));
    }
    ghosts
}

/// I8.
pub(super) fn one_business_effect(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for task in history.tasks.iter().filter(|task| task.books) {
        let booked = history.bookings.iter().filter(|booked| **booked == task.id).count();
        let wanted = usize::from(task.state == State::Succeeded);
        if booked != wanted {
            wrong.push(format!("task {} is {} and has booked {booked} times instead of {wanted}", task.id, task.state));
        }
    }
    wrong
}

fn orders(history: &History) -> BTreeSet<i64> {
    history.orders.iter().map(|order| order.number).collect()
}

fn tasks_by_order(history: &History) -> BTreeMap<i64, i64> {
    let mut counts = BTreeMap::new();
    for number in history.tasks.iter().filter_map(|task| task.order) {
        *counts.entry(number).or_default() += 1;
    }
    counts
}
