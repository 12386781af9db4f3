//! The database goes away and comes back: the service says so, and nothing that was acknowledged is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod service;

use reqwest::StatusCode;
use serde_json::json;

use crate::service::database::Database;
use crate::service::process::Service;
use crate::service::shipper::Shipper;
use crate::service::{get, order, order_is, until};

#[tokio::test]
async fn readiness_follows_the_database_and_orders_outlive_its_absence() {
    let Some(database) = Database::fresh("the database goes away").await else { return };
    let shipper = Shipper::silent().await;
    let service = Service::start(&database, shipper.url(), &["--lease-secs", "2"]);
    let address = service.listening().await;
    assert_eq!(get(&address, "/health").await.unwrap().0, StatusCode::OK);
    let (_, before) = order(&address, "before", "chair", 1).await.unwrap();
    shipper.wait_for_visits(1).await;

    let name = database.name();
    database.administer(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")).await;
    database
        .administer(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
        .await;
    let health = || get(&address, "/health");
    let away = until("/health to say 503", health, |answer| answer.as_ref().is_ok_and(|(status, _)| *status != 200));
    let (status, report) = away.await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(report, json!({ "database_answers": false, "outbox_runs": true, "shutting_down": false }));
    assert_eq!(get(&address, "/health/live").await.unwrap().0, StatusCode::OK, "a restart would not mend the database");
    let (status, refused) = order(&address, "during", "chair", 1).await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("with the same Idempotency-Key"), "{refused}");
    // The order from before is shipped while its outcome cannot be written.
    shipper.answer();

    database.administer(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")).await;
    let back = until("/health to say 200", health, |answer| answer.as_ref().is_ok_and(|(status, _)| *status == 200));
    back.await.unwrap();
    let (status, during) = order(&address, "during", "chair", 1).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{during}");
    for placed in [before, during] {
        order_is(&address, &placed["id"], "shipped").await;
    }
    assert_eq!(database.number("on_hand FROM stock WHERE sku = 'chair'").await, 98);
}
