//! One row of the model, and what each operation does to it.

use std::fmt;

use consistency_core::state::State;

use super::operation::How;

/// Losses in a row after which a rescued row is dead.
pub const BUDGET: u32 = 3;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// One.
    A,
    /// Another one.
    B,
    /// A third one.
    C,
}

impl Node {
    /// All of them.
    pub const ALL: [Node; 3] = [Node::A, Node::B, Node::C];

    /// Its name in `lease_owner`.
    pub fn name(self) -> &'static str {
        match self {
            Node::A => "node-A",
            Node::B => "node-B",
            Node::C => "node-C",
        }
    }
}

/// When a row is due. What is compared is the order of these, not the times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Due {
    /// Since a time long past; a smaller number is an older one.
    Since(u8),
    /// Since somebody wrote the database's clock; rows of this kind are equals.
    Lately,
    /// Not for years.
    Later,
}

/// Who holds a running row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// The node.
    pub by: Node,
    /// Its lease has run out.
    pub over: bool,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    /// `state`.
    pub state: State,
    /// `version`, the fence.
    pub version: i64,
    /// `execute_times`.
    pub attempts: i64,
    /// `max_execute_times`.
    pub most: Option<i64>,
    /// `lost_times`.
    pub lost: i64,
    /// `lease_owner` and `lease_until`.
    pub held: Option<Held>,
    /// `next_execute_time`.
    pub due: Due,
    /// `cancel_requested`.
    pub cancel: bool,
    /// `order_key`.
    pub key: Option<u8>,
    /// Whether there is an `error_message`.
    pub has_error: bool,
}

/// A lease a node was once given, and may still believe in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grant {
    /// The row, by its place in the table.
    pub row: usize,
    /// The version it was given.
    pub version: i64,
    /// Who got it.
    pub node: Node,
    /// The attempt is counted already.
    pub charged: bool,
    /// `execute_times` at that time.
    pub attempts: i64,
    /// The row had failed before.
    pub failed_before: bool,
    /// Somebody had asked to cancel it.
    pub cancel: bool,
}

impl Row {
    /// Whether `grant` is the lease the row is under. Everybody else who settles it is a zombie.
    pub fn is_under(&self, grant: &Grant) -> bool {
        self.state == State::Running && self.version == grant.version
    }

    /// Whether a claim may take it, its ordering key aside.
    pub fn is_claimable(&self) -> bool {
        self.state.is_claimable() && self.due < Due::Later
    }

    /// Whether it holds up the younger rows of its key.
    pub fn holds_up(&self, key: u8) -> bool {
        self.key == Some(key) && !self.state.is_finished()
    }

    /// A node takes it.
    pub fn claim(&mut self, row: usize, node: Node) -> Grant {
        self.state = State::Running;
        self.version += 1;
        self.attempts += 1;
        self.held = Some(Held { by: node, over: false });
        let Row { version, attempts, has_error: failed_before, cancel, .. } = *self;
        Grant { row, version, node, charged: true, attempts, failed_before, cancel }
    }

    /// The node that holds it lets go of it.
    pub fn settle(&mut self, grant: &Grant, how: How) {
        let state = how.state(grant, self.most);
        let puts_back = matches!(state, State::Pending | State::Failed);
        self.state = if self.cancel && puts_back { State::Cancelled } else { state };
        self.attempts += match how.is_an_attempt() {
            true => i64::from(!grant.charged),
            false => -i64::from(grant.charged),
        };
        if how.is_an_attempt() || how == How::Cancel {
            self.lost = 0;
        }
        match how {
            How::Succeed => self.has_error = false,
            How::Fail | How::FailForGood | How::Defer => self.has_error = true,
            How::Release | How::Cancel => {}
        }
        if matches!(how, How::Fail | How::Defer) && state == State::Failed {
            self.due = Due::Later;
        }
        self.held = None;
    }

    /// Whether a settlement that comes too late is taken for the one the row shows. That is safe: nothing is written.
    pub fn shows(&self, grant: &Grant, how: How) -> bool {
        let state = how.state(grant, self.most);
        let cancelled = self.state == State::Cancelled && matches!(state, State::Pending | State::Failed);
        self.version == grant.version && (self.state == state || cancelled)
    }

    /// Somebody takes it from a node whose lease has run out.
    pub fn rescue(&mut self) {
        self.lost += 1;
        let used_up = self.most.is_some_and(|most| self.attempts >= most);
        self.state = match () {
            () if self.cancel => State::Cancelled,
            () if used_up || self.lost >= i64::from(BUDGET) => State::Dead,
            () => State::Failed,
        };
        // From the second loss on it waits at random; a play checks the bound, then puts it off.
        if self.lost > 1 {
            self.due = Due::Later;
        }
        self.version += 1;
        self.has_error = true;
        self.held = None;
    }

    /// The mend of the first page.
    pub fn retry_by_hand(&mut self) {
        if matches!(self.state, State::Failed | State::Dead) {
            self.state = State::Pending;
            (self.attempts, self.lost, self.cancel, self.due) = (0, 0, false, Due::Lately);
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { state, version, attempts, most, lost, held, due, cancel, key, has_error } = self;
        write!(f, "{state} v{} attempts {attempts}", short(*version))?;
        most.map_or(Ok(()), |most| write!(f, " of {most}"))?;
        write!(f, ", lost {lost}, due {due:?}")?;
        held.map_or(Ok(()), |held| write!(f, ", held by {:?}{}", held.by, if held.over { " (over)" } else { "" }))?;
        key.map_or(Ok(()), |key| write!(f, ", key {key}"))?;
        write!(
            f,
            "{}{}",
            if *cancel { ", to be cancelled" } else { "" },
            if *has_error { ", with an error" } else { "" }
        )
    }
}

/// A version to read: that of a row inserted leased begins at a large number.
pub fn short(version: i64) -> i64 {
    version % 65_536
}
