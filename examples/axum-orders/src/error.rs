//! Why a request is answered with an error: one sentence for the client, the whole story for the log.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use consistency_diesel::error::TransactionError;
use diesel::result::Error;
use diesel_async::pooled_connection::deadpool::PoolError;
use serde::Serialize;

/// Why a request is answered with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// The request makes no sense.
    #[error("{1}")]
    Refused(StatusCode, String),
    /// There is no such order.
    #[error("there is no order {0}")]
    NoOrder(i64),
    /// There is no such item.
    #[error("there is no item `{0}`")]
    NoItem(String),
    /// The client used its key for two different orders.
    #[error("this Idempotency-Key belongs to another order: choose a new one")]
    KeyOfAnotherOrder,
    /// The request was given up; its transaction is rolled back.
    #[error("the request took too long")]
    TookTooLong,
    /// The pool has no connection to give.
    #[error("no connection to the database: {0}")]
    Pool(#[from] PoolError),
    /// The database, or the outbox, which speaks through its errors.
    #[error("the database: {0}")]
    Database(#[from] Error),
}

/// What a client can do about it, whether or not its order was stored.
const TRY_AGAIN: &str = "the service cannot answer now: send the request again, with the same Idempotency-Key";

impl AppError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(status, _) => *status,
            Self::NoOrder(_) => StatusCode::NOT_FOUND,
            Self::NoItem(_) | Self::KeyOfAnotherOrder => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TookTooLong | Self::Pool(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(Error::DatabaseError(..) | Error::BrokenTransactionManager) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            // Also when nobody knows whether COMMIT was carried out: the key makes the repetition safe.
            Self::Database(error) if TransactionError::of(error).is_some() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let status = self.status();
        let sentence = match status {
            StatusCode::SERVICE_UNAVAILABLE => TRY_AGAIN.to_owned(),
            _ if status.is_server_error() => "the service has made a mistake".to_owned(),
            _ => self.to_string(),
        };
        if status.is_server_error() {
            tracing::error!(error = %self, %status, "the request failed");
        }
        let mut response = (status, Json(Body { error: sentence })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The body of every answer that is an error.
#[derive(Serialize)]
struct Body {
    error: String,
}

impl From<JsonRejection> for AppError {
    fn from(rejection: JsonRejection) -> Self {
        Self::Refused(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for AppError {
    fn from(rejection: PathRejection) -> Self {
        Self::Refused(rejection.status(), rejection.body_text())
    }
}
