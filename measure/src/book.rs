//! What happened to each task of a steady load, by its number: when it was due, when it started, how often it ran to its end.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Not yet.
const NEVER: u64 = u64::MAX;

/// The book of this process's load.
static BOOK: OnceLock<Book> = OnceLock::new();

/// A line for each task, all of it in memory from the start, so that it does not look like a leak.
#[derive(Debug)]
pub(crate) struct Book {
    begun: Instant,
    due: Vec<AtomicU64>,
    started: Vec<AtomicU64>,
    runs: Vec<AtomicU8>,
    /// How many ran to their end.
    pub(crate) ended: AtomicU64,
}

impl Book {
    /// Opens the book for `tasks` tasks; once per process.
    pub(crate) fn open(tasks: usize) -> &'static Book {
        let times = || (0..tasks).map(|_| AtomicU64::new(NEVER)).collect();
        let runs = (0..tasks).map(|_| AtomicU8::new(0)).collect();
        BOOK.get_or_init(|| Book {
            begun: Instant::now(),
            due: times(),
            started: times(),
            runs,
            ended: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(NEVER - 1)
    }

    /// The task is committed, and due `delay` after this moment.
    pub(crate) fn is_due_in(&self, number: usize, delay: Duration) {
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(0);
        self.due[number].store(self.now() + delay, Ordering::Relaxed);
    }

    /// How many milliseconds passed from when the task was due to its first start; `None` if one of them is not known. A task
    /// may start before the committing thread reads its clock.
    pub(crate) fn waited_ms(&self, number: usize) -> Option<f64> {
        let (due, started) = (self.due[number].load(Ordering::Relaxed), self.started[number].load(Ordering::Relaxed));
        (due != NEVER && started != NEVER).then(|| started.saturating_sub(due) as f64 / 1e6)
    }

    /// How often the task ran to its end.
    pub(crate) fn runs(&self, number: usize) -> u8 {
        self.runs[number].load(Ordering::Relaxed)
    }
}

/// An attempt of the task starts.
pub(crate) fn starts(number: usize) {
    if let Some(book) = BOOK.get() {
        book.started[number].fetch_min(book.now(), Ordering::Relaxed);
    }
}

/// An attempt of the task ran to its end.
pub(crate) fn ends(number: usize) {
    if let Some(book) = BOOK.get() {
        book.runs[number].fetch_add(1, Ordering::Relaxed);
        book.ended.fetch_add(1, Ordering::Relaxed);
    }
}
