//! Placing an order and looking at it.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use consistency_diesel::async_prelude::*;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::RunQueryDsl;
use serde::Deserialize;

use crate::app::App;
use crate::error::AppError;
use crate::extract::{self, IdempotencyKey, Path};
use crate::order::{NewOrder, Order};
use crate::schema::orders;
use crate::tasks::take_stock;

/// The longest name of an item.
const SKU_MAX: usize = 64;
/// The most of one item in an order.
const QUANTITY_MAX: i32 = 100;

/// What a client orders.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    sku: String,
    quantity: i32,
}

impl Wish {
    fn check(&self) -> Result<(), AppError> {
        let refuse = |sentence| Err(AppError::Refused(StatusCode::UNPROCESSABLE_ENTITY, sentence));
        if self.sku.is_empty() || self.sku.chars().count() > SKU_MAX || self.sku.contains(char::is_control) {
            return refuse(format!("sku must be 1 to {SKU_MAX} printable characters"));
        }
        if !(1..=QUANTITY_MAX).contains(&self.quantity) {
            return refuse(format!("quantity is {}, it must be 1 to {QUANTITY_MAX}", self.quantity));
        }
        Ok(())
    }
}

/// `POST /orders`: 201 with the new order, or 200 with the one an earlier request with this key has placed.
pub(crate) async fn place(
    State(app): State<App>,
    IdempotencyKey(key): IdempotencyKey,
    extract::Json(wish): extract::Json<Wish>,
) -> Result<Response, AppError> {
    wish.check()?;
    let (status, order) = place_once(&app, &key, &wish).await?;
    tracing::info!(order_id = order.id, is_new = status == StatusCode::CREATED, "placed");
    let location = [(header::LOCATION, format!("/orders/{}", order.id))];
    Ok((status, location, Json(order)).into_response())
}

/// Stores the order and the task that goes on with it: both are committed, or neither.
async fn place_once(app: &App, key: &str, wish: &Wish) -> Result<(StatusCode, Order), AppError> {
    let mut conn = app.connection().await?;
    let new = NewOrder { idempotency_key: key, sku: &wish.sku, quantity: wish.quantity };
    app.outbox
        .transaction(&mut conn, async |tx| {
            let stored = diesel::insert_into(orders::table)
                .values(&new)
                .on_conflict(orders::idempotency_key)
                .do_nothing()
                .returning(Order::as_returning())
                .get_result(tx)
                .await
                .optional();
            if let Some(order) = stored.map_err(|error| no_such_item(error, &wish.sku))? {
                tx.enqueue(take_stock(order.id)).await?;
                return Ok((StatusCode::CREATED, order));
            }
            let same_key = orders::table.filter(orders::idempotency_key.eq(key));
            let earlier = same_key.select(Order::as_select()).first(tx).await?;
            match (earlier.sku == wish.sku, earlier.quantity == wish.quantity) {
                (true, true) => Ok((StatusCode::OK, earlier)),
                _ => Err(AppError::KeyOfAnotherOrder),
            }
        })
        .await
}

/// An order for an item that is not in the table `stock` breaks its foreign key.
fn no_such_item(error: Error, sku: &str) -> AppError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => AppError::NoItem(sku.to_owned()),
        other => other.into(),
    }
}

/// `GET /orders/{id}`: how far an order is.
pub(crate) async fn show(State(app): State<App>, Path(id): Path<i64>) -> Result<Json<Order>, AppError> {
    let mut conn = app.connection().await?;
    let order = orders::table.find(id).select(Order::as_select()).first(&mut conn).await.optional()?;
    order.map(Json).ok_or(AppError::NoOrder(id))
}
