//! Binds a `#[tx]` parameter in generated code, without a second complaint about a type that is no transaction.
//!
//! The definition of the task asks for [`TransactionParameter`] on the user's own tokens; this compiles for any type, as
//! explained in [`crate::storage_probe`].

use std::any::type_name;
use std::marker::PhantomData;

use crate::error::TaskError;
use crate::task::{TransactionIn, TransactionParameter, TxParts};

/// The transaction a body wants. Used as `(&&WantedTransaction::<T>::new()).bind(parts)`.
#[derive(Debug)]
pub struct WantedTransaction<T>(PhantomData<fn() -> T>);

impl<T> WantedTransaction<T> {
    /// Wants a `T`.
    #[expect(clippy::new_without_default, reason = "generated code alone makes these")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// The half of [`WantedTransaction`] for transactions.
pub trait BindTransaction<T: TransactionParameter> {
    /// Has the compiler check that functions of this `World` can take it. It is named once more, as `Written`, so that the
    /// complaint points at the user's own words.
    fn fits<World, Written>(&self)
    where
        Written: TransactionIn<World>,
    {
    }

    /// As [`TransactionParameter::bind`].
    ///
    /// # Errors
    /// A permanent error that names both types when the open transaction is of another connection type; `start()` has
    /// already refused such a task.
    fn bind<'a>(&self, parts: TxParts<'a>) -> Result<T::Bound<'a>, TaskError>;
}

impl<T: TransactionParameter> BindTransaction<T> for &WantedTransaction<T> {
    fn bind<'a>(&self, parts: TxParts<'a>) -> Result<T::Bound<'a>, TaskError> {
        T::bind(parts).ok_or_else(|| {
            TaskError::permanent(format!(
                "the task takes a transaction on `{}`, but this outbox runs on another connection type",
                type_name::<T::Connection>()
            ))
        })
    }
}

/// The half of [`WantedTransaction`] that is never reached: the program is refused by the task's definition.
pub trait BindOther<T> {
    /// Checks nothing.
    fn fits<World, Written>(&self) {}

    /// Never gives a value.
    ///
    /// # Errors
    /// Always.
    fn bind(&self, parts: TxParts<'_>) -> Result<T, TaskError>;
}

impl<T> BindOther<T> for WantedTransaction<T> {
    fn bind(&self, _: TxParts<'_>) -> Result<T, TaskError> {
        Err(TaskError::permanent(format!("`{}` is no transaction", type_name::<T>())))
    }
}
