//! Claims whose answer did not come: the database may have committed them, or may still do so, and then nobody runs what they
//! took. What this node has claimed and does not hold is put back, uncharged, until no such claim can commit any more.

use std::time::{Duration, Instant};

use crate::settings::Settings;

/// How often the table is asked, in parts of a lease.
const ASKS_PER_LEASE: u32 = 16;
/// The shortest and the longest time from one question to the next.
const ASK_BETWEEN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What is not known of the claims sent so far.
#[derive(Debug)]
pub(crate) struct Doubt {
    ask_every: Duration,
    /// How long after its failure a claim may still be committed.
    commits_within: Duration,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// When the first of these claims was sent.
    sent: Instant,
    until: Instant,
    next: Instant,
}

impl Doubt {
    /// Nothing is in doubt.
    pub(crate) fn new(settings: &Settings) -> Self {
        let (shortest, longest) = ASK_BETWEEN;
        let ask_every = (settings.lease / ASKS_PER_LEASE).clamp(shortest, longest);
        Self { ask_every, commits_within: settings.store_timeout.max(settings.busy_wait), open: None }
    }

    /// A claim sent at `sent` has failed at `now`.
    pub(crate) fn begin(&mut self, sent: Instant, now: Instant) {
        let sent = self.open.as_ref().map_or(sent, |open| open.sent);
        self.open = Some(Open { sent, until: now + self.commits_within, next: now });
    }

    /// Since when rows may have been claimed that nobody here knows of, should it be time to ask for them.
    pub(crate) fn asks(&mut self, now: Instant) -> Option<Instant> {
        self.open.as_mut().filter(|open| now >= open.next).map(|open| open.sent)
    }

    /// The table was asked at `now`, and answered.
    pub(crate) fn asked(&mut self, now: Instant) {
        match &mut self.open {
            Some(open) if now < open.until => open.next = now + self.ask_every,
            open => *open = None,
        }
    }

    /// How long until it is time to ask.
    pub(crate) fn next_ask(&self, now: Instant) -> Option<Duration> {
        self.open.as_ref().map(|open| open.next.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_failed_claim_is_asked_for_until_it_can_commit_no_more() {
        let settings =
            Settings { lease: 8 * SECOND, store_timeout: 2 * SECOND, busy_wait: SECOND, ..Settings::default() };
        let mut doubt = Doubt::new(&settings);
        let sent = Instant::now();
        assert_eq!((doubt.asks(sent), doubt.next_ask(sent)), (None, None));
        let failed = sent + SECOND;
        doubt.begin(sent, failed);
        assert_eq!((doubt.asks(failed), doubt.next_ask(failed)), (Some(sent), Some(Duration::ZERO)));
        doubt.asked(failed);
        assert_eq!((doubt.asks(failed), doubt.next_ask(failed)), (None, Some(SECOND / 2)));
        // Another one failed: it lasts longer, and goes back as far as before.
        doubt.begin(failed, failed + SECOND);
        for (after, known) in
            [(SECOND, Some(sent)), (2 * SECOND, Some(sent)), (3 * SECOND, Some(sent)), (4 * SECOND, None)]
        {
            assert_eq!(doubt.asks(failed + after), known, "{after:?}");
            doubt.asked(failed + after);
        }
    }
}
