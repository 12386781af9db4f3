//! The service is asked to stop: what is under way ends, what does not end is put back, and the next start goes on with it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod service;

use reqwest::StatusCode;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::service::database::Database;
use crate::service::process::Service;
use crate::service::shipper::Shipper;
use crate::service::{DEADLINE, get, order, until};

/// An order whose body is still to come, in a request the service is already busy with.
struct HalfSent {
    stream: TcpStream,
}

const BODY: &str = r#"{"sku":"chair","quantity":1}"#;

impl HalfSent {
    /// Sends the head. The service asks for the body when its handler waits for it: then the request is under way.
    async fn begin(address: &str, key: &str) -> Self {
        let host = address.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).await.unwrap();
        let head = format!(
            "POST /orders HTTP/1.1\r\nHost: {host}\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            BODY.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 25];
        timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("the service asks for the body").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { stream }
    }

    /// Sends the body; gives the answer up to the end of the connection.
    async fn finish(mut self) -> String {
        self.stream.write_all(BODY.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, self.stream.read_to_string(&mut answer)).await.expect("the service answers").unwrap();
        answer
    }
}

async fn assert_nothing_is_leased(database: &Database) {
    assert_eq!(database.count("consistency_task", "state = 1").await, 0, "a task is left to its lease");
}

async fn assert_everything_is_shipped_by_the_next_start(database: &Database, shipper: &Shipper) {
    let service = Service::start(database, shipper.url(), &[]);
    service.listening().await;
    database.wait_for_count(0, "orders", "state <> 'shipped'").await;
    database.wait_for_count(0, "consistency_task", "state <> 2").await;
    service.signal(Signal::TERM);
    assert_eq!(service.end().await.status.code(), Some(0));
    let taken = database.number("100 - on_hand FROM stock WHERE sku = 'chair'").await;
    assert_eq!(taken, database.number("SUM(quantity) FROM orders").await);
}

#[tokio::test]
async fn sigterm_ends_what_is_under_way_and_nothing_stays_leased() {
    let Some(database) = Database::fresh("SIGTERM").await else { return };
    let shipper = Shipper::silent().await;
    // Longer than the test: the second signal ends it.
    let service = Service::start(&database, shipper.url(), &["--drain-secs", "3600"]);
    let address = service.listening().await;
    let (_, placed) = order(&address, "task under way", "chair", 1).await.unwrap();
    shipper.wait_for_visits(1).await;
    let half_sent = HalfSent::begin(&address, "request under way").await;

    service.signal(Signal::TERM);
    let health = || get(&address, "/health");
    let leaving = until("/health to say 503", health, |answer| !matches!(answer, Ok((StatusCode::OK, _)))).await;
    let (status, report) = leaving.expect("it accepts while the load balancer turns away");
    assert_eq!((status, &report["shutting_down"]), (StatusCode::SERVICE_UNAVAILABLE, &true.into()), "{report}");
    let (status, late) = order(&address, "from a late load balancer", "chair", 1).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{late}");

    service.signal(Signal::TERM);
    let refused = until("connections to be refused", health, Result::is_err).await.unwrap_err();
    assert!(refused.is_connect() || refused.is_request(), "{refused:?}");
    let answer = half_sent.finish().await;
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    shipper.answer();

    let ended = service.end().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(ended.log.contains("outbox stopped"), "{}", ended.log);
    assert_nothing_is_leased(&database).await;
    let id = placed["id"].as_i64().unwrap();
    assert_eq!(database.count("orders", &format!("id = {id} AND state = 'shipped'")).await, 1);
    assert_eq!(database.count("orders", "true").await, 3);
    assert_everything_is_shipped_by_the_next_start(&database, &shipper).await;
}

#[tokio::test]
async fn sigint_puts_back_what_does_not_end_and_the_next_start_goes_on_with_it() {
    let Some(database) = Database::fresh("SIGINT").await else { return };
    let shipper = Shipper::silent().await;
    let service = Service::start(&database, shipper.url(), &["--grace-secs", "1"]);
    let address = service.listening().await;
    order(&address, "never answered", "chair", 1).await.unwrap();
    shipper.wait_for_visits(1).await;
    let _never_finished = HalfSent::begin(&address, "never finished").await;

    service.signal(Signal::INT);
    let ended = service.end().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(ended.log.contains("requests that are still open are cut off"), "{}", ended.log);
    assert_nothing_is_leased(&database).await;
    let put_back = "method_name = 'shipper.tell' AND state = 0 AND execute_times = 0";
    assert_eq!(database.count("consistency_task", put_back).await, 1, "{}", ended.log);

    shipper.answer();
    assert_everything_is_shipped_by_the_next_start(&database, &shipper).await;
    let told = shipper.told();
    assert_eq!((told.len(), &told[0]), (2, &told[1]), "the repetition carries the same key");
}
