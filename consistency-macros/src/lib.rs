//! The `#[consistency_task]` attribute. Use it through `consistency_diesel::prelude`, which re-exports it.
//!
//! A pipeline of small modules: `item` looks at what the attribute stands on, `options` reads its keys, `model` takes the
//! function apart, `validate` applies every rule, `expand` writes the result, and `fallback` what is written instead
//! when `errors` has collected any.

mod attributes;
mod duration;
mod errors;
mod expand;
mod fallback;
mod impl_block;
mod item;
mod model;
mod option_list;
mod options;
mod runner;
mod stored_form;
mod text;
mod validate;
mod validate_parameter;

use proc_macro::TokenStream;

/// Makes a function a task: calling it runs nothing and returns a `Call`, which `tx.enqueue(..)` stores.
///
/// ```ignore
/// /// Tells the warehouse to ship.
/// #[consistency_task(name = "warehouse.ship", retry_every = "30s")]
/// async fn ship(order_id: i64, sku: &str, #[inject] http: &Client, #[context] cx: &TaskContext) -> anyhow::Result<()> {
///     // ..
/// }
///
/// tx.enqueue(ship(order.id, &order.sku))?;   // stored, run after the commit
/// ship::body(7, "sku", &http, &cx).await?;   // run now, as in a unit test
/// ```
///
/// # Parameters
///
/// | written | what it is |
/// |---|---|
/// | `sku: &str`, `order: Order`, `tags: &[String]`, `note: Option<&str>` | stored as JSON under the parameter's name |
/// | `#[default] count: u32` | stored; rows without it get `Default::default()` |
/// | `#[sensitive] card: &str` | stored; left out of error texts, events, logs and `Debug` |
/// | `#[inject] http: &Client` | the value given to the builder with `.inject(..)` |
/// | `#[context] cx: &TaskContext` | the attempt: number, idempotency key, cancellation, follow-up calls |
/// | `#[tx] tx: &mut TaskTx<SqliteConnection>` | the transaction that also completes the task |
///
/// `#[sensitive]` does not encrypt: the value is in the column `task_parameter`, for the function must be run with it. What
/// it does: no error text, event or log line of the library shows the value, whole texts and numbers of it from 4
/// characters on that are in an error of yours become `***`, and `parameter_types` says `(sensitive)`. Better still, store
/// a reference to the secret, or a value that is encrypted already.
///
/// # Options
///
/// | option | default | meaning |
/// |---|---|---|
/// | `name = "warehouse.ship"` | `module::path::function` | the stable name stored in the rows, 1 to 200 characters |
/// | `alias = "old.name"` | none | a former name whose rows this function still runs; may be repeated |
/// | `retry_every = "30s"` | `"60s"` | base interval between attempts |
/// | `backoff = exponential(cap = "1h", jitter = 20)` | `fixed` | growth of the interval: `fixed`, `linear`, `exponential`; jitter in percent |
/// | `max_attempts = 5` | until it succeeds | attempts before the task is dead |
/// | `timeout = "1m"` | the outbox's | time limit of one attempt |
/// | `delay = "5s"` | none; `"60s"` if scheduled | wait before the first attempt |
/// | `mode = scheduled` | `immediate` | whether the first attempt starts right after the commit or when the poller finds it |
/// | `run_on = caller` | `worker` | which thread runs it |
/// | `queue = "mail"` | `"default"` | the queue whose slots it uses |
/// | `priority = 0` | `5` | 0 (first) to 9 (last) |
/// | `when_dead = park` | `block` | what becomes of the ordering key of a row that is given up: `block`, `park`, `skip` |
/// | `crate = my_crate::reexport` | `::consistency_diesel` | where the generated code finds the library |
///
/// Durations are `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"2d"`, and sums like `"1h30m"`, up to ten years.
///
/// # Associated functions
///
/// Put the attribute on the `impl` block and on each function in it that is a task. `Warehouse::ship(..)` is then the
/// call, `Warehouse::ship_body(..)` the function itself, `Warehouse::ship_task()` its definition.
#[proc_macro_attribute]
pub fn consistency_task(options: TokenStream, item: TokenStream) -> TokenStream {
    item::annotate(options.into(), item.into()).into()
}
