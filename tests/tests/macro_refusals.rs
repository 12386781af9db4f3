//! What the attribute and the helpers refuse and what they say then, one mistake per file; and what they must accept. See
//! `ui/README.md`.
//!
//! Each case is compiled once: those with asynchronous connections where these are built in, all others where they are not.

/// Of the file's own name, so that all of it can be left out of a run.
mod macro_refusals {
    #[test]
    #[cfg(not(feature = "async-sqlite"))]
    fn every_mistake_is_answered_with_one_readable_sentence() {
        trybuild::TestCases::new().compile_fail("ui/*.rs");
    }

    #[test]
    #[cfg(feature = "async-sqlite")]
    fn every_mistake_with_asynchronous_connections_is_answered_with_one_readable_sentence() {
        trybuild::TestCases::new().compile_fail("ui/async/*.rs");
    }

    #[test]
    #[cfg(not(feature = "async-sqlite"))]
    fn what_should_compile_compiles() {
        trybuild::TestCases::new().pass("ui/pass/*.rs");
    }
}
