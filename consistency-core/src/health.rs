//! What the runtime's own work with its store last met: for those who ask whether a node is well, and not only for those who
//! listen.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::caught::panicked;
use crate::error::StoreError;
use crate::event::Event;
use crate::executor::Executor;

/// Work of the runtime's own that fails, and has not succeeded since.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trouble {
    /// What the runtime is trying to do, in the words of [`Event::StoreTrouble`].
    pub doing: &'static str,
    /// How long it has been failing.
    pub lasting: Duration,
    /// What the database said last.
    pub error: String,
}

/// The kinds of work that fail at the moment.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failing: Mutex<BTreeMap<&'static str, (Instant, String)>>,
}

impl Health {
    fn failed(&self, doing: &'static str, error: &str) {
        let mut failing = self.failing.lock();
        let (_, last) = failing.entry(doing).or_insert_with(|| (Instant::now(), String::new()));
        error.clone_into(last);
    }

    fn succeeded(&self, doing: &'static str) {
        self.failing.lock().remove(doing);
    }

    /// What has been failing longest.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let failing = self.failing.lock();
        let (doing, (since, error)) = failing.iter().min_by_key(|(_, (since, _))| *since)?;
        Some(Trouble { doing, lasting: since.elapsed(), error: error.clone() })
    }
}

impl Executor {
    /// Reports that the store could not be used. The caller tries again.
    pub(crate) fn met_trouble(&self, doing: &'static str, error: &StoreError) {
        self.health.failed(doing, &error.to_string());
        self.events.emit(Event::StoreTrouble { doing, error: error.to_string() });
    }

    /// Does one round of a thread's work. A panic in it, of a driver say, is an error of the round: the thread must go on.
    pub(crate) fn guarded<T>(&self, round: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let caught = catch_unwind(AssertUnwindSafe(round));
        caught.unwrap_or_else(|payload| Err(StoreError::Fatal(panicked(payload).text().into())))
    }

    /// Says that the store can be used for this.
    pub(crate) fn is_well(&self, doing: &'static str) {
        self.health.succeeded(doing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_trouble_is_told_until_the_same_work_succeeds() {
        let health = Health::default();
        assert_eq!(health.trouble(), None);
        health.failed("settle", "first");
        health.failed("renew leases", "other");
        health.failed("settle", "second");
        let told = health.trouble().unwrap();
        assert_eq!((told.doing, told.error.as_str()), ("settle", "second"));
        health.succeeded("settle");
        assert_eq!(health.trouble().unwrap().doing, "renew leases");
        health.succeeded("renew leases");
        assert_eq!(health.trouble(), None);
    }
}
