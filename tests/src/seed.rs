//! Seeds of random tests: printed, and settable, so that what one run found another one finds again.

use proptest::test_runner::{Config, RngSeed, TestRunner};

/// The seed of `test`: `CONSISTENCY_TEST_SEED`, or a new one. It is printed, and shown when the test fails.
///
/// # Panics
/// When the variable is no number.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("CONSISTENCY_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |text| text.parse().expect("CONSISTENCY_TEST_SEED is a number"));
    println!("{test}: CONSISTENCY_TEST_SEED={seed}");
    seed
}

/// A runner of `cases` random cases that begins with the seed of `test`.
pub fn runner(test: &str, cases: u32) -> TestRunner {
    let rng_seed = RngSeed::Fixed(seed(test));
    TestRunner::new(Config {
        cases,
        rng_seed,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 60_000,
        ..Config::default()
    })
}
