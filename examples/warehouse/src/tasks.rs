//! The scene: an order is stored together with the task that finishes it, and that task finishes it together with the
//! task that tells the carrier. Each step is one transaction, so nothing is lost between two of them.

use std::sync::Arc;

use anyhow::{Context, Result};
use consistency_diesel::prelude::*;
use diesel::result::QueryResult;

use crate::delivery::{Carrier, Parcel};
use crate::orders::Order;
use crate::shop::Shop;

/// Tells the carrier about a parcel, until the carrier has understood.
///
/// The carrier may understand and its answer get lost; then it is told again. The idempotency key is the same at every
/// attempt, so the carrier knows the repetition. A queue of its own keeps slow answers from holding up documents.
#[consistency_task(name = "notify_carrier", queue = "carrier", retry_every = "1s")]
pub(crate) async fn notify_carrier(
    order_no: i64,
    parcel_no: &str,
    quantity: i32,
    #[inject] carrier: &Arc<Carrier>,
    #[context] cx: &TaskContext,
) -> Result<()> {
    carrier.deliver(&Parcel { order_no, parcel_no, quantity }, cx.idempotency_key()).await
}

/// The names of the scene's tasks.
pub(crate) const TASKS: [&str; 2] = ["finish_document", notify_carrier::NAME];

/// The two transactions of the scene, on one kind of connection.
pub(crate) trait Scene: Shop + Send + 'static {
    /// Stores an order and the task that will finish it: both or neither.
    fn store_order(&mut self, outbox: &Outbox, order: &Order) -> QueryResult<()>;
}

// A `#[tx]` task names its connection type: so a program that can run on three databases has three `finish_document`, one
// text stamped out three times. They share the name; an outbox takes the one for its own connection.
macro_rules! scene_on {
    ($database:ident, $Connection:ident) => {
        mod $database {
            use diesel::$Connection;

            use super::*;

            /// Completes the document, books the stock, dispatches the parcel and enqueues the notice to the carrier.
            ///
            /// All of it commits together with the task's own completion: exactly once, however often it is tried.
            #[consistency_task(name = "finish_document", retry_every = "1s")]
            fn finish_document(order_no: i64, #[tx] tx: &mut TaskTx<$Connection>) -> Result<()> {
                let document = tx
                    .complete_document(order_no)?
                    .ok_or_else(|| TaskError::permanent("it is missing, or was finished before"))
                    .with_context(|| format!("order {order_no} is not open"))?;
                tx.book_stock(&document)?;
                let parcel_no = tx.dispatch_parcel(&document)?;
                tx.enqueue(notify_carrier(order_no, &parcel_no, document.quantity))?;
                Ok(())
            }

            impl Scene for $Connection {
                fn store_order(&mut self, outbox: &Outbox, order: &Order) -> QueryResult<()> {
                    outbox.transaction(self, |tx| {
                        tx.insert_order(order)?;
                        tx.enqueue(finish_document(order.order_no))?;
                        Ok(())
                    })
                }
            }
        }
    };
}

#[cfg(feature = "sqlite")]
scene_on!(sqlite, SqliteConnection);

#[cfg(feature = "postgres")]
scene_on!(postgres, PgConnection);

#[cfg(feature = "mysql")]
scene_on!(mysql, MysqlConnection);
