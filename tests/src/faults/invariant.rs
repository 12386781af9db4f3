//! The eight invariants, what a violation of one is, and the one check of all.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::faults::history::{History, Micros};
use crate::faults::{running_checks, storing_checks};

/// What holds whatever goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: every committed call is stored, and ends succeeded, dead, cancelled or skipped, or is still to come.
    NothingLost,
    /// I2: nothing is stored or run whose transaction was rolled back.
    NoGhost,
    /// I3: never two overlapping runs of one row that both hold a valid lease, and no two runs under one version.
    OneHolder,
    /// I4: attempts and lost leases stay within the policy.
    WithinPolicy,
    /// I5: no start after a success.
    NoStartAfterSuccess,
    /// I6: the rows of an ordering key run one at a time, in the order of their commits.
    KeyOrder,
    /// I7: what a dead or silent process held runs again within lease, look and margin.
    RecoveredInTime,
    /// I8: a function that takes the connection has exactly one business effect.
    OneBusinessEffect,
}

/// Something that must not happen, in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Of what.
    pub invariant: Invariant,
    /// What a person needs to see it.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.invariant as u8 + 1;
        write!(f, "I{number} {:?}: {}", self.invariant, self.text)
    }
}

/// What a test knows about its history beside the history.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Whether every task must have ended by now.
    pub all_ended: bool,
    /// Leases in a row that may be lost before a task is dead.
    pub crash_budget: i64,
    /// How long after the end of its lease a row of a dead process may wait for its next run: look and margin.
    pub recovery: Duration,
    /// Since when a process was there to take such rows back; `None` for always.
    pub served_since: Option<Micros>,
    /// Whether attempts may fail after their bodies have ended well, as with an error planned after the body.
    pub outcomes_overruled: bool,
    /// Whether a process may have stood still between its last look at its lease and the first statement of a body.
    pub stood_still: bool,
}

impl Default for Terms {
    /// Everything must have ended, with the outbox's own defaults and a margin for slow machines.
    fn default() -> Self {
        Self {
            all_ended: true,
            crash_budget: 5,
            recovery: Duration::from_secs(10),
            served_since: None,
            outcomes_overruled: false,
            stood_still: false,
        }
    }
}

/// Every violation of every invariant.
pub fn check_all(history: &History, terms: &Terms) -> Vec<Violation> {
    let mut violations = Vec::new();
    let checks: [(Invariant, Vec<String>); 8] = [
        (Invariant::NothingLost, storing_checks::nothing_lost(history, terms)),
        (Invariant::NoGhost, storing_checks::no_ghost(history)),
        (Invariant::OneHolder, running_checks::one_holder(history, terms)),
        (Invariant::WithinPolicy, running_checks::within_policy(history, terms)),
        (Invariant::NoStartAfterSuccess, running_checks::no_start_after_success(history, terms)),
        (Invariant::KeyOrder, running_checks::key_order(history)),
        (Invariant::RecoveredInTime, running_checks::recovered_in_time(history, terms)),
        (Invariant::OneBusinessEffect, storing_checks::one_business_effect(history)),
    ];
    for (invariant, texts) in checks {
        violations.extend(texts.into_iter().map(|text| Violation { invariant, text }));
    }
    violations
}

/// The invariants that are violated.
pub fn violated(history: &History, terms: &Terms) -> BTreeSet<Invariant> {
    check_all(history, terms).into_iter().map(|violation| violation.invariant).collect()
}

/// Fails unless every invariant holds.
///
/// # Panics
/// With every violation and the history.
#[track_caller]
pub fn assert_holds(history: &History, terms: &Terms, what: &str) {
    let violations = check_all(history, terms);
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(violations.is_empty(), "{what}:\n{}\n{history:#?}", list.join("\n"));
}
