//! The tasks of the program `ordered_worker`, known to the test that enqueues them.

use consistency_core::context::TaskContext;
use consistency_core::error::TaskError;
use consistency_diesel::consistency_task;
use consistency_tests::chains::{Journal, Said};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Attempts after which a row that is not given up succeeds.
const MOST_FAILURES: u32 = 3;

/// What becomes of an attempt, by the seed alone: the same in whichever process it runs.
fn outcome(seed: u64, chain: &str, number: i64, attempt: u32) -> (Said, Result<(), TaskError>) {
    let mixed = seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(attempt).rotate_left(40);
    let mut dice = StdRng::seed_from_u64(mixed);
    match dice.random_range(0..100) {
        // Only chains that flow on may lose a row.
        0..8 if !chain.starts_with("block") => (Said::End, Err(TaskError::permanent("given up for good"))),
        8..33 if attempt <= MOST_FAILURES => (Said::Fail, Err(TaskError::message("once more"))),
        33..36 if attempt <= MOST_FAILURES => panic!("row {number} panics at attempt {attempt}"),
        _ => (Said::End, Ok(())),
    }
}

/// One row of a chain, in a thread.
#[consistency_task(name = "ordered.in_a_thread", retry_every = "3ms")]
pub(crate) fn in_a_thread(
    seed: u64,
    chain: &str,
    number: i64,
    #[inject] journal: &Journal,
    #[context] cx: &TaskContext,
) -> Result<(), TaskError> {
    journal.say(chain, number, Said::Begin).map_err(TaskError::new)?;
    let (said, outcome) = outcome(seed, chain, number, cx.attempt());
    journal.say(chain, number, said).map_err(TaskError::new)?;
    outcome
}

/// One row of a chain, in a future.
#[consistency_task(name = "ordered.in_a_future", retry_every = "3ms")]
pub(crate) async fn in_a_future(
    seed: u64,
    chain: &str,
    number: i64,
    #[inject] journal: &Journal,
    #[context] cx: &TaskContext,
) -> Result<(), TaskError> {
    journal.say(chain, number, Said::Begin).map_err(TaskError::new)?;
    tokio::time::sleep(std::time::Duration::from_micros(200)).await;
    let (said, outcome) = outcome(seed, chain, number, cx.attempt());
    journal.say(chain, number, said).map_err(TaskError::new)?;
    outcome
}
