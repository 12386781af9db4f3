//! What handlers take from a request, refused with this service's own errors.

use axum::extract::{FromRequest, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::error::AppError;
use crate::shipper::IDEMPOTENCY_KEY;

/// The longest key a client may choose.
const KEY_MAX: usize = 200;

/// A JSON body.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(AppError))]
pub(crate) struct Json<T>(pub(crate) T);

/// The variable parts of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(AppError))]
pub(crate) struct Path<T>(pub(crate) T);

/// The header `Idempotency-Key`: the client chooses it, and sends the same one when it repeats a request.
pub(crate) struct IdempotencyKey(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AppError> {
        let key = parts.headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if (1..=KEY_MAX).contains(&key.len()) {
            return Ok(Self(key.to_owned()));
        }
        let sentence = format!("the header Idempotency-Key is missing or not 1 to {KEY_MAX} ASCII characters long");
        Err(AppError::Refused(StatusCode::BAD_REQUEST, sentence))
    }
}
