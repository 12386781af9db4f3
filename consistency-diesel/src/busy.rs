//! How long, and in which rhythm, to ask again for a SQLite file that somebody has locked.

use std::time::{Duration, Instant};

use consistency_core::pause::Pause;
use diesel::result::QueryResult;

use crate::error::is_locked;

/// The tries of one statement that SQLite does not let wait by itself.
#[derive(Debug)]
pub(crate) struct Busy {
    deadline: Instant,
    pause: Pause,
}

impl Busy {
    /// Tries for at most `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            deadline: Instant::now() + patience,
            pause: Pause::new(Duration::from_micros(200), Duration::from_millis(20)),
        }
    }

    /// How long to wait before the next try; `None` when `outcome` is final.
    pub(crate) fn pause_after(&mut self, outcome: &QueryResult<()>) -> Option<Duration> {
        match outcome {
            Err(error) if is_locked(error) && Instant::now() < self.deadline => Some(self.pause.next_length()),
            _ => None,
        }
    }
}
