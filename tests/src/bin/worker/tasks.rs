//! The tasks of the program `worker`, known to the tests that enqueue them.

use std::time::Duration;

use consistency_core::context::TaskContext;
use consistency_core::error::{EnqueueError, TaskError};
use consistency_diesel::consistency_task;
use consistency_tests::effects::Effects;
use diesel::result::QueryResult;

/// How `stay` behaves in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Staying(
    /// Whether it never ends.
    pub(crate) bool,
);

/// Writes its effect.
#[consistency_task(name = "worker.record", retry_every = "100ms")]
pub(crate) fn record(number: i64, #[inject] effects: &Effects, #[context] cx: &TaskContext) -> QueryResult<()> {
    effects.append(number, cx.attempt(), cx.node())
}

/// Says that it runs; then writes its effect, or stays for ever where the process is told so.
#[consistency_task(name = "worker.stay", retry_every = "100ms")]
pub(crate) fn stay(
    number: i64,
    #[inject] effects: &Effects,
    #[inject] staying: &Staying,
    #[context] cx: &TaskContext,
) -> QueryResult<()> {
    println!("running {number}");
    if staying.0 {
        loop {
            std::thread::park();
        }
    }
    effects.append(number, cx.attempt(), cx.node())
}

/// Takes its process with it.
#[consistency_task(name = "worker.abort_process", retry_every = "100ms")]
pub(crate) fn abort_process(number: i64, #[inject] effects: &Effects, #[context] cx: &TaskContext) -> QueryResult<()> {
    effects.append(number, cx.attempt(), cx.node())?;
    std::process::abort()
}

/// Fails at its first attempt; writes its effect at the second.
#[consistency_task(name = "worker.fail_once", retry_every = "1s")]
pub(crate) fn fail_once(
    number: i64,
    #[inject] effects: &Effects,
    #[context] cx: &TaskContext,
) -> Result<(), TaskError> {
    if cx.attempt() == 1 {
        return Err(TaskError::message("not yet"));
    }
    effects.append(number, cx.attempt(), cx.node()).map_err(TaskError::new)
}

/// Takes its time, says so at its begin, and writes its effect.
#[consistency_task(name = "worker.linger", retry_every = "100ms")]
pub(crate) fn linger(
    number: i64,
    milliseconds: u64,
    #[inject] effects: &Effects,
    #[context] cx: &TaskContext,
) -> QueryResult<()> {
    println!("lingering {number}");
    std::thread::sleep(Duration::from_millis(milliseconds));
    effects.append(number, cx.attempt(), cx.node())
}

/// Has `record` run a second later.
#[consistency_task(name = "worker.record_later", retry_every = "100ms")]
pub(crate) fn record_later(number: i64, #[context] cx: &TaskContext) -> Result<(), EnqueueError> {
    cx.enqueue(record(number).delay(Duration::from_secs(1))).map(drop)
}
