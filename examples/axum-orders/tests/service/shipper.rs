//! The shipper of a test: it writes down who told it what, holds its answers if asked to, and may be unreliable.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::reached;

/// What the shipper was told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parcel {
    pub(crate) order_id: i64,
    pub(crate) sku: String,
    pub(crate) quantity: i32,
}

/// A shipper that listens. Gone with the test's runtime.
#[derive(Clone)]
pub(crate) struct Shipper {
    desk: Arc<Desk>,
    url: String,
}

struct Desk {
    /// Idempotency key and parcel of every visit that was written down.
    told: Mutex<Vec<(String, Parcel)>>,
    visits: watch::Sender<usize>,
    answers: watch::Sender<bool>,
    reliable: bool,
}

impl Shipper {
    /// One that always answers.
    pub(crate) async fn reliable() -> Self {
        Self::open(true, true).await
    }

    /// One that writes down what it is told and does not answer before [`answer`](Self::answer).
    pub(crate) async fn silent() -> Self {
        Self::open(false, true).await
    }

    /// One that answers every tenth visit with an error: by turns with the parcel written down and without.
    pub(crate) async fn unreliable() -> Self {
        Self::open(true, false).await
    }

    async fn open(answers: bool, reliable: bool) -> Self {
        let desk = Desk {
            told: Mutex::default(),
            visits: watch::Sender::new(0),
            answers: watch::Sender::new(answers),
            reliable,
        };
        let desk = Arc::new(desk);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/parcels", listener.local_addr().unwrap());
        let router = Router::new().route("/parcels", post(take)).with_state(Arc::clone(&desk));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { desk, url }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on it answers, also those who wait.
    pub(crate) fn answer(&self) {
        self.desk.answers.send_replace(true);
    }

    /// How many visits there were.
    pub(crate) fn visits(&self) -> &watch::Sender<usize> {
        &self.desk.visits
    }

    /// Waits until it has been told `count` times.
    pub(crate) async fn wait_for_visits(&self, count: usize) {
        reached("visits to the shipper", &self.desk.visits, count).await;
    }

    /// Idempotency key and parcel of every visit that was written down.
    pub(crate) fn told(&self) -> Vec<(String, Parcel)> {
        self.desk.told().clone()
    }
}

impl Desk {
    fn told(&self) -> MutexGuard<'_, Vec<(String, Parcel)>> {
        self.told.lock().unwrap()
    }
}

async fn take(State(desk): State<Arc<Desk>>, headers: HeaderMap, Json(parcel): Json<Parcel>) -> StatusCode {
    let Some(key) = headers.get("Idempotency-Key") else { return StatusCode::BAD_REQUEST };
    let mut fails = false;
    // Whoever waits for the visit finds the parcel written down.
    desk.visits.send_modify(|visits| {
        *visits += 1;
        fails = !desk.reliable && *visits % 10 == 0;
        if !fails || *visits % 20 == 0 {
            desk.told().push((key.to_str().unwrap().to_owned(), parcel));
        }
    });
    desk.answers.subscribe().wait_for(|answers| *answers).await.unwrap();
    if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
}
