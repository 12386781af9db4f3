//! Does one operation after the other on the model and on a store, and compares the answer and the whole table after each.

use std::fmt::{self, Write};
use std::time::Duration;

use consistency_core::enqueue::Receipt;
use consistency_core::error::TaskError;
use consistency_core::new_task::NewTask;
use consistency_core::retry::decide;
use consistency_core::store::{ClaimedTask, Settlement};

use super::bench::{AHEAD, Bench, SINCE};
use super::invariants;
use super::operation::{Answer, How, Operation, Rescued, Stored};
use super::row::{BUDGET, Due, Grant, Node, Row};
use super::table::Model;
use crate::contract::steps::{Claim, row as new_row};

/// How long leases last.
const LEASE: Duration = Duration::from_secs(AHEAD.unsigned_abs());

/// A model and a store side by side, with the story so far.
#[derive(Debug, Clone)]
pub struct Play<B> {
    /// The store and its table.
    pub bench: B,
    /// The model.
    pub model: Model,
    /// The ids of the model's rows.
    ids: Vec<i64>,
    /// What each of the model's leases was given with.
    tasks: Vec<ClaimedTask>,
    trace: Vec<String>,
}

impl<B: Bench> Play<B> {
    /// A play on an empty table.
    pub fn new(bench: B) -> Self {
        Self { bench, model: Model::default(), ids: Vec::new(), tasks: Vec::new(), trace: Vec::new() }
    }

    /// Does `operation` on both.
    ///
    /// # Errors
    /// The trace up to here and what is wrong: a broken invariant, or a difference between store and model.
    pub fn step(&mut self, operation: &Operation) -> Result<(), String> {
        let (before, grants) = (self.model.rows.clone(), self.model.grants.len());
        let line = operation.line(&before, &self.model.grants);
        let answer = self.ask(operation);
        self.trace.push(format!("{line} -> {answer}"));
        let after = self.rows();
        let lawful = after.as_ref().map_err(String::clone).and_then(|after| {
            invariants::check(&before, operation, &self.model.grants[..grants], after)?;
            let expected = self.model.perform(operation, Some(&answer.rows()))?;
            if expected != answer {
                return Err(format!("the model answers: {expected}"));
            }
            match *after == self.model.rows {
                true => Ok(()),
                false => Err(format!("the table is not the model's:\n{}", Difference(&self.model.rows, after))),
            }
        });
        lawful.map_err(|what| format!("{self}{what}"))
    }

    /// The rows of the store in the order of the model's.
    fn rows(&self) -> Result<Vec<Option<Row>>, String> {
        let mut rows = vec![None; self.ids.len()];
        for (id, row) in self.bench.rows() {
            let place = self.ids.iter().position(|known| *known == id).ok_or(format!("a row nobody stored: {row}"))?;
            rows[place] = Some(row);
        }
        Ok(rows)
    }

    fn ask(&mut self, operation: &Operation) -> Answer {
        let store = self.bench.store();
        match *operation {
            Operation::Insert(stored) => self.insert(stored),
            Operation::InsertAgain { row } => {
                let receipts = store.insert(&[new_row(&handle(row))], Node::C.name(), LEASE).unwrap();
                match &receipts[..] {
                    [Receipt::Duplicate(there)] if there.id == self.ids[row] && there.task_id == handle(row) => {
                        Answer::Duplicate { row, state: there.state }
                    }
                    other => panic!("{other:?}"),
                }
            }
            Operation::Claim { node, limit } => {
                let claim = Claim { node: node.name(), limit, lease: LEASE, ..Claim::default() };
                let tasks = store.claim(&claim.request()).unwrap();
                let grants = tasks.iter().map(|task| self.grant(task, node)).collect();
                self.tasks.extend(tasks);
                Answer::Claimed(grants)
            }
            Operation::Renew { grant } => {
                let lease = self.tasks[grant].lease;
                match &store.renew(&[lease], LEASE).unwrap()[..] {
                    [] => Answer::NotRenewed,
                    [renewed] if renewed.id == lease.id && renewed.extended => {
                        Answer::Renewed { cancel: renewed.cancel_requested }
                    }
                    other => panic!("{other:?}"),
                }
            }
            Operation::Settle { grant, how } => {
                let answers = store.settle(&[settlement(&self.tasks[grant], how)]).unwrap();
                assert_eq!(answers.len(), 1);
                Answer::Settled(answers[0])
            }
            Operation::Rescue { limit } => self.rescue(limit),
            Operation::Prune { limit } => {
                self.bench.age();
                let pruned = store.prune(Duration::from_secs(60), limit).unwrap();
                let there = self.bench.rows();
                let is_gone =
                    |row: &usize| self.model.rows[*row].is_some() && there.iter().all(|(id, _)| *id != self.ids[*row]);
                let gone: Vec<usize> = (0..self.ids.len()).filter(is_gone).collect();
                assert_eq!(pruned, gone.len(), "what it says is not what it did");
                Answer::Pruned(gone)
            }
            Operation::LeaseRunsOut { row }
            | Operation::BecomesDue { row, .. }
            | Operation::AskToCancel { row }
            | Operation::RetryByHand { row }
            | Operation::MarkSucceeded { row }
            | Operation::CancelByHand { row } => {
                self.bench.by_hand(operation, self.ids[row]);
                Answer::Done
            }
        }
    }

    fn insert(&mut self, Stored { leased_to, due, key, most }: Stored) -> Answer {
        let place = self.ids.len();
        let due_at_us = match due {
            Due::Since(since) => Some((SINCE + i64::from(since)) * 1_000_000),
            Due::Lately | Due::Later => None,
        };
        let new = NewTask {
            due_at_us,
            delay_us: if due == Due::Later { AHEAD * 1_000_000 } else { 0 },
            order_key: key.map(|key| key.to_string()),
            max_execute_times: most,
            execute_interval_second: AHEAD,
            leased: leased_to.is_some(),
            first_version: Model::first_version(place),
            ..new_row(&handle(place))
        };
        let store = self.bench.store();
        let receipts = store.insert(std::slice::from_ref(&new), leased_to.unwrap_or(Node::A).name(), LEASE).unwrap();
        assert_eq!(receipts, [Receipt::Enqueued(handle(place))]);
        let id = store.status(&handle(place)).unwrap().expect("what was just stored").id;
        self.ids.push(id);
        if leased_to.is_some() {
            self.tasks.push(ClaimedTask::from_inserted(new, id));
        }
        Answer::Stored
    }

    fn rescue(&self, limit: usize) -> Answer {
        let rescued = self.bench.store().rescue(BUDGET, limit).unwrap();
        let told = rescued.iter().map(|rescued| {
            let row = self.place(rescued.id);
            // From the second loss on the pause is drawn at random: within its bound, which the model need not know.
            if rescued.lost_times > 1 {
                let wait = self.bench.store().status(&handle(row)).unwrap().expect("a rescued row").due_in;
                let bound = Duration::from_millis(500) * (1 << rescued.lost_times.min(6));
                assert!(wait <= bound, "row {row} waits {wait:?} after loss number {}", rescued.lost_times);
                self.bench.put_off(rescued.id);
            }
            let from = Node::ALL.into_iter().find(|node| node.name() == rescued.node);
            Rescued { row, from, state: rescued.state, lost: rescued.lost_times }
        });
        Answer::Rescued(told.collect())
    }

    fn grant(&self, task: &ClaimedTask, node: Node) -> Grant {
        Grant {
            row: self.place(task.lease.id),
            version: task.lease.version,
            node,
            charged: task.charged,
            attempts: task.execute_times,
            failed_before: task.failed_before,
            cancel: task.cancel_requested,
        }
    }

    fn place(&self, id: i64) -> usize {
        self.ids.iter().position(|known| *known == id).unwrap_or_else(|| panic!("nobody stored a row {id}"))
    }
}

/// The public handle of a row.
fn handle(row: usize) -> String {
    format!("row-{row}")
}

/// What a node writes, decided as the runtime decides it.
fn settlement(task: &ClaimedTask, how: How) -> Settlement {
    let outcome = match how {
        How::Succeed => Ok(()),
        How::Fail => Err(TaskError::message("it failed")),
        How::FailForGood => Err(TaskError::permanent("it is hopeless")),
        How::Defer => Err(TaskError::deferred("a newer build has to run it".to_owned())),
        How::Release => return task.released(),
        How::Cancel => return task.cancelled(),
    };
    let decision = decide(&outcome, task.attempt(), &task.policy(), 0.0);
    task.settled(decision, outcome.err().map(|error| error.text().to_owned()), Vec::new())
}

/// The story so far, one line for each operation with its answer.
impl<B> fmt::Display for Play<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('\n')?;
        self.trace.iter().enumerate().try_for_each(|(number, line)| writeln!(f, "{:>3}. {line}", number + 1))
    }
}

/// A store that answers with an error, or panics, ends the play where it stands.
impl<B> Drop for Play<B> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self}and then the play broke off");
        }
    }
}

/// The rows that differ.
struct Difference<'a>(&'a [Option<Row>], &'a [Option<Row>]);

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |row: Option<&Option<Row>>| {
            row.and_then(Option::as_ref).map_or_else(|| "no row".to_owned(), ToString::to_string)
        };
        for place in 0..self.0.len().max(self.1.len()) {
            let (model, table) = (self.0.get(place), self.1.get(place));
            if model != table {
                writeln!(f, "row {place}: model: {}\n{:>7}table: {}", show(model), "", show(table))?;
            }
        }
        Ok(())
    }
}
