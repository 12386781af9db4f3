//! The model: rows, the leases ever given, and what each operation answers and changes.

use consistency_core::state::State;
use consistency_core::store::Settled;

use super::operation::{Answer, Operation, Rescued, Stored};
use super::row::{Due, Grant, Held, Row};

/// The table, and what the nodes believe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// The rows in the order of their ids; `None` once pruned.
    pub rows: Vec<Option<Row>>,
    /// Every lease ever given, in order. All but the newest of a row are those of zombies.
    pub grants: Vec<Grant>,
}

impl Model {
    /// Does `operation`. Where the store had a choice, `taken` are the rows it chose; without them the first are taken.
    ///
    /// # Errors
    /// What is wrong with that choice; nothing has changed.
    pub fn perform(&mut self, operation: &Operation, taken: Option<&[usize]>) -> Result<Answer, String> {
        match *operation {
            Operation::Insert(stored) => {
                self.insert(stored);
                Ok(Answer::Stored)
            }
            Operation::InsertAgain { row } => Ok(match &self.rows[row] {
                Some(there) => Answer::Duplicate { row, state: there.state },
                None => unreachable!("a pruned row is not inserted again"),
            }),
            Operation::Claim { node, limit } => {
                let candidates = self.claimable();
                let taken = chosen(&candidates, limit, taken, |row| self.row(*row).due)?;
                let rows = &mut self.rows;
                let claim = |row: &usize| rows[*row].as_mut().map(|found| found.claim(*row, node));
                let grants: Vec<Grant> = taken.iter().filter_map(claim).collect();
                self.grants.extend(grants.iter().cloned());
                Ok(Answer::Claimed(grants))
            }
            Operation::Rescue { limit } => {
                let is_over = |row: &Row| row.held.is_some_and(|held| held.over);
                // All leases run out at about the same time, so any of them may be the first.
                let taken = chosen(&self.places(is_over), limit, taken, |_| ())?;
                Ok(Answer::Rescued(taken.iter().filter_map(|row| self.rescue(*row)).collect()))
            }
            Operation::Renew { grant } => {
                let grant = &self.grants[grant];
                Ok(match self.rows[grant.row].as_mut().filter(|row| row.is_under(grant)) {
                    Some(row) => {
                        row.held = Some(Held { by: grant.node, over: false });
                        Answer::Renewed { cancel: row.cancel }
                    }
                    None => Answer::NotRenewed,
                })
            }
            Operation::Settle { grant, how } => {
                let grant = &self.grants[grant];
                Ok(Answer::Settled(match &mut self.rows[grant.row] {
                    Some(row) if row.is_under(grant) => {
                        row.settle(grant, how);
                        Settled::Written
                    }
                    Some(row) if row.shows(grant, how) => Settled::Written,
                    _ => Settled::Lost,
                }))
            }
            Operation::Prune { limit } => {
                // All of them are made equally old before.
                let taken = chosen(&self.places(|row| row.state.is_finished()), limit, taken, |_| ())?;
                taken.iter().for_each(|row| self.rows[*row] = None);
                Ok(Answer::Pruned(taken))
            }
            Operation::LeaseRunsOut { row } => self.edit(row, |row| {
                if let Some(held) = &mut row.held {
                    held.over = true;
                }
            }),
            Operation::BecomesDue { row, since } => self.edit(row, |row| row.due = Due::Since(since)),
            Operation::AskToCancel { row } => self.edit(row, |row| row.cancel = true),
            Operation::RetryByHand { row } => self.edit(row, Row::retry_by_hand),
            Operation::MarkSucceeded { row } => self.edit(row, |row| {
                if matches!(row.state, State::Failed | State::Dead) {
                    row.state = State::Succeeded;
                }
            }),
            Operation::CancelByHand { row } => self.edit(row, |row| {
                if matches!(row.state, State::Pending | State::Failed | State::Dead) {
                    row.state = State::Cancelled;
                }
            }),
        }
    }

    /// The version a row inserted leased begins with: as high as that of a real one, and another for each row.
    pub fn first_version(row: usize) -> i64 {
        (i64::try_from(row).expect("few rows") + 1) * 65_536 + 1
    }

    fn insert(&mut self, Stored { leased_to, due, key, most }: Stored) {
        let place = self.rows.len();
        let leased = leased_to.is_some();
        let row = Row {
            state: if leased { State::Running } else { State::Pending },
            version: if leased { Model::first_version(place) } else { 0 },
            attempts: i64::from(leased && most.is_some()),
            most,
            lost: 0,
            held: leased_to.map(|by| Held { by, over: false }),
            due,
            cancel: false,
            key,
            has_error: false,
        };
        if let Some(node) = leased_to {
            self.grants.push(Grant {
                row: place,
                version: row.version,
                node,
                charged: most.is_some(),
                attempts: row.attempts,
                failed_before: false,
                cancel: false,
            });
        }
        self.rows.push(Some(row));
    }

    /// The rows a claim may take, in the order it takes them; those of the same due time are equals.
    fn claimable(&self) -> Vec<usize> {
        let is_first_of_its_key = |place: usize, row: &Row| {
            row.key.is_none_or(|key| !self.rows[..place].iter().flatten().any(|older| older.holds_up(key)))
        };
        let mut places = self.places(Row::is_claimable);
        places.retain(|place| is_first_of_its_key(*place, self.row(*place)));
        places.sort_by_key(|place| (self.row(*place).due, *place));
        places
    }

    fn rescue(&mut self, place: usize) -> Option<Rescued> {
        let row = self.rows[place].as_mut()?;
        let from = row.held.map(|held| held.by);
        row.rescue();
        Some(Rescued { row: place, from, state: row.state, lost: row.lost })
    }

    fn edit(&mut self, row: usize, edit: impl FnOnce(&mut Row)) -> Result<Answer, String> {
        if let Some(row) = &mut self.rows[row] {
            edit(row);
        }
        Ok(Answer::Done)
    }

    fn places(&self, wanted: impl Fn(&Row) -> bool) -> Vec<usize> {
        let is_wanted = |place: &usize| self.rows[*place].as_ref().is_some_and(&wanted);
        (0..self.rows.len()).filter(is_wanted).collect()
    }

    fn row(&self, place: usize) -> &Row {
        self.rows[place].as_ref().expect("a row that is there")
    }
}

/// The rows that are taken: what the store chose, if it is a lawful choice of `limit` among `candidates`, of which those with
/// the same `rank` are equals. Otherwise the first.
fn chosen<R: Ord>(
    candidates: &[usize],
    limit: usize,
    taken: Option<&[usize]>,
    rank: impl Fn(&usize) -> R,
) -> Result<Vec<usize>, String> {
    let most = candidates.len().min(limit);
    let Some(taken) = taken else { return Ok(candidates[..most].to_vec()) };
    if taken.len() != most {
        return Err(format!("{most} of the rows {candidates:?} should have been taken, and {taken:?} were"));
    }
    if let Some(stray) = taken.iter().find(|row| !candidates.contains(row)) {
        return Err(format!("row {stray} was taken, which is none of {candidates:?}"));
    }
    if !taken.is_sorted_by_key(&rank) {
        return Err(format!("the rows {taken:?} were not taken in order"));
    }
    let passed_over =
        candidates.iter().find(|row| !taken.contains(row) && taken.iter().any(|one| rank(row) < rank(one)));
    match passed_over {
        Some(row) => Err(format!("row {row} comes before some of {taken:?}, and was passed over")),
        None => Ok(taken.to_vec()),
    }
}
