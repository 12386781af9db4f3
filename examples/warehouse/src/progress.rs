//! Counts what happens while it happens, and shows it: a bar on a terminal, else a plain line now and then.

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use consistency_diesel::core::event::Event;
use consistency_diesel::core::state::State;
use consistency_diesel::prelude::Task;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::tasks::notify_carrier;

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// The counts, kept by the producers and by the outbox's events, which come after the table says so.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    stored: AtomicU64,
    delivered: AtomicU64,
    dead: AtomicU64,
    failed_attempts: AtomicU64,
    last_error: Mutex<String>,
}

impl Progress {
    /// Starts where a former run left off.
    pub(crate) fn resume(stored: u64, delivered: u64, dead: u64) -> Self {
        Self { stored: stored.into(), delivered: delivered.into(), dead: dead.into(), ..Self::default() }
    }

    /// An order is committed.
    pub(crate) fn order_stored(&self) {
        self.stored.fetch_add(1, Ordering::Relaxed);
    }

    /// The outbox reports something.
    pub(crate) fn observe(&self, event: &Event) {
        let Event::Settled { attempt, state, error, .. } = event else { return };
        match state {
            State::Succeeded if attempt.name == notify_carrier::NAME => self.delivered.fetch_add(1, Ordering::Relaxed),
            State::Dead => self.dead.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        if let Some(error) = error {
            self.failed_attempts.fetch_add(1, Ordering::Relaxed);
            let root = error.lines().last().unwrap_or_default().trim_start_matches("caused by: ");
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = root.to_owned();
        }
    }

    /// Orders that need nothing more from the outbox: delivered, or given up.
    pub(crate) fn settled(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed) + self.dead.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| HumanCount(counter.load(Ordering::Relaxed));
        write!(f, "stored {}, failed attempts {}", count(&self.stored), count(&self.failed_attempts))?;
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if last_error.is_empty() { Ok(()) } else { write!(f, ", last: {last_error}") }
    }
}

/// Where the progress is shown.
pub(crate) struct View {
    orders: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl View {
    /// A bar when standard output is a terminal, else lines.
    pub(crate) fn new(orders: u64) -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(orders), ProgressDrawTarget::stdout());
            let style = ProgressStyle::with_template("{bar:32} {human_pos}/{human_len} delivered, {wide_msg}");
            // The template is a constant, so it cannot fail on one machine only; the default style would do as well.
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { orders, bar, last_line: Instant::now() }
    }

    /// Shows `progress`.
    pub(crate) fn show(&mut self, progress: &Progress) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(progress.to_string());
                bar.set_position(progress.delivered.load(Ordering::Relaxed));
            }
            None if self.last_line.elapsed() >= LINE_EVERY => self.print_line(progress),
            None => {}
        }
    }

    /// Shows `progress` for the last time.
    pub(crate) fn finish(mut self, progress: &Progress) {
        match self.bar.take() {
            Some(bar) => {
                bar.set_position(progress.delivered.load(Ordering::Relaxed));
                bar.abandon_with_message(progress.to_string());
            }
            None => self.print_line(progress),
        }
    }

    fn print_line(&mut self, progress: &Progress) {
        let delivered = HumanCount(progress.delivered.load(Ordering::Relaxed));
        println!("{delivered}/{} delivered, {progress}", HumanCount(self.orders));
        self.last_line = Instant::now();
    }
}
