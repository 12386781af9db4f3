//! Every order of operations up to a depth: two nodes, zombies, a person and two rows, on the model and the store in memory
//! side by side. What it finds first is the shortest way there.

use std::collections::HashSet;

use consistency_core::state::State;

use super::operation::{How, Operation, Stored};
use super::play::Play;
use super::row::{Grant, Node, Row};
use super::table::Model;
use crate::memory_store::MemoryStore;

/// What a search has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Tables with their leases that differ in more than the numbers of their versions.
    pub states: usize,
    /// Operations done.
    pub transitions: usize,
}

/// Plays every order of at most `depth` operations on `store` once `rows` are in it.
///
/// # Errors
/// The shortest trace to a broken invariant or a difference between store and model.
pub fn search(store: &MemoryStore, rows: &[Stored], depth: usize) -> Result<Found, String> {
    let mut first = Play::new(store.clone());
    for row in rows {
        first.step(&Operation::Insert(*row))?;
    }
    let mut seen = HashSet::from([essence(&first.model)]);
    let mut transitions = 0;
    let mut front = vec![first];
    for _ in 0..depth {
        let mut next = Vec::new();
        for play in &front {
            for operation in operations(&play.model) {
                let mut play = play.clone();
                play.step(&operation)?;
                transitions += 1;
                if seen.insert(essence(&play.model)) {
                    next.push(play);
                }
            }
        }
        front = next;
    }
    Ok(Found { states: seen.len(), transitions })
}

/// A table without what no operation depends on: versions are told by how far leases lag behind.
fn essence(model: &Model) -> (Vec<Option<Row>>, Vec<Grant>) {
    let version = |place: usize| model.rows[place].as_ref().map_or(0, |row| row.version);
    let mut grants: Vec<Grant> = believed(model)
        .map(|grant| Grant { version: (version(grant.row) - grant.version).min(2), ..grant.clone() })
        .collect();
    grants.sort();
    grants.dedup();
    let row = |row: &Row| Row { version: 0, ..row.clone() };
    (model.rows.iter().map(|each| each.as_ref().map(row)).collect(), grants)
}

/// The leases somebody may still act on: the newest of each row, and the one before, whose node is the zombie.
fn believed(model: &Model) -> impl Iterator<Item = &Grant> {
    places(model).map(|place| &model.grants[place])
}

fn places(model: &Model) -> impl Iterator<Item = usize> {
    let newer = |place: usize| {
        let row = model.grants[place].row;
        model.grants[place + 1..].iter().filter(|grant| grant.row == row).count()
    };
    (0..model.grants.len()).filter(move |place| newer(*place) < 2)
}

/// Everything that can happen next and may change something.
fn operations(model: &Model) -> Vec<Operation> {
    let mut all = vec![
        Operation::Claim { node: Node::A, limit: 1 },
        Operation::Claim { node: Node::B, limit: 2 },
        Operation::Rescue { limit: 2 },
        Operation::Prune { limit: 2 },
    ];
    for grant in places(model) {
        all.push(Operation::Renew { grant });
        let asked = model.grants[grant].cancel;
        let hows = How::ALL.into_iter().filter(|how| asked || *how != How::Cancel);
        all.extend(hows.map(|how| Operation::Settle { grant, how }));
    }
    for (place, row) in model.rows.iter().enumerate() {
        let Some(row) = row else { continue };
        let since = u8::try_from(place).expect("few rows");
        match row.state {
            State::Running => all.push(Operation::LeaseRunsOut { row: place }),
            State::Failed | State::Dead => {
                all.push(Operation::RetryByHand { row: place });
                all.push(Operation::MarkSucceeded { row: place });
            }
            _ => {}
        }
        all.push(Operation::BecomesDue { row: place, since });
        all.push(Operation::AskToCancel { row: place });
        all.push(Operation::CancelByHand { row: place });
    }
    all
}
