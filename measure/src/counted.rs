//! How many statements this process sends, over all of its connections.

use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::connection::{InstrumentationEvent, set_default_instrumentation};
use diesel::result::QueryResult;

static SENT: AtomicUsize = AtomicUsize::new(0);

/// Counts from now on, on connections that are opened from now on.
pub(crate) fn count_statements() -> QueryResult<()> {
    set_default_instrumentation(|| {
        Some(Box::new(|event: InstrumentationEvent<'_>| {
            if matches!(event, InstrumentationEvent::StartQuery { .. }) {
                SENT.fetch_add(1, Ordering::Relaxed);
            }
        }))
    })
}

/// How many were sent so far.
pub(crate) fn statements() -> usize {
    SENT.load(Ordering::Relaxed)
}
