//! What happens to an order after it is stored: it is taken from stock, then the shipper is told. Each step is stored in the
//! transaction of the one before, so nothing is lost between two of them.

use consistency_diesel::async_prelude::*;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::app::Connections;
use crate::order::{Order, OrderState};
use crate::schema::{orders, stock};
use crate::shipper::{Parcel, Shipper};

/// Takes the items of an order from stock, and enqueues what tells the shipper.
///
/// All of it commits together with the task's own completion: exactly once, however often it is tried.
#[consistency_task(name = "stock.take", retry_every = "1s")]
pub(crate) async fn take_stock(order_id: i64, #[tx] tx: &mut TaskTx<'_, AsyncPgConnection>) -> QueryResult<()> {
    let order = orders::table.find(order_id).select(Order::as_select()).first(tx).await?;
    let taken = diesel::update(stock::table.find(&order.sku).filter(stock::on_hand.ge(order.quantity)))
        .set(stock::on_hand.eq(stock::on_hand - order.quantity))
        .execute(tx)
        .await?;
    if taken == 0 {
        tracing::info!(order_id, sku = order.sku, "sold out");
        return set_state(order_id, OrderState::SoldOut, tx.connection()).await;
    }
    set_state(order_id, OrderState::Packed, tx.connection()).await?;
    tx.enqueue(tell_shipper(order_id, &order.sku, order.quantity)).await?;
    tracing::info!(order_id, sku = order.sku, quantity = order.quantity, "taken from stock");
    Ok(())
}

/// Tells the shipper about a parcel, until the shipper has understood.
///
/// No transaction is open while it waits for the answer. The answer can get lost, and then the shipper is told again: the
/// idempotency key is the same at every attempt, so it knows the repetition. A queue of its own keeps a slow shipper from
/// holding up the stock.
#[consistency_task(
    name = "shipper.tell",
    queue = "shipper",
    retry_every = "1s",
    backoff = exponential(cap = "1m", jitter = 20)
)]
pub(crate) async fn tell_shipper(
    order_id: i64,
    sku: &str,
    quantity: i32,
    #[inject] shipper: &Shipper,
    #[inject] connections: &Connections,
    #[context] cx: &TaskContext,
) -> anyhow::Result<()> {
    shipper.tell(&Parcel { order_id, sku, quantity }, cx.idempotency_key()).await?;
    set_state(order_id, OrderState::Shipped, &mut *connections.get().await?).await?;
    tracing::info!(order_id, "shipped");
    Ok(())
}

/// Writes how far an order is.
async fn set_state(order_id: i64, state: OrderState, conn: &mut AsyncPgConnection) -> QueryResult<()> {
    diesel::update(orders::table.find(order_id)).set(orders::state.eq(state)).execute(conn).await.map(drop)
}
