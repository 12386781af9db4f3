//! What the scenarios share: storing calls, a probe that bodies speak to, and the databases' words for times and mends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use consistency_core::call::Call;
use consistency_core::enqueue::Receipt;
use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::transact::Transact;
use diesel::result::Error;
use parking_lot::{Condvar, Mutex};

use crate::backend::Backend;
use crate::database::Database;
use crate::recorder::{DEADLINE, Latch};

/// Stores the calls in one transaction and returns their public handles.
pub fn store_all<C>(database: &Database, outbox: &Outbox, calls: impl IntoIterator<Item = Call>) -> Vec<String>
where
    C: BlockingConnection,
{
    let receipts: Result<Vec<Receipt>, Error> = outbox
        .transaction(&mut database.connection::<C>(), |tx| calls.into_iter().map(|call| tx.enqueue(call)).collect());
    receipts.expect("the calls are stored").iter().map(|receipt| receipt.task_id().to_owned()).collect()
}

/// Stores one call and returns its public handle.
pub fn store<C>(database: &Database, outbox: &Outbox, call: Call) -> String
where
    C: BlockingConnection,
{
    store_all::<C>(database, outbox, [call]).remove(0)
}

/// What bodies tell a test, and what they wait for; injected as `Arc<Probe>`.
#[derive(Debug, Default)]
pub struct Probe {
    state: Mutex<ProbeState>,
    changed: Condvar,
    /// Raised by the test to let bodies go on.
    pub go: Latch,
}

#[derive(Debug, Default)]
struct ProbeState {
    notes: Vec<String>,
    inside: HashMap<String, usize>,
    most_inside: HashMap<String, usize>,
}

impl Probe {
    /// A probe nobody has spoken to.
    pub fn new() -> Arc<Probe> {
        Arc::default()
    }

    /// Writes `text` down, and tells who waits.
    pub fn note(&self, text: impl Into<String>) {
        self.state.lock().notes.push(text.into());
        self.changed.notify_all();
    }

    /// Everything written down, in order.
    pub fn notes(&self) -> Vec<String> {
        self.state.lock().notes.clone()
    }

    /// How often `text` was written down.
    pub fn count(&self, text: &str) -> usize {
        self.state.lock().notes.iter().filter(|note| *note == text).count()
    }

    /// Waits until `text` was written down `count` times.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    #[track_caller]
    pub fn wait_for(&self, text: &str, count: usize) {
        self.wait_until(&format!("{count} times `{text}`"), |notes| {
            notes.iter().filter(|note| *note == text).count() >= count
        });
    }

    /// Waits until as many as `count` texts were written down.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    #[track_caller]
    pub fn wait_for_notes(&self, count: usize) {
        self.wait_until(&format!("{count} notes"), |notes| notes.len() >= count);
    }

    #[track_caller]
    fn wait_until(&self, what: &str, condition: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.state.lock();
        while !condition(&state.notes) {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                panic!("waited {DEADLINE:?} in vain for {what}; noted: {:?}", state.notes);
            }
        }
    }

    /// Enters the place `place` until the guard is dropped, so that the test learns how many were in it at once.
    pub fn enter(self: &Arc<Self>, place: &str) -> Inside {
        let mut state = self.state.lock();
        let inside = state.inside.entry(place.to_owned()).or_default();
        *inside += 1;
        let inside = *inside;
        let most = state.most_inside.entry(place.to_owned()).or_default();
        *most = inside.max(*most);
        Inside { probe: Arc::clone(self), place: place.to_owned() }
    }

    /// The most that were in `place` at once.
    pub fn most_inside(&self, place: &str) -> usize {
        self.state.lock().most_inside.get(place).copied().unwrap_or_default()
    }
}

/// A stay in a place of a [`Probe`].
#[derive(Debug)]
pub struct Inside {
    probe: Arc<Probe>,
    place: String,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(inside) = self.probe.state.lock().inside.get_mut(&self.place) {
            *inside -= 1;
        }
    }
}

/// The database's own clock.
pub fn now(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f', 'now')",
        Backend::Postgres => "clock_timestamp()",
        Backend::Mysql => "UTC_TIMESTAMP(6)",
    }
}

/// A time, an SQL expression, as microseconds since 1970 (SQLite: in steps of milliseconds).
pub fn micros(backend: Backend, time: &str) -> String {
    match backend {
        Backend::Sqlite => format!("CAST(ROUND((julianday({time}) - 2440587.5) * 86400000) AS INTEGER) * 1000"),
        Backend::Postgres => format!("CAST(date_part('epoch', {time}) * 1000000 AS BIGINT)"),
        Backend::Mysql => format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {time})"),
    }
}

/// The whole milliseconds from one time to a later one, both SQL expressions.
pub fn ms_between(backend: Backend, from: &str, to: &str) -> String {
    match backend {
        Backend::Sqlite => format!("CAST(ROUND((julianday({to}) - julianday({from})) * 86400000) AS INTEGER)"),
        Backend::Postgres => format!("CAST(ROUND(date_part('epoch', ({to}) - ({from})) * 1000) AS BIGINT)"),
        Backend::Mysql => format!("ROUND(TIMESTAMPDIFF(MICROSECOND, {from}, {to}) / 1000)"),
    }
}

/// The mend of the first page: dead and failed rows that meet `condition` are due again, with all attempts anew.
pub fn retry_by_hand(database: &Database, condition: &str) {
    database.execute(&format!(
        "UPDATE consistency_task SET state = 0, execute_times = 0, lost_times = 0, cancel_requested = 0, \
         next_execute_time = {} WHERE state IN (3, 4) AND ({condition})",
        now(database.backend())
    ));
}

/// Lets the leases of the rows that meet `condition` be long over.
pub fn end_leases(database: &Database, condition: &str) {
    let past = match database.backend() {
        Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 hour')",
        Backend::Postgres => "clock_timestamp() - INTERVAL '1 hour'",
        Backend::Mysql => "UTC_TIMESTAMP(6) - INTERVAL 1 HOUR",
    };
    database.execute(&format!("UPDATE consistency_task SET lease_until = {past} WHERE state = 1 AND ({condition})"));
}
