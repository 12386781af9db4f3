//! Why the service refuses.

use diesel::result::{DatabaseErrorKind, Error};

/// Why a booking or a departure was refused. Nothing is stored then, and no task either.
#[derive(Debug, thiserror::Error)]
pub enum BookingError {
    /// Somebody sleeps there.
    #[error("the room is taken that night")]
    Taken,
    /// Nobody does.
    #[error("nobody who could leave has booked that room for that night")]
    NotBooked,
    /// The database.
    #[error(transparent)]
    Database(Error),
}

impl From<Error> for BookingError {
    fn from(error: Error) -> Self {
        match error {
            Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => BookingError::Taken,
            error => BookingError::Database(error),
        }
    }
}
