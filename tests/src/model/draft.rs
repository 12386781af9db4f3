//! Random sequences of operations: drawn without knowing the table, and fitted to it when they are played.

use proptest::prelude::*;

use super::operation::{How, Operation, Stored};
use super::row::{Due, Node};
use super::table::Model;

/// Most rows of one play.
const ROWS: usize = 6;

/// An operation before it is known which rows there are. Picks are taken modulo what there is to pick from, so that a
/// shorter sequence is still a sequence.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as the operations they become")]
pub enum Draft {
    Insert(Stored),
    InsertAgain {
        pick: usize,
    },
    Claim {
        node: Node,
        limit: usize,
    },
    Renew {
        pick: usize,
    },
    /// A settlement by the node that holds a row, or (`zombie`) by any that ever held one.
    Settle {
        zombie: bool,
        pick: usize,
        how: How,
    },
    /// The last settlement once more: its answer was lost on the way.
    SettleAgain,
    Rescue {
        limit: usize,
    },
    LeaseRunsOut {
        pick: usize,
    },
    BecomesDue {
        pick: usize,
        since: u8,
    },
    ByHand {
        pick: usize,
        which: usize,
    },
    Prune {
        limit: usize,
    },
}

/// A sequence of at most `longest` operations.
pub fn drafts(longest: usize) -> impl Strategy<Value = Vec<Draft>> {
    let node = || prop::sample::select(Node::ALL.to_vec());
    let since = 0..4_u8;
    let due = prop_oneof![6 => since.clone().prop_map(Due::Since), 1 => Just(Due::Lately), 1 => Just(Due::Later)];
    let most = prop::option::weighted(0.4, 1..4_i64);
    let key = prop::option::weighted(0.5, 0..2_u8);
    let waiting = (due, key, most.clone()).prop_map(|(due, key, most)| Stored { leased_to: None, due, key, most });
    let leased =
        (node(), most).prop_map(|(node, most)| Stored { leased_to: Some(node), due: Due::Lately, key: None, most });
    let how = prop::sample::select(How::ALL.to_vec());
    let pick = 0..64_usize;
    let draft = prop_oneof![
        5 => waiting.prop_map(Draft::Insert),
        2 => leased.prop_map(Draft::Insert),
        1 => pick.clone().prop_map(|pick| Draft::InsertAgain { pick }),
        8 => (node(), 1..4_usize).prop_map(|(node, limit)| Draft::Claim { node, limit }),
        2 => pick.clone().prop_map(|pick| Draft::Renew { pick }),
        8 => (pick.clone(), how.clone()).prop_map(|(pick, how)| Draft::Settle { zombie: false, pick, how }),
        5 => (pick.clone(), how).prop_map(|(pick, how)| Draft::Settle { zombie: true, pick, how }),
        2 => Just(Draft::SettleAgain),
        4 => (1..4_usize).prop_map(|limit| Draft::Rescue { limit }),
        5 => pick.clone().prop_map(|pick| Draft::LeaseRunsOut { pick }),
        5 => (pick.clone(), since).prop_map(|(pick, since)| Draft::BecomesDue { pick, since }),
        4 => (pick, 0..4_usize).prop_map(|(pick, which)| Draft::ByHand { pick, which }),
        1 => (1..3_usize).prop_map(|limit| Draft::Prune { limit }),
    ];
    prop::collection::vec(draft, 1..longest)
}

impl Draft {
    /// The operation it becomes on this table after these, or none where there is nothing to pick from.
    pub fn fit(&self, model: &Model, last: Option<&Operation>) -> Option<Operation> {
        let there: Vec<usize> = (0..model.rows.len()).filter(|row| model.rows[*row].is_some()).collect();
        let row = |pick: usize| (!there.is_empty()).then(|| there[pick % there.len()]);
        let grant = |pick: usize, zombie: bool| {
            let holds = |grant: &usize| {
                let grant = &model.grants[*grant];
                model.rows[grant.row].as_ref().is_some_and(|row| row.is_under(grant))
            };
            let grants: Vec<usize> = (0..model.grants.len()).filter(|grant| zombie || holds(grant)).collect();
            (!grants.is_empty()).then(|| grants[pick % grants.len()])
        };
        Some(match *self {
            Draft::Insert(_) if model.rows.len() == ROWS => return None,
            Draft::Insert(stored) => Operation::Insert(stored),
            Draft::InsertAgain { pick } => Operation::InsertAgain { row: row(pick)? },
            Draft::Claim { node, limit } => Operation::Claim { node, limit },
            Draft::Renew { pick } => Operation::Renew { grant: grant(pick, true)? },
            Draft::Settle { zombie, pick, how } => {
                let grant = grant(pick, zombie)?;
                let asked = model.grants[grant].cancel;
                Operation::Settle { grant, how: if how == How::Cancel && !asked { How::Release } else { how } }
            }
            Draft::SettleAgain => last.filter(|last| matches!(last, Operation::Settle { .. }))?.clone(),
            Draft::Rescue { limit } => Operation::Rescue { limit },
            Draft::LeaseRunsOut { pick } => Operation::LeaseRunsOut { row: row(pick)? },
            Draft::BecomesDue { pick, since } => Operation::BecomesDue { row: row(pick)?, since },
            Draft::ByHand { pick, which } => {
                let row = row(pick)?;
                match which {
                    0 => Operation::AskToCancel { row },
                    1 => Operation::RetryByHand { row },
                    2 => Operation::MarkSucceeded { row },
                    _ => Operation::CancelByHand { row },
                }
            }
            Draft::Prune { limit } => Operation::Prune { limit },
        })
    }
}
