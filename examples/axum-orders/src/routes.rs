//! The routes, and what is true of every request: a span, a time limit, a largest size, an error in one sentence.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::time::timeout;
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};
use tracing::Level;

use crate::app::App;
use crate::error::AppError;
use crate::{health, orders, stand_in};

/// The longest a request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The largest body, in bytes. An order is small.
const BODY_MAX: usize = 4 << 10;

/// All routes, with the stand-in for the shipper if there is no other.
pub(crate) fn router(app: App, with_stand_in: bool) -> Router {
    let own = Router::new()
        .route("/orders", post(orders::place))
        .route("/orders/{id}", get(orders::show))
        .route("/health", get(health::ready))
        .route("/health/live", get(health::live))
        .with_state(app);
    let all = if with_stand_in { own.merge(stand_in::router()) } else { own };
    let spans = TraceLayer::new_for_http()
        .make_span_with(DefaultMakeSpan::new().level(Level::INFO))
        .on_response(DefaultOnResponse::new().level(Level::INFO));
    all.fallback(async |uri: Uri| refused(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path())))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            refused(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn(give_up_in_time))
        .layer(spans)
}

fn refused(status: StatusCode, sentence: String) -> AppError {
    AppError::Refused(status, sentence)
}

/// Ends a request that takes too long. Its transaction ends with it: a connection with one open does not go back to the pool.
async fn give_up_in_time(request: Request, next: Next) -> Result<Response, AppError> {
    timeout(REQUEST_LIMIT, next.run(request)).await.map_err(|_| AppError::TookTooLong)
}
