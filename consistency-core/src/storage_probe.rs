//! Encodes and decodes one argument in generated code, without a second complaint about a type that cannot be stored.
//!
//! Generated code asks for [`Storable`](crate::arguments::Storable) once, on the user's own tokens. Everything else goes
//! through these probes, which compile for any type: method lookup takes the fitting half while there is one, and the
//! other half only where the program is refused anyway. So one unstorable parameter yields one error.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::{ArgumentDecoder, ArgumentEncoder};
use crate::error::TaskError;

/// An argument as the caller gave it. Used as `(&&Given(&value)).encode(..)`.
#[derive(Debug)]
pub struct Given<'a, T: ?Sized>(pub &'a T);

/// The half of [`Given`] for types that serialize.
pub trait EncodeStorable {
    /// Adds the argument to the call.
    fn encode(&self, encoder: &mut ArgumentEncoder, parameter: &'static str);
}

impl<T: Serialize + ?Sized> EncodeStorable for &Given<'_, T> {
    fn encode(&self, encoder: &mut ArgumentEncoder, parameter: &'static str) {
        encoder.argument(parameter, self.0);
    }
}

/// The half of [`Given`] that is never reached: the program is refused by the `Storable` bound.
pub trait EncodeUnstorable {
    /// Does nothing.
    fn encode(&self, encoder: &mut ArgumentEncoder, parameter: &'static str);
}

impl<T: ?Sized> EncodeUnstorable for Given<'_, T> {
    fn encode(&self, _: &mut ArgumentEncoder, _: &'static str) {}
}

/// An argument the body wants. Used as `(&&Wanted::<T>::new()).decode(..)`.
#[derive(Debug)]
pub struct Wanted<T>(PhantomData<fn() -> T>);

impl<T> Wanted<T> {
    /// Wants a `T`.
    #[expect(clippy::new_without_default, reason = "generated code alone makes these")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// The half of [`Wanted`] for types that deserialize.
pub trait DecodeStorable<T> {
    /// As [`ArgumentDecoder::take`].
    ///
    /// # Errors
    /// As [`ArgumentDecoder::take`].
    fn decode(&self, decoder: &mut ArgumentDecoder<'_>, parameter: &str) -> Result<T, TaskError>;

    /// As [`ArgumentDecoder::take_or_default`].
    ///
    /// # Errors
    /// As [`ArgumentDecoder::take_or_default`].
    fn decode_or_default(&self, decoder: &mut ArgumentDecoder<'_>, parameter: &str) -> Result<T, TaskError>
    where
        T: Default;
}

impl<T: DeserializeOwned> DecodeStorable<T> for &Wanted<T> {
    fn decode(&self, decoder: &mut ArgumentDecoder<'_>, parameter: &str) -> Result<T, TaskError> {
        decoder.take(parameter)
    }

    fn decode_or_default(&self, decoder: &mut ArgumentDecoder<'_>, parameter: &str) -> Result<T, TaskError>
    where
        T: Default,
    {
        decoder.take_or_default(parameter)
    }
}

/// The half of [`Wanted`] that is never reached: the program is refused by the `Storable` bound.
pub trait DecodeUnstorable<T> {
    /// Never gives a value.
    ///
    /// # Errors
    /// Always.
    fn decode(&self, decoder: &mut ArgumentDecoder<'_>, parameter: &str) -> Result<T, TaskError>;

    /// Never gives a value.
    ///
    /// # Errors
    /// Always.
    fn decode_or_default(&self, decoder: &mut ArgumentDecoder<'_>, parameter: &str) -> Result<T, TaskError>
    where
        T: Default;
}

impl<T> DecodeUnstorable<T> for Wanted<T> {
    fn decode(&self, _: &mut ArgumentDecoder<'_>, parameter: &str) -> Result<T, TaskError> {
        Err(unstorable(parameter))
    }

    fn decode_or_default(&self, _: &mut ArgumentDecoder<'_>, parameter: &str) -> Result<T, TaskError>
    where
        T: Default,
    {
        Err(unstorable(parameter))
    }
}

fn unstorable(parameter: &str) -> TaskError {
    TaskError::permanent(format!("parameter `{parameter}` is of a type that cannot be stored"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_borrow, reason = "the references choose the conversion")]

    use super::*;

    struct Opaque;

    #[test]
    fn storable_types_go_through_and_others_only_compile() {
        let mut decoder = ArgumentDecoder::new(r#"{"a":7}"#).unwrap();
        assert_eq!((&&Wanted::<i64>::new()).decode(&mut decoder, "a").unwrap(), 7);
        assert_eq!((&&Wanted::<u8>::new()).decode_or_default(&mut decoder, "b").unwrap(), 0);
        assert!((&&Wanted::<Opaque>::new()).decode(&mut decoder, "c").is_err());
    }
}
