//! Growing pauses between tries, with jitter, so that many nodes do not return in step.

use std::time::Duration;

/// A pause that doubles up to a limit.
#[derive(Debug, Clone)]
pub struct Pause {
    next: Duration,
    most: Duration,
}

impl Pause {
    /// Pauses from `first` to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// The next pause, between half and all of the current length.
    pub fn next_length(&mut self) -> Duration {
        let length = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.most);
        length
    }

    /// Sleeps for the next pause.
    pub fn sleep(&mut self) {
        std::thread::sleep(self.next_length());
    }
}
