//! The service as a test runs it: a database of the test's own, a shipper of the test's own, the process, and orders over HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]
// Each test file uses a part of it.
#![allow(dead_code)]

pub(crate) mod database;
pub(crate) mod process;
pub(crate) mod shipper;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long anything may take. Tasks of a killed process wait for their lease first.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// A lease so short that what a killed process held is soon taken back.
pub(crate) const SHORT_LEASE: [&str; 2] = ["--lease-secs", "2"];

/// An answer: its status, and its body as JSON (`Null` if it is none).
pub(crate) type Answer = (StatusCode, Value);

/// Sends an order to the service at `address`.
pub(crate) async fn order(address: &str, key: &str, sku: &str, quantity: i32) -> reqwest::Result<Answer> {
    let wish = json!({ "sku": sku, "quantity": quantity });
    let request = client().post(format!("{address}/orders")).header("Idempotency-Key", key).json(&wish);
    answer(request).await
}

/// Asks the service at `address`.
pub(crate) async fn get(address: &str, path: &str) -> reqwest::Result<Answer> {
    answer(client().get(format!("{address}{path}"))).await
}

/// Sends a request and takes its answer.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let status = response.status();
    Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or_default()))
}

/// The client of all tests. It holds no connection between two requests: each one shows anew whether the service accepts.
pub(crate) fn client() -> &'static Client {
    static CLIENT: LazyLock<Client> =
        LazyLock::new(|| Client::builder().pool_max_idle_per_host(0).no_proxy().timeout(DEADLINE).build().unwrap());
    &CLIENT
}

/// Asks again and again until the answer is as wanted; gives that answer.
pub(crate) async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F, mut wanted: impl FnMut(&T) -> bool) -> T
where
    F: Future<Output = T>,
{
    let deadline = Instant::now() + DEADLINE;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain for: {what}");
        tick.tick().await;
    }
}

/// Waits until a counter has reached `count`.
pub(crate) async fn reached(what: &str, counter: &watch::Sender<usize>, count: usize) {
    let mut counter = counter.subscribe();
    let reached = timeout(DEADLINE, counter.wait_for(|now| *now >= count)).await.map(|reached| reached.is_ok());
    let now = *counter.borrow();
    assert_eq!(reached.ok(), Some(true), "waited {DEADLINE:?} in vain for: {count} {what}; there are {now}");
}

/// Waits until the order is in this state.
pub(crate) async fn order_is(address: &str, id: &Value, state: &str) {
    let path = format!("/orders/{id}");
    until(
        &format!("order {id} to be {state}"),
        || get(address, &path),
        |answer| answer.as_ref().is_ok_and(|(status, order)| *status == StatusCode::OK && order["state"] == state),
    )
    .await
    .unwrap();
}
