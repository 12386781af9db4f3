//! A mailer for tests: it keeps what it takes, and refuses when it is told to.

#![allow(clippy::unwrap_used, reason = "a test fails that way")]
// Each test file uses a part of it.
#![allow(dead_code)]

use std::io;
use std::sync::Mutex;

use booking::mail::Mailer;

/// Mail, as text and key.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    taken: Mutex<Vec<(String, String)>>,
    refusal: Mutex<Option<&'static str>>,
}

impl Mailbox {
    /// From now on mail is refused for this reason.
    pub(crate) fn refuse(&self, reason: &'static str) {
        *self.refusal.lock().unwrap() = Some(reason);
    }

    /// From now on mail is taken.
    pub(crate) fn accept(&self) {
        *self.refusal.lock().unwrap() = None;
    }

    /// The texts of the mail so far.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().map(|(text, _)| text.clone()).collect()
    }

    /// The keys of the mail so far.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().map(|(_, key)| key.clone()).collect()
    }
}

impl Mailer for Mailbox {
    fn send(&self, _: &str, text: &str, key: &str) -> io::Result<()> {
        if let Some(reason) = *self.refusal.lock().unwrap() {
            return Err(io::Error::other(reason));
        }
        self.taken.lock().unwrap().push((text.to_owned(), key.to_owned()));
        Ok(())
    }
}
