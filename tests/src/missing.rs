//! What this machine lacks for a test: said aloud, or a failure where it is required.

use std::io::Write;

use crate::backend::Backend;

/// The server of `backend` does not answer, for `reason`: `test` is skipped.
///
/// # Panics
/// When `CONSISTENCY_TEST_REQUIRE` names the database.
pub fn server(backend: Backend, test: &str, reason: &str) {
    assert!(!backend.is_required(), "{test}: {reason}, and CONSISTENCY_TEST_REQUIRE asks for {backend}");
    skipped(test, reason);
}

/// A program or a right is missing that `test` needs beside a database, for `reason`: it is skipped.
///
/// # Panics
/// When `CONSISTENCY_TEST_REQUIRE_PROGRAMS` is `1`, and `CONSISTENCY_TEST_REQUIRE` names the database.
pub fn program(backend: Backend, test: &str, reason: &str) {
    let required = std::env::var_os("CONSISTENCY_TEST_REQUIRE_PROGRAMS").is_some_and(|value| value == "1");
    assert!(
        !(required && backend.is_required()),
        "{test}: {reason}, and CONSISTENCY_TEST_REQUIRE_PROGRAMS asks for it"
    );
    skipped(test, reason);
}

/// Written to the descriptor itself: the harness keeps what tests that pass have printed.
pub fn skipped(test: &str, reason: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}").ok();
}
