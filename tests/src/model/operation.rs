//! What can happen to the table, who does it, and what is answered; each with one readable line for a trace.

use std::fmt;

use consistency_core::state::{Cause, State};
use consistency_core::store::Settled;

use super::row::{Due, Grant, Node, Row, short};

/// What a node says of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// It succeeded.
    Succeed,
    /// It failed: it is retried, unless its attempts are used up.
    Fail,
    /// It failed, and no retry can mend it.
    FailForGood,
    /// A newer build has to run it.
    Defer,
    /// It was not started.
    Release,
    /// It was not started, because somebody asked to cancel it before the claim; else this is a release.
    Cancel,
}

impl How {
    /// All of them.
    pub const ALL: [How; 6] = [How::Succeed, How::Fail, How::FailForGood, How::Defer, How::Release, How::Cancel];

    /// Whether the body ran.
    pub fn is_an_attempt(self) -> bool {
        matches!(self, How::Succeed | How::Fail | How::FailForGood)
    }

    /// The state the node asks for.
    pub fn state(self, grant: &Grant, most: Option<i64>) -> State {
        let number = grant.attempts + i64::from(!grant.charged);
        match self {
            How::Succeed => State::Succeeded,
            How::Fail if most.is_some_and(|most| number >= most) => State::Dead,
            How::Fail | How::Defer => State::Failed,
            How::FailForGood => State::Dead,
            How::Release if grant.failed_before => State::Failed,
            How::Release => State::Pending,
            How::Cancel => State::Cancelled,
        }
    }
}

/// A row that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Handed over in memory, as an immediate task is; such a row has no key and is due at once.
    pub leased_to: Option<Node>,
    /// When it is due.
    pub due: Due,
    /// Its ordering key.
    pub key: Option<u8>,
    /// Its most attempts.
    pub most: Option<i64>,
}

/// One thing that happens. Rows and leases are told by their places in the model's lists.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is described by its trace line")]
pub enum Operation {
    Insert(Stored),
    InsertAgain { row: usize },
    Claim { node: Node, limit: usize },
    Renew { grant: usize },
    Settle { grant: usize, how: How },
    Rescue { limit: usize },
    LeaseRunsOut { row: usize },
    BecomesDue { row: usize, since: u8 },
    AskToCancel { row: usize },
    RetryByHand { row: usize },
    MarkSucceeded { row: usize },
    CancelByHand { row: usize },
    Prune { limit: usize },
}

impl Operation {
    /// Why it may change a row's state.
    pub fn causes(&self) -> &'static [Cause] {
        use Cause::*;
        match self {
            Operation::Claim { .. } => &[Claim],
            Operation::Settle { .. } => &[Succeed, Retry, GiveUp, Defer, Release, ReleaseFailed, Cancel],
            Operation::Rescue { .. } => &[Rescue, RescueTooOften, Cancel],
            Operation::RetryByHand { .. } => &[OperatorRetry],
            Operation::MarkSucceeded { .. } => &[MarkSucceeded],
            Operation::CancelByHand { .. } => &[Cancel],
            _ => &[],
        }
    }

    /// The line of a trace; `grants` and `rows` are those before it.
    pub fn line(&self, rows: &[Option<Row>], grants: &[Grant]) -> String {
        let told = |grant: usize| {
            let Grant { row, version, node, .. } = grants[grant];
            let live = rows[row].as_ref().is_some_and(|found| found.is_under(&grants[grant]));
            (if live { format!("{node:?}") } else { format!("zombie {node:?}") }, row, short(version))
        };
        match self {
            Operation::Insert(Stored { leased_to, due, key, most }) => {
                let leased = leased_to.map_or(String::new(), |node| format!(", leased to {node:?}"));
                let key = key.map_or(String::new(), |key| format!(", key {key}"));
                let most = most.map_or(String::new(), |most| format!(", at most {most} attempts"));
                format!("insert row {}, due {due:?}{leased}{key}{most}", rows.len())
            }
            Operation::InsertAgain { row } => format!("insert row {row} once more"),
            Operation::Claim { node, limit } => format!("{node:?} claims at most {limit}"),
            Operation::Renew { grant } => {
                let (who, row, version) = told(*grant);
                format!("{who} renews row {row} v{version}")
            }
            Operation::Settle { grant, how } => {
                let (who, row, version) = told(*grant);
                format!("{who} settles row {row} v{version}: {how:?}")
            }
            Operation::Rescue { limit } => format!("somebody rescues at most {limit}"),
            Operation::LeaseRunsOut { row } => format!("the lease of row {row} runs out"),
            Operation::BecomesDue { row, since } => format!("row {row} becomes due, since {since}"),
            Operation::AskToCancel { row } => format!("a person asks to cancel row {row}"),
            Operation::RetryByHand { row } => format!("a person retries row {row}"),
            Operation::MarkSucceeded { row } => format!("a person marks row {row} succeeded"),
            Operation::CancelByHand { row } => format!("a person cancels row {row}"),
            Operation::Prune { limit } => format!("prune at most {limit}"),
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described by its trace line")]
pub enum Answer {
    Stored,
    Duplicate { row: usize, state: State },
    Claimed(Vec<Grant>),
    Renewed { cancel: bool },
    NotRenewed,
    Settled(Settled),
    Rescued(Vec<Rescued>),
    Pruned(Vec<usize>),
    Done,
}

/// A rescued row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescued {
    /// The row.
    pub row: usize,
    /// Who lost it.
    pub from: Option<Node>,
    /// Its state now.
    pub state: State,
    /// Its losses in a row.
    pub lost: i64,
}

impl Answer {
    /// The rows that were taken, where the store had a choice.
    pub fn rows(&self) -> Vec<usize> {
        match self {
            Answer::Claimed(taken) => taken.iter().map(|grant| grant.row).collect(),
            Answer::Rescued(taken) => taken.iter().map(|rescued| rescued.row).collect(),
            Answer::Pruned(taken) => taken.clone(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Claimed(taken) if taken.is_empty() => f.write_str("nothing to claim"),
            Answer::Claimed(taken) => {
                f.write_str("claimed")?;
                taken.iter().try_for_each(|grant| write!(f, " row {} v{}", grant.row, short(grant.version)))
            }
            Answer::Rescued(taken) if taken.is_empty() => f.write_str("nothing to rescue"),
            Answer::Rescued(taken) => {
                f.write_str("rescued")?;
                taken
                    .iter()
                    .try_for_each(|Rescued { row, state, lost, .. }| write!(f, " row {row} ({state}, lost {lost})"))
            }
            Answer::Duplicate { row, state } => write!(f, "duplicate of row {row}, {state}"),
            other => write!(f, "{other:?}"),
        }
    }
}
