//! The program from outside: its exit codes, its complaints, a second start, and RabbitMQ in the carrier's place.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod program;

use std::collections::HashSet;
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use consistency_tests::for_each_database;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::{Connection, ConnectionProperties};

use crate::program::{Run, Stage, program};

/// Runs the program with `arguments`, which it must refuse with one sentence and exit code 2.
fn complaint(arguments: &[&str]) -> String {
    let mut command = program();
    command.args(arguments);
    let ended = Run::start(command, Path::new(".")).wait();
    assert_eq!((ended.status.code(), ended.output.as_str()), (Some(2), ""), "{}", ended.errors);
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    ended.errors
}

#[test]
fn bad_input_is_refused_with_one_sentence_and_exit_code_2() {
    let missing = complaint(&["--orders", "no-such-file.csv"]);
    assert!(missing.starts_with("warehouse: ") && missing.contains("no-such-file.csv"), "{missing}");
    let unknown = complaint(&["--database-url", "oracle://shop"]);
    assert!(unknown.contains("`oracle://shop` is none of sqlite://FILE, postgres://"), "{unknown}");
    let nowhere = complaint(&["--database-url", "sqlite:///no/such/folder/shop.db"]);
    assert!(nowhere.contains("/no/such/folder/shop.db"), "{nowhere}");
}

const AMQP_ORDERS: i64 = 25;

/// The broker's address, or `None` when none answers and none is required.
fn broker() -> Option<String> {
    let url =
        std::env::var("CONSISTENCY_TEST_AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672".to_owned());
    let address: lapin::uri::AMQPUri = url.parse().expect("CONSISTENCY_TEST_AMQP_URL is an AMQP address");
    match TcpStream::connect((address.authority.host.as_str(), address.authority.port)) {
        Ok(_) => Some(url),
        Err(reason) => {
            let required = std::env::var("CONSISTENCY_TEST_REQUIRE").unwrap_or_default();
            let is_required = required.split(',').map(str::trim).any(|name| name == "all" || name == "amqp");
            assert!(!is_required, "no RabbitMQ at {url}: {reason}, and CONSISTENCY_TEST_REQUIRE asks for it");
            eprintln!("SKIPPED: no RabbitMQ at {url}: {reason}");
            None
        }
    }
}

/// Takes the messages with these ids from the program's queue, and leaves all others in it.
async fn take_messages(url: &str, wanted: &HashSet<String>) -> Vec<(String, serde_json::Value)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut taken = Vec::new();
    while let Some(message) = channel.basic_get("warehouse.parcels".into(), BasicGetOptions::default()).await.unwrap() {
        let id = message.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        if wanted.contains(&id) {
            message.ack(BasicAckOptions::default()).await.unwrap();
            taken.push((id, serde_json::from_slice(&message.data).unwrap()));
        }
    }
    // What was not acknowledged goes back with the connection.
    connection.close(200, "done".into()).await.unwrap();
    taken
}

static BROKER: Mutex<()> = Mutex::new(());

for_each_database! {
    fn rabbitmq_takes_the_carriers_place(database: &consistency_tests::database::Database) {
        let Some(url) = broker() else { return };
        // One queue for all: two tests at once would hold one another's messages.
        let _alone = BROKER.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = Stage::with_orders(AMQP_ORDERS);
        let ended = stage.start(&database.url(), &["--amqp", &url]).wait();
        assert!(ended.status.success(), "{}: {}\n{}", ended.status, ended.errors, ended.output);
        assert_eq!(database.count("consistency_task", "state = 2"), 2 * AMQP_ORDERS);
        assert_eq!(database.count("customer_order", "state = 'finished'"), AMQP_ORDERS);

        let keys: HashSet<String> = database
            .rows("method_name = 'notify_carrier'")
            .into_iter()
            .map(|row| row.task_id)
            .collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let messages = runtime.block_on(take_messages(&url, &keys));
        let orders: HashSet<i64> = messages.iter().map(|(_, parcel)| parcel["order_no"].as_i64().unwrap()).collect();
        assert_eq!(orders, (1..=AMQP_ORDERS).collect());
        // Confirmed at the first attempt, so published once.
        if database.count("consistency_task", "execute_times > 1") == 0 {
            assert_eq!(messages.len(), keys.len());
        }
        assert_eq!(database.backend(), BACKEND);
    }
}
