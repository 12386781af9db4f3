//! Whatever an annotated function returns, as success or [`TaskError`]: chosen at compile time, in generated code.
//!
//! Stable Rust has no specialization; method lookup by auto-reference gives the same choice for concrete types. Generated
//! code calls `(&&&&&Returned::new(value)).into_outcome()`: the implementation with the most references wins.

#![allow(
    clippy::wrong_self_convention,
    reason = "the method must be found by reference; it takes the value out of its cell"
)]

use std::cell::RefCell;
use std::error::Error as StdError;
use std::fmt::Display;

use crate::error::TaskError;

/// Holds a body's return value while the fitting conversion is looked up.
#[derive(Debug)]
pub struct Returned<T>(RefCell<Option<T>>);

impl<T> Returned<T> {
    /// Holds `value`.
    pub fn new(value: T) -> Self {
        Self(RefCell::new(Some(value)))
    }
}

fn convert<T, E>(returned: &Returned<Result<T, E>>, error: impl FnOnce(E) -> TaskError) -> Result<(), TaskError> {
    match returned.0.borrow_mut().take() {
        Some(Ok(_)) | None => Ok(()),
        Some(Err(e)) => Err(error(e)),
    }
}

/// `()`, for bodies that cannot fail, and `Result<_, TaskError>`.
pub trait Plain {
    /// Converts.
    fn into_outcome(&self) -> Result<(), TaskError>;
}

impl Plain for &&&&Returned<()> {
    fn into_outcome(&self) -> Result<(), TaskError> {
        Ok(())
    }
}

impl<T> Plain for &&&&Returned<Result<T, TaskError>> {
    fn into_outcome(&self) -> Result<(), TaskError> {
        convert(self, |error| error)
    }
}

/// Errors that convert into a boxed error: own types, `anyhow::Error`, `eyre::Report`, `Box<dyn Error>`, `String`.
pub trait Boxed {
    /// Converts.
    fn into_outcome(&self) -> Result<(), TaskError>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Boxed for &&&Returned<Result<T, E>> {
    fn into_outcome(&self) -> Result<(), TaskError> {
        convert(self, |error| TaskError::from_error(&*error.into()))
    }
}

/// Errors that convert into a boxed error that cannot leave its thread.
pub trait LocalBoxed {
    /// Converts.
    fn into_outcome(&self) -> Result<(), TaskError>;
}

impl<T, E: Into<Box<dyn StdError>>> LocalBoxed for &&Returned<Result<T, E>> {
    fn into_outcome(&self) -> Result<(), TaskError> {
        convert(self, |error| TaskError::from_error(&*error.into()))
    }
}

/// Errors that can at least be shown.
pub trait Shown {
    /// Converts.
    fn into_outcome(&self) -> Result<(), TaskError>;
}

impl<T, E: Display> Shown for &Returned<Result<T, E>> {
    fn into_outcome(&self) -> Result<(), TaskError> {
        convert(self, TaskError::message)
    }
}

/// Implemented for nothing: the message for a body whose return type fits none of the above.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "this is no outcome of a task",
    note = "return `()`, or `Result<_, E>` where `E` is an error, a boxed error, `anyhow::Error`, a `String`, or anything with `Display`"
)]
pub trait TaskReturn {}

/// Every other return type: compiles only as far as the message of [`TaskReturn`].
pub trait Unfit<T> {
    /// Never compiles.
    fn into_outcome(&self) -> Result<(), TaskError>
    where
        T: TaskReturn;
}

// Without a reference of its own, so that the lookup comes here last.
impl<T> Unfit<T> for Returned<T> {
    fn into_outcome(&self) -> Result<(), TaskError>
    where
        T: TaskReturn,
    {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_borrow, reason = "the references choose the conversion")]

    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Shy;
    impl fmt::Display for Shy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("only shown")
        }
    }

    #[test]
    fn every_reasonable_return_type_is_understood() {
        assert!((&&&&&Returned::new(())).into_outcome().is_ok());
        assert!((&&&&&Returned::new(Ok::<(), Shy>(()))).into_outcome().is_ok());
        let own = (&&&&&Returned::new(Err::<u8, _>(TaskError::permanent("over")))).into_outcome();
        assert_eq!(own.unwrap_err().verdict(), crate::error::Verdict::Permanent);
        assert_eq!((&&&&&Returned::new(Err::<(), _>(Shy))).into_outcome().unwrap_err().text(), "only shown");
        assert_eq!((&&&&&Returned::new(Err::<(), _>("text".to_string()))).into_outcome().unwrap_err().text(), "text");
        let local: Box<dyn StdError> = Box::from("local");
        assert_eq!((&&&&&Returned::new(Err::<(), _>(local))).into_outcome().unwrap_err().text(), "local");
        let io = std::io::Error::other(std::io::Error::other("inner"));
        assert!((&&&&&Returned::new(Err::<(), _>(io))).into_outcome().unwrap_err().text().contains("inner"));
    }
}
