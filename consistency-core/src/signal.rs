//! A flag one thread waits for and others raise; raising it twice before it is seen counts once.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Wakes a waiting thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Raises the flag.
    pub(crate) fn raise(&self) {
        let mut raised = self.raised.lock();
        if !*raised {
            *raised = true;
            self.changed.notify_one();
        }
    }

    /// Waits until the flag is raised or `timeout` has passed, and lowers it. Returns whether it was raised.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut raised = self.raised.lock();
        while !*raised {
            if self.changed.wait_until(&mut raised, deadline).timed_out() {
                break;
            }
        }
        std::mem::take(&mut *raised)
    }
}
