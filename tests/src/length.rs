//! The short form of a test, which always runs, and the long form, for `cargo xtask reliability`: which one is asked for.

/// Whether the long form is asked for, by `CONSISTENCY_TEST_LONG=1`.
pub fn is_long() -> bool {
    std::env::var_os("CONSISTENCY_TEST_LONG").is_some_and(|value| value == "1")
}
