//! The tasks of a drain: they do nothing, or wait as long as they are told, and are counted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use consistency_diesel::prelude::*;

/// How many have run in this process.
static RAN: AtomicUsize = AtomicUsize::new(0);
/// How long each waits.
static BODY: OnceLock<Duration> = OnceLock::new();

#[consistency_task(name = "measure.noop")]
pub(crate) async fn noop(number: u64, note: &str) {
    let _ = (number, note);
    if let Some(body) = BODY.get() {
        tokio::time::sleep(*body).await;
    }
    RAN.fetch_add(1, Ordering::Relaxed);
}

/// How many have run in this process.
pub(crate) fn ran() -> usize {
    RAN.load(Ordering::Relaxed)
}

/// As many were run by hand.
pub(crate) fn count(ran: usize) {
    RAN.fetch_add(ran, Ordering::Relaxed);
}

/// Has each wait so long from now on.
pub(crate) fn wait_in_each(body: Duration) {
    if !body.is_zero() {
        // Only the first counts, and there is one per process.
        let _ = BODY.set(body);
    }
}

/// Arguments of so many bytes.
pub(crate) fn payload(bytes: usize) -> String {
    "an order with an address and an article number, as many a message has it; ".chars().cycle().take(bytes).collect()
}
