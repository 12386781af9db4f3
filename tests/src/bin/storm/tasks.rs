//! What the storm runs: bodies on futures, threads, the caller's thread and in transactions, on time, later, in order, and
//! failing first.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::call::Call;
use consistency_diesel::prelude::*;

use crate::ledger::Ledger;
use crate::orders::Kind;

#[consistency_task(name = "storm.future")]
async fn future(order: i64, #[inject] ledger: &Arc<Ledger>, #[context] cx: &TaskContext) {
    let run = ledger.begin(cx);
    tokio::task::yield_now().await;
    let _ = order;
    run.succeeded();
}

#[consistency_task(name = "storm.thread")]
fn thread(order: i64, #[inject] ledger: &Arc<Ledger>, #[context] cx: &TaskContext) {
    let _ = order;
    ledger.begin(cx).succeeded();
}

#[consistency_task(name = "storm.on_caller", run_on = caller)]
fn on_caller(order: i64, #[inject] ledger: &Arc<Ledger>, #[context] cx: &TaskContext) {
    let _ = order;
    ledger.begin(cx).succeeded();
}

#[consistency_task(name = "storm.flaky", retry_every = "200ms")]
async fn flaky(order: i64, #[inject] ledger: &Arc<Ledger>, #[context] cx: &TaskContext) -> Result<(), String> {
    let run = ledger.begin(cx);
    if cx.attempt() % 3 == 1 {
        return Err(format!("order {order} fails at first"));
    }
    run.succeeded();
    Ok(())
}

/// The call of a task without a connection; `None` for those with one.
pub(crate) fn call(kind: Kind, order: i64) -> Option<Call> {
    let call = match kind {
        Kind::Future => future(order),
        Kind::Thread => thread(order),
        Kind::OnCaller => on_caller(order),
        Kind::Flaky => flaky(order),
        Kind::Delayed { ms } => future(order).delay(Duration::from_millis(ms)),
        Kind::Ordered { key } => thread(order).ordered_by(format!("key {key}")),
        Kind::Books => return None,
    };
    Some(call.biz("order", order))
}
