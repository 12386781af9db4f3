//! Kills the service at twelve random moments under load and starts it again each time: no order is lost, none is done twice.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod service;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Text};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::service::database::Database;
use crate::service::process::Service;
use crate::service::shipper::{Parcel, Shipper};
use crate::service::{DEADLINE, SHORT_LEASE, order, reached};

const KILLS: usize = 12;
const CLIENTS: usize = 8;
/// Enough for all orders of the test.
const STOCK: i64 = 1_000_000;
const ITEMS: [&str; 3] = ["bolt", "nut", "washer"];
/// A kill falls after at most so many acknowledgements, or visits to the shipper, since the start.
const LATEST_KILL: usize = 150;
/// A kill during the start falls at most so late after it.
const LATEST_EARLY_KILL_MS: u64 = 300;

/// An order as the table has it.
#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    idempotency_key: String,
    #[diesel(sql_type = Text)]
    sku: String,
    #[diesel(sql_type = Integer)]
    quantity: i32,
    #[diesel(sql_type = Text)]
    state: String,
}

/// The clients of the shop: each sends one order after the other, and each order until it is acknowledged.
struct Clients {
    /// Where the service listens, while it does.
    address: watch::Sender<Option<String>>,
    acknowledged: watch::Sender<usize>,
    /// No more new orders.
    enough: AtomicBool,
}

impl Clients {
    /// Orders until there are enough; gives key and id of every order, all of them acknowledged.
    async fn keep_ordering(self: Arc<Self>, client: usize) -> Vec<(String, i64)> {
        let mut acknowledged = Vec::new();
        while !self.enough.load(Ordering::Acquire) {
            let number = acknowledged.len();
            let key = format!("client {client}, order {number}");
            let id = self.order_until_acknowledged(&key, number).await;
            acknowledged.push((key, id));
            self.acknowledged.send_modify(|count| *count += 1);
        }
        acknowledged
    }

    async fn order_until_acknowledged(&self, key: &str, number: usize) -> i64 {
        let (sku, quantity) = wish(number);
        loop {
            let mut address = self.address.subscribe();
            let address =
                timeout(DEADLINE, address.wait_for(Option::is_some)).await.expect("a service").unwrap().clone();
            match order(&address.unwrap(), key, sku, quantity).await {
                Ok((StatusCode::CREATED | StatusCode::OK, order)) => return order["id"].as_i64().unwrap(),
                Ok((StatusCode::SERVICE_UNAVAILABLE, _)) | Err(_) => tokio::task::yield_now().await,
                Ok(unexpected) => panic!("{key}: {unexpected:?}"),
            }
        }
    }
}

/// What a client wants in its order of this number.
fn wish(number: usize) -> (&'static str, i32) {
    (ITEMS[number % ITEMS.len()], 1 + i32::try_from(number % 5).unwrap())
}

/// The seed of the moments: `CONSISTENCY_TEST_SEED`, or a new one.
fn seed() -> u64 {
    let given = std::env::var("CONSISTENCY_TEST_SEED").ok();
    given.map_or_else(rand::random, |text| text.parse().expect("CONSISTENCY_TEST_SEED is a number"))
}

/// Starts the service and kills it at a random moment.
async fn start_and_kill(database: &Database, shipper: &Shipper, clients: &Clients, random: &mut StdRng) {
    let service = Service::start(database, shipper.url(), &SHORT_LEASE);
    if random.random_bool(0.2) {
        let moment = Duration::from_millis(random.random_range(0..=LATEST_EARLY_KILL_MS));
        // Whether it listens by then or not.
        let _ = timeout(moment, service.listening()).await;
    } else {
        clients.address.send_replace(Some(service.listening().await));
        let (what, counter) = match random.random_bool(0.5) {
            true => ("acknowledgements", &clients.acknowledged),
            false => ("visits to the shipper", shipper.visits()),
        };
        let goal = *counter.borrow() + random.random_range(1..=LATEST_KILL);
        reached(what, counter, goal).await;
    }
    service.kill().await;
    clients.address.send_replace(None);
}

#[tokio::test]
async fn twelve_kills_at_random_moments_under_load_lose_nothing_and_double_nothing() {
    let Some(database) = Database::fresh("kills under load").await else { return };
    let seed = seed();
    println!("CONSISTENCY_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let shipper = Shipper::unreliable().await;
    let service = Service::start(&database, shipper.url(), &SHORT_LEASE);
    service.listening().await;
    for item in ITEMS {
        database.execute(&format!("INSERT INTO stock (sku, on_hand) VALUES ('{item}', {STOCK})")).await;
    }
    service.kill().await;

    let clients = Arc::new(Clients {
        address: watch::Sender::new(None),
        acknowledged: watch::Sender::new(0),
        enough: AtomicBool::new(false),
    });
    let mut ordering: JoinSet<_> = (0..CLIENTS).map(|client| Arc::clone(&clients).keep_ordering(client)).collect();
    let mut running_at_kill = Vec::new();
    for _ in 1..=KILLS {
        start_and_kill(&database, &shipper, &clients, &mut random).await;
        running_at_kill.push(database.count("consistency_task", "state = 1").await);
    }
    println!("orders at the last kill: {}; tasks running at each: {running_at_kill:?}", *clients.acknowledged.borrow());
    assert!(running_at_kill.iter().any(|running| *running > 0), "the kills fell into the work");

    clients.enough.store(true, Ordering::Release);
    let service = Service::start(&database, shipper.url(), &SHORT_LEASE);
    clients.address.send_replace(Some(service.listening().await));
    let mut acknowledged = HashMap::new();
    while let Some(orders) = timeout(DEADLINE, ordering.join_next()).await.expect("every order is acknowledged") {
        acknowledged.extend(orders.unwrap());
    }
    database.wait_for_count(0, "consistency_task", "state NOT IN (2, 4)").await;
    assert_everything_happened_once(&database, &shipper, &acknowledged).await;
}

/// Every acknowledged order, and no other, is stored, taken from stock and shipped: once each.
async fn assert_everything_happened_once(database: &Database, shipper: &Shipper, acknowledged: &HashMap<String, i64>) {
    let dead = database.count("consistency_task", "state = 4").await;
    assert_eq!(dead, 0, "tasks are dead");
    let stored: Vec<Stored> = database.rows("SELECT id, idempotency_key, sku, quantity, state FROM orders").await;
    let by_key: HashMap<String, i64> = stored.iter().map(|order| (order.idempotency_key.clone(), order.id)).collect();
    assert!(by_key == *acknowledged && stored.len() == by_key.len(), "what is stored is not what was acknowledged");
    for order in &stored {
        assert_eq!(order.state, "shipped", "order {}", order.id);
    }
    assert_eq!(database.count("consistency_task", "state = 2").await, 2 * i64::try_from(stored.len()).unwrap());
    for item in ITEMS {
        let ordered: i64 = stored.iter().filter(|order| order.sku == item).map(|order| i64::from(order.quantity)).sum();
        assert_eq!(database.number(&format!("on_hand FROM stock WHERE sku = '{item}'")).await, STOCK - ordered);
    }

    // The shipper may be told again, but always with the key it knows.
    let told = shipper.told();
    let distinct: HashSet<&(String, Parcel)> = told.iter().collect();
    let keys: HashSet<&str> = told.iter().map(|(key, _)| key.as_str()).collect();
    let parcels: HashSet<Parcel> = told.iter().map(|(_, parcel)| parcel.clone()).collect();
    let ordered =
        stored.iter().map(|order| Parcel { order_id: order.id, sku: order.sku.clone(), quantity: order.quantity });
    assert!(parcels == ordered.collect(), "what the shipper knows is not what was ordered");
    assert_eq!(
        (distinct.len(), keys.len()),
        (stored.len(), stored.len()),
        "a parcel has two keys, or a key two parcels"
    );
    println!("{} orders, {} parcels told to the shipper", stored.len(), told.len());
}
