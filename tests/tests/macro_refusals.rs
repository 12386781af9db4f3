//! What the attribute refuses and what it says then, one mistake per file; and what it must accept. See `ui/README.md`.

#[test]
fn every_mistake_is_answered_with_one_readable_sentence() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}

#[test]
fn what_should_compile_compiles() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}
