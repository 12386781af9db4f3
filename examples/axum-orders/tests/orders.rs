//! Orders over HTTP: what happens to a good one, once however often it is sent, and what is said of a bad one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod service;

use std::collections::HashSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::service::database::Database;
use crate::service::process::Service;
use crate::service::shipper::{Parcel, Shipper};
use crate::service::{answer, client, get, order, order_is};

const CHAIRS: i64 = 100;

#[tokio::test]
async fn an_order_is_shipped_and_its_items_are_taken_from_stock_once() {
    let Some(database) = Database::fresh("an order is shipped").await else { return };
    let shipper = Shipper::reliable().await;
    let service = Service::start(&database, shipper.url(), &[]);
    let address = service.listening().await;

    let (status, placed) = order(&address, "first", "chair", 3).await.unwrap();
    assert_eq!((status, &placed["state"]), (StatusCode::CREATED, &json!("placed")));
    order_is(&address, &placed["id"], "shipped").await;
    database.wait_for_count(2, "consistency_task", "state = 2").await;

    assert_eq!(database.number("on_hand FROM stock WHERE sku = 'chair'").await, CHAIRS - 3);
    let told: Vec<Parcel> = shipper.told().into_iter().map(|(_, parcel)| parcel).collect();
    assert_eq!(told, [Parcel { order_id: placed["id"].as_i64().unwrap(), sku: "chair".to_owned(), quantity: 3 }]);
    // Requests and attempts are told apart by their spans.
    service.logged("request{method=POST uri=/orders").await;
    service.logged("attempt{task=\"stock.take\"").await;
    service.logged("attempt{task=\"shipper.tell\"").await;
}

#[tokio::test]
async fn an_order_that_is_sent_again_is_the_same_order() {
    let Some(database) = Database::fresh("an order sent again").await else { return };
    let shipper = Shipper::reliable().await;
    let service = Service::start(&database, shipper.url(), &[]);
    let address = service.listening().await;

    let at_once: Vec<_> = (0..8)
        .map(|_| {
            let address = address.clone();
            tokio::spawn(async move { order(&address, "again", "chair", 2).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for sent in at_once {
        answers.push(sent.await.unwrap());
    }
    let ids: HashSet<String> = answers.iter().map(|(_, order)| order["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    let placed = answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count();
    let found = answers.iter().filter(|(status, _)| *status == StatusCode::OK).count();
    assert_eq!((placed, found), (1, 7), "{answers:?}");

    order_is(&address, &answers[0].1["id"], "shipped").await;
    let (status, refused) = order(&address, "again", "chair", 3).await.unwrap();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    database.wait_for_count(2, "consistency_task", "state = 2").await;
    assert_eq!(database.number("on_hand FROM stock WHERE sku = 'chair'").await, CHAIRS - 2);
    assert_eq!((database.count("orders", "true").await, shipper.told().len()), (1, 1));
}

#[tokio::test]
async fn what_is_sold_out_is_neither_taken_nor_shipped() {
    let Some(database) = Database::fresh("sold out").await else { return };
    let shipper = Shipper::reliable().await;
    let service = Service::start(&database, shipper.url(), &[]);
    let address = service.listening().await;

    let (status, placed) = order(&address, "too many", "table", 21).await.unwrap();
    assert_eq!(status, StatusCode::CREATED);
    order_is(&address, &placed["id"], "sold_out").await;
    assert_eq!(database.number("on_hand FROM stock WHERE sku = 'table'").await, 20);
    assert_eq!(database.count("consistency_task", "true").await, 1);
    assert_eq!(shipper.told(), []);
}

#[tokio::test]
async fn bad_input_is_refused_with_one_sentence_and_leaves_nothing() {
    let Some(database) = Database::fresh("bad input").await else { return };
    let shipper = Shipper::reliable().await;
    let service = Service::start(&database, shipper.url(), &[]);
    let address = service.listening().await;
    let refused = async |status: u16, key: &str, content: &str, body: String, sentence: &str| {
        let request = client().post(format!("{address}/orders")).header("Content-Type", content);
        let request = if key.is_empty() { request } else { request.header("Idempotency-Key", key) };
        assert_refused(answer(request.body(body.clone())).await.unwrap(), status, sentence, &body);
    };
    let wish = |sku: &str, quantity: Value| json!({ "sku": sku, "quantity": quantity }).to_string();
    let json = "application/json";

    let good = wish("chair", 1.into());
    refused(400, "", json, good.clone(), "the header Idempotency-Key is missing").await;
    refused(400, &"k".repeat(201), json, good.clone(), "not 1 to 200 ASCII characters long").await;
    refused(415, "k", "text/plain", good, "Content-Type: application/json").await;
    refused(400, "k", json, "{\"sku\": \"chair\",".to_owned(), "EOF").await;
    refused(422, "k", json, wish("chair", "two".into()), "quantity: invalid type: string \"two\"").await;
    refused(422, "k", json, json!({ "sku": "chair" }).to_string(), "missing field `quantity`").await;
    refused(422, "k", json, json!({ "sku": "chair", "quantity": 1, "gift": true }).to_string(), "`gift`").await;
    refused(422, "k", json, wish("chair", 0.into()), "quantity is 0, it must be 1 to 100").await;
    refused(422, "k", json, wish("chair", 101.into()), "quantity is 101, it must be 1 to 100").await;
    refused(422, "k", json, wish("", 1.into()), "sku must be 1 to 64 printable characters").await;
    refused(422, "k", json, wish("cha\0ir", 1.into()), "sku must be 1 to 64 printable characters").await;
    refused(422, "k", json, wish("throne", 1.into()), "there is no item `throne`").await;
    refused(413, "k", json, wish(&"x".repeat(5000), 1.into()), "length limit exceeded").await;

    let asked = async |path: &str| get(&address, path).await.unwrap();
    assert_refused(asked("/orders/7").await, 404, "there is no order 7", "");
    assert_refused(asked("/orders/seven").await, 400, "`seven`", "");
    assert_refused(asked("/cart").await, 404, "there is nothing at /cart", "");
    assert_refused(asked("/orders").await, 405, "/orders does not take GET", "");

    assert_eq!((database.count("orders", "true").await, database.count("consistency_task", "true").await), (0, 0));
}

/// The answer is an error of this status, with one line of JSON that contains `sentence`.
#[track_caller]
fn assert_refused((status, body): (StatusCode, Value), expected: u16, sentence: &str, sent: &str) {
    let said = body["error"].as_str().unwrap_or_default();
    assert!(
        status.as_u16() == expected && said.contains(sentence),
        "{sent}: {status} {body}, not {expected} {sentence}"
    );
    assert!(!said.contains('\n'), "{said}");
}

#[tokio::test]
async fn a_start_that_cannot_be_is_one_sentence_and_exit_code_2() {
    let nobody = "postgres://nobody@127.0.0.1:9/nothing";
    for (arguments, sentence) in [
        (vec!["--database-url", nobody], "the database does not answer"),
        (vec!["--database-url", "oracle://root@localhost/shop"], "is not understood"),
        (vec!["--database-url", nobody, "--shipper", "by post"], "the shipper `by post` is no address"),
        (vec!["--database-url", nobody, "--listen", "nowhere"], ""),
    ] {
        let ended = Service::with(&arguments).end().await;
        assert_eq!((ended.status.code(), ended.output.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.log);
        assert!(ended.log.contains(sentence), "{arguments:?}: {}", ended.log);
    }
}
