//! A stand-in for the shipper, within this service, so that one command shows everything.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

use crate::shipper::IDEMPOTENCY_KEY;

/// Where it listens.
pub(crate) const PATH: &str = "/stand-in-shipper";

/// The keys of the parcels it has taken. A shipper would keep them in a database.
type Known = Arc<Mutex<HashSet<String>>>;

/// The stand-in's route.
pub(crate) fn router() -> Router {
    Router::new().route(PATH, post(take)).with_state(Known::default())
}

/// Takes a parcel; one it has taken before is not taken twice.
async fn take(State(known): State<Known>, headers: HeaderMap, parcel: String) -> StatusCode {
    let Some(key) = headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()) else {
        return StatusCode::BAD_REQUEST;
    };
    let is_new = known.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
    tracing::info!(key, parcel, is_new, "the stand-in shipper was told");
    StatusCode::NO_CONTENT
}
