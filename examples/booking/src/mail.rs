//! The outside world: mail, and the task that sends it.

use std::io;
use std::sync::Arc;

use consistency_diesel::prelude::*;

/// Sends mail. A test gives the outbox one of its own.
pub trait Mailer: Send + Sync {
    /// Hands a mail over. One with a key that was handed over before is dropped by who receives it.
    ///
    /// # Errors
    /// When it was not taken, or nobody knows.
    fn send(&self, to: &str, text: &str, key: &str) -> io::Result<()>;
}

/// Prints mail instead of sending it.
#[derive(Debug)]
pub struct PrintingMailer;

impl Mailer for PrintingMailer {
    fn send(&self, to: &str, text: &str, key: &str) -> io::Result<()> {
        println!("to {to}: {text} ({key})");
        Ok(())
    }
}

/// Sends a mail until the mailer has taken it.
#[consistency_task(name = "booking.mail", retry_every = "5m", backoff = exponential(cap = "1h", jitter = 20))]
pub fn mail(to: &str, text: &str, #[inject] mailer: &Arc<dyn Mailer>, #[context] cx: &TaskContext) -> io::Result<()> {
    mailer.send(to, text, cx.idempotency_key())
}
