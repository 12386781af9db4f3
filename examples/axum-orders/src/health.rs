//! Whether this process lives, and whether it may be sent requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use consistency_diesel::core::event::Event;
use serde::Serialize;
use tokio::time::timeout;

use crate::app::App;

/// A database that takes longer to answer is no help to a request.
const DATABASE_ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What decides, beside the database, whether this process may be sent requests.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    outbox_runs: AtomicBool,
    leaving: AtomicBool,
}

impl Readiness {
    /// Hears what the outbox reports.
    pub(crate) fn observe(&self, event: &Event) {
        match event {
            Event::Started { .. } => self.outbox_runs.store(true, Ordering::Release),
            Event::Stopped { .. } => self.outbox_runs.store(false, Ordering::Release),
            _ => {}
        }
    }

    /// From now on this process wants no more requests.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }
}

/// What `GET /health` shows.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    database_answers: bool,
    outbox_runs: bool,
    shutting_down: bool,
}

/// `GET /health`, for load balancers: 200 if this process may be sent requests, else 503.
pub(crate) async fn ready(State(app): State<App>) -> (StatusCode, Json<Report>) {
    let report = Report {
        // The pool asks the database before it gives a connection.
        database_answers: matches!(timeout(DATABASE_ANSWERS_WITHIN, app.connections.get()).await, Ok(Ok(_))),
        outbox_runs: app.readiness.outbox_runs.load(Ordering::Acquire),
        shutting_down: app.readiness.leaving.load(Ordering::Acquire),
    };
    let is_ready = report.database_answers && report.outbox_runs && !report.shutting_down;
    (if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(report))
}

/// `GET /health/live`, for supervisors: this process answers. It asks nobody else, for a restart would not mend a database.
pub(crate) async fn live() -> &'static str {
    "alive"
}
