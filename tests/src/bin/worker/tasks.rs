//! The tasks of the program `worker`, known to the tests that enqueue them.

use consistency_core::context::TaskContext;
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
