//! Sync, async and transactional functions, every marker and every option.
#![deny(missing_docs, unreachable_pub, rust_2018_idioms, warnings)]
#![forbid(unsafe_code)]

use consistency_diesel::prelude::*;
use diesel::SqliteConnection;
use serde::{Deserialize, Serialize};

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Its number.
    pub id: i64,
}

/// Application state, neither serializable nor `Clone`.
#[derive(Debug)]
pub struct Client;

/// Ships.
#[consistency_task(name = "warehouse.ship", retry_every = "30s", alias = "ship")]
pub async fn ship(
    order_id: i64,
    sku: &str,
    tags: &[String],
    order: &Order,
    note: Option<&str>,
    maybe: Option<&Order>,
    bytes: Option<&[u8]>,
    #[default] mut count: u32,
    #[inject] http: &Client,
    #[context] cx: &TaskContext,
) -> Result<(), TaskError> {
    count += 1;
    let _ = (order_id, sku, tags, order.id, note, maybe.map(|order| order.id), bytes, count, http, cx.idempotency_key());
    std::future::ready(()).await;
    Ok(())
}

/// Takes from stock.
#[consistency_task(
    name = "stock.take", delay = "5s", mode = scheduled, run_on = caller, max_attempts = 5, timeout = "1m", queue = "mail",
    priority = 0, backoff = exponential(cap = "1h", jitter = 20), retry_every = "1m30s", alias("a", "b"),
    crate = ::consistency_diesel,
)]
pub fn take_stock(sku: &str, #[tx] tx: &mut TaskTx<'_, SqliteConnection>) -> Result<(), std::fmt::Error> {
    let _ = (sku, tx);
    Ok(())
}

/// Nothing to store, nothing to fail.
#[consistency_task]
pub fn tick() {}

#[consistency_task]
pub(crate) fn visible_in_the_crate(cow: std::borrow::Cow<'_, str>) -> Result<(), String> {
    drop(cow);
    Ok(())
}

#[consistency_task]
fn private(order: Order) -> Result<i64, TaskError> {
    Ok(order.id)
}

mod inner {
    use consistency_diesel::prelude::*;

    #[consistency_task]
    pub(super) fn visible_above(encoder: i64, decoder: i64, attempt: i64, returned: i64) -> Result<(), String> {
        let _ = (encoder, decoder, attempt, returned);
        Ok(())
    }
}

fn registered<T: consistency_diesel::__private::Task>() -> &'static consistency_diesel::__private::TaskDefinition {
    T::DEFINITION
}

fn main() {
    let order = Order { id: 1 };
    let call: Call = ship(1, "sku", &[], &order, Some("note"), Some(&order), None, 7);
    assert_eq!(
        call.arguments().unwrap(),
        r#"{"order_id":1,"sku":"sku","tags":[],"order":{"id":1},"note":"note","maybe":{"id":1},"bytes":null,"count":7}"#
    );
    let definition = registered::<ship>();
    assert_eq!(definition.name, "warehouse.ship");
    assert_eq!(definition.aliases, ["ship"]);
    assert_eq!(
        definition.parameter_types,
        "order_id: i64, sku: String, tags: Vec<String>, order: Order, note: Option<String>, maybe: Option<Order>, \
         bytes: Option<Vec<u8>>, count: u32"
    );
    assert!(definition.signature.starts_with("async fn ship(order_id: i64, sku: &str, tags: &[String], order: &Order,"));
    assert!(definition.signature.ends_with("#[context] cx: &TaskContext) -> Result<(), TaskError>"));
    assert_eq!((definition.injects)().len(), 1);
    assert!(definition.file.ends_with("plain_functions.rs"), "{}", definition.file);
    assert_eq!(definition.line, 22);
    assert_eq!(registered::<inner::visible_above>().name, concat!(module_path!(), "::inner::visible_above"));
    assert_eq!(registered::<take_stock>().options.priority, 0);
    drop((take_stock("x"), tick(), visible_in_the_crate("x".into()), private(order.clone()), inner::visible_above(1, 2, 3, 4)));
    assert_eq!(private::body(order).unwrap(), 1);
}
