//! What ran, when, under which lease, against what is stored: I3 to I7. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use consistency_core::state::State;

use crate::faults::history::{History, Micros, Run, Stored};
use crate::faults::invariant::Terms;

/// What the clocks of SQLite round away, twice.
const ROUNDED: Micros = 2_000;

/// I3. A run is legitimate only where its node holds the row; a second one only under a higher version, and, while the first
/// one goes on, only after its lease.
pub(super) fn one_holder(history: &History, terms: &Terms) -> Vec<String> {
    let mut broken = Vec::new();
    for task in &history.tasks {
        for run in history.runs_of(task.id).filter(|run| run.version.is_none() && !terms.stood_still) {
            broken.push(format!("task {} was begun by {}, which did not hold it", task.id, run.node));
        }
        for (first, second) in pairs(history, task) {
            let (Some(older), Some(newer)) = (first.version, second.version) else { continue };
            if newer == older {
                broken.push(format!(
                    "task {} ran twice under version {older}: {} and {}",
                    task.id, first.node, second.node
                ));
            } else if goes_on_at(first, second.started)
                && first.leased_until.is_some_and(|until| until > second.started + ROUNDED)
            {
                let early = first.leased_until.unwrap_or_default() - second.started;
                broken.push(format!(
                    "task {} was begun by {} under version {newer} while {} ran it under version {older}, {early} us before \
                     the end of that lease",
                    task.id, second.node, first.node
                ));
            }
        }
    }
    broken
}

fn pairs<'h>(history: &'h History, task: &Stored) -> Vec<(&'h Run, &'h Run)> {
    let runs: Vec<&Run> = history.runs_of(task.id).collect();
    let mut pairs = Vec::new();
    for (at, first) in runs.iter().enumerate() {
        pairs.extend(runs[at + 1..].iter().map(|second| (*first, *second)));
    }
    pairs
}

fn goes_on_at(run: &Run, moment: Micros) -> bool {
    run.ended.is_none_or(|ended| ended > moment + ROUNDED)
}

/// I4.
pub(super) fn within_policy(history: &History, terms: &Terms) -> Vec<String> {
    let mut beyond = Vec::new();
    for task in &history.tasks {
        let id = task.id;
        if let Some(most) = task.max_attempts {
            let runs = history.runs_of(id).count();
            if task.attempts > most {
                beyond.push(format!("task {id} was charged {} attempts of {most}", task.attempts));
            }
            if runs as i64 > most {
                beyond.push(format!("task {id} ran {runs} times, and may {most} times"));
            }
            if let Some(run) = history.runs_of(id).find(|run| run.attempt > most) {
                beyond.push(format!("task {id} was at attempt {} of {most}", run.attempt));
            }
        }
        if task.lost_times > terms.crash_budget {
            beyond.push(format!("task {id} lost {} leases in a row, and may {}", task.lost_times, terms.crash_budget));
        }
    }
    beyond
}

/// I5. Between a run that ended well but was never settled and the next one lies a rescue, which raises the version too: the
/// next version but one. A version right after that of a good run was claimed from its success.
pub(super) fn no_start_after_success(history: &History, terms: &Terms) -> Vec<String> {
    let mut broken = Vec::new();
    for task in &history.tasks {
        for run in history.runs_of(task.id) {
            if task.state == State::Succeeded && run.started > task.changed + ROUNDED {
                broken.push(format!("task {} was begun by {} after it had succeeded", task.id, run.node));
            }
        }
        // The commit of a booking may fail after its body has ended well.
        let certain = !task.books && !terms.outcomes_overruled;
        for (first, second) in pairs(history, task) {
            let (Some(older), Some(newer)) = (first.version, second.version) else { continue };
            let succeeded = first.ended.is_some_and(|ended| ended <= second.started) && !first.failed;
            if certain && succeeded && newer == older + 1 {
                broken.push(format!(
                    "task {} was claimed by {} from its success under version {older}",
                    task.id, second.node
                ));
            }
        }
    }
    broken
}

/// I6. A row may begin when the last run of every earlier row of its key is over.
pub(super) fn key_order(history: &History) -> Vec<String> {
    let mut broken = Vec::new();
    let mut keys: BTreeMap<&str, Vec<&Stored>> = BTreeMap::new();
    for task in &history.tasks {
        if let Some(key) = &task.order_key {
            keys.entry(key).or_default().push(task);
        }
    }
    for (key, tasks) in keys {
        for pair in tasks.windows(2) {
            let (earlier, later) = (pair[0], pair[1]);
            let Some(begin) = history.runs_of(later.id).map(|run| run.started).min() else { continue };
            let Some(last) = history.runs_of(earlier.id).max_by_key(|run| (run.version, run.started)) else {
                broken.push(format!("key `{key}`: task {} ran, and task {} before it never did", later.id, earlier.id));
                continue;
            };
            if goes_on_at(last, begin) {
                broken.push(format!("key `{key}`: task {} was begun before task {} was over", later.id, earlier.id));
            }
        }
    }
    broken
}

/// I7.
pub(super) fn recovered_in_time(history: &History, terms: &Terms) -> Vec<String> {
    let mut late = Vec::new();
    let served_since = terms.served_since.unwrap_or(Micros::MIN);
    for task in &history.tasks {
        let mut losses = 0;
        let runs: Vec<&Run> = history.runs_of(task.id).collect();
        for pair in runs.windows(2) {
            let (Some(until), None) = (pair[0].leased_until, pair[0].ended) else { continue };
            losses += 1;
            let waited = pair[1].started - until.max(served_since);
            if waited > micros(terms.recovery + longest_pause(losses)) {
                late.push(format!("task {} was lost by {} and begun again {waited} us later", task.id, pair[0].node));
            }
        }
        let waits = task.leased_until.map(|until| history.taken - until.max(served_since));
        if let Some(waited) = waits.filter(|waited| *waited > micros(terms.recovery)) {
            late.push(format!("task {} is leased still, {waited} us after the end of its lease", task.id));
        }
    }
    late
}

/// From the second loss in a row on a row waits for a time drawn at random, with a bound that doubles.
fn longest_pause(losses: u32) -> Duration {
    if losses < 2 { Duration::ZERO } else { Duration::from_secs(1 << losses.min(6)) / 2 }
}

fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}
