//! What must hold whatever happens, said without the model: from the rows before and after one operation alone.

use consistency_core::state::State;

use super::operation::Operation;
use super::row::{Due, Grant, Row};

/// Checks one step. `grants` are the leases given before it.
///
/// # Errors
/// The first broken invariant, in words.
pub fn check(
    before: &[Option<Row>],
    operation: &Operation,
    grants: &[Grant],
    after: &[Option<Row>],
) -> Result<(), String> {
    for (place, row) in after.iter().enumerate() {
        let Some(row) = row else { continue };
        let broken = |what: &str| Err(format!("row {place}: {what}"));
        if (row.state == State::Running) != row.held.is_some() {
            return broken("running without an owner, or owned without running");
        }
        if row.attempts < 0 || row.most.is_some_and(|most| row.attempts > most) {
            return broken("more attempts than its policy allows, or less than none");
        }
        match before.get(place) {
            Some(Some(before)) => step_of_row(before, operation, row).or_else(|what| broken(&what))?,
            Some(None) => return broken("it was pruned, and is there again"),
            None if !matches!(row.state, State::Pending | State::Running) => return broken("stored in such a state"),
            None => {}
        }
        one_running_per_key(after, place, row).or_else(|what| broken(&what))?;
    }
    nobody_writes_past_the_fence(before, operation, grants, after)
}

fn step_of_row(before: &Row, operation: &Operation, after: &Row) -> Result<(), String> {
    let moved = before.state != after.state;
    if moved && !operation.causes().iter().any(|cause| before.state.after(*cause) == Some(after.state)) {
        return Err(format!("{} became {}, which is no arrow of this operation", before.state, after.state));
    }
    if after.version < before.version {
        return Err("its version went down".to_owned());
    }
    let changes_hands = matches!(operation, Operation::Claim { .. } | Operation::Rescue { .. }) && moved;
    if changes_hands != (after.version > before.version) {
        return Err("its version grows when it changes hands, and at no other time".to_owned());
    }
    if changes_hands && matches!(operation, Operation::Claim { .. }) && before.due == Due::Later {
        return Err("it was claimed before it was due".to_owned());
    }
    let held = before.held.filter(|held| !held.over);
    if held.is_some() && changes_hands {
        return Err("it was taken from a node whose lease holds".to_owned());
    }
    Ok(())
}

fn one_running_per_key(rows: &[Option<Row>], place: usize, row: &Row) -> Result<(), String> {
    let Some(key) = row.key.filter(|_| row.state == State::Running) else { return Ok(()) };
    match rows[..place].iter().flatten().any(|older| older.holds_up(key)) {
        true => Err("it runs although an older row of its key is not through".to_owned()),
        false => Ok(()),
    }
}

fn nobody_writes_past_the_fence(
    before: &[Option<Row>],
    operation: &Operation,
    grants: &[Grant],
    after: &[Option<Row>],
) -> Result<(), String> {
    let (Operation::Settle { grant, .. } | Operation::Renew { grant }) = operation else { return Ok(()) };
    let grant = &grants[*grant];
    let is_zombie = before[grant.row].as_ref().is_none_or(|row| !row.is_under(grant));
    for place in 0..before.len() {
        if (is_zombie || place != grant.row) && before[place] != after[place] {
            return Err(format!("row {place}: it was changed by a node that does not hold it"));
        }
    }
    Ok(())
}
