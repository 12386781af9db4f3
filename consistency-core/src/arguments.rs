//! Arguments on their way into the row and back: a JSON object keyed by parameter name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::call::Call;
use crate::error::{EnqueueError, TaskError};
use crate::task::TaskDefinition;

/// A type whose values can be stored as a task argument: it serializes and deserializes with serde.
///
/// Implemented for every such type; the trait exists so that the compiler's message can say what to do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored as a task argument",
    label = "this parameter is stored in the table",
    note = "if this is application state, mark the parameter `#[inject]`; else derive `serde::Serialize` and `serde::Deserialize` for `{Self}`"
)]
pub trait Storable: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Storable for T {}

/// Collects the arguments of one call; the first error is kept and reported when the call is enqueued.
pub struct ArgumentEncoder {
    definition: &'static TaskDefinition,
    json: String,
    largest: (&'static str, usize),
    error: Option<EnqueueError>,
}

impl ArgumentEncoder {
    /// Starts the arguments of a call of `definition`.
    pub fn new(definition: &'static TaskDefinition) -> Self {
        Self { definition, json: String::from("{"), largest: ("", 0), error: None }
    }

    /// Adds the argument `value` of `parameter`.
    pub fn argument<T: Serialize + ?Sized>(&mut self, parameter: &'static str, value: &T) {
        if self.error.is_some() {
            return;
        }
        match serde_json::to_string(value) {
            Ok(text) => {
                if text.len() > self.largest.1 {
                    self.largest = (parameter, text.len());
                }
                if self.json.len() > 1 {
                    self.json.push(',');
                }
                self.json.push('"');
                self.json.push_str(parameter);
                self.json.push_str("\":");
                self.json.push_str(&text);
            }
            Err(error) => {
                let reason = if self.definition.sensitive.contains(&parameter) {
                    "the serializer's reason may quote it, and the parameter is sensitive".to_owned()
                } else {
                    error.to_string()
                };
                self.error = Some(EnqueueError::Unserializable { task: self.definition.name, parameter, reason });
            }
        }
    }

    /// The finished call.
    pub fn into_call(mut self) -> Call {
        self.json.push('}');
        let arguments = match self.error {
            Some(error) => Err(error),
            None => Ok(self.json),
        };
        Call::new(self.definition, arguments, self.largest)
    }
}

impl fmt::Debug for ArgumentEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArgumentEncoder({})", self.definition.name)
    }
}

/// Takes the stored arguments of one row apart again.
pub struct ArgumentDecoder<'a> {
    fields: BTreeMap<String, &'a RawValue>,
    sensitive: &'a [&'a str],
}

impl fmt::Debug for ArgumentDecoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArgumentDecoder({:?})", self.fields.keys())
    }
}

#[derive(Deserialize)]
struct Fields<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);

/// The stored text of every argument, by parameter name.
///
/// # Errors
/// When the text is no JSON object; the message may quote it.
pub(crate) fn fields(stored: &str) -> serde_json::Result<BTreeMap<String, &RawValue>> {
    serde_json::from_str::<Fields<'_>>(stored).map(|Fields(fields)| fields)
}

impl<'a> ArgumentDecoder<'a> {
    /// Reads the stored text.
    ///
    /// # Errors
    /// A permanent error when it is no JSON object.
    pub fn new(stored: &'a str) -> Result<Self, TaskError> {
        Self::guarding(stored, &[])
    }

    /// As [`new`](Self::new), for a task whose parameters `sensitive` no error may quote.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn guarding(stored: &'a str, sensitive: &'a [&'a str]) -> Result<Self, TaskError> {
        match fields(stored) {
            Ok(fields) => Ok(Self { fields, sensitive }),
            // Nobody knows what is whose in it.
            Err(_) if !sensitive.is_empty() => {
                Err(undecodable("`task_parameter` is not a JSON object: a parameter is sensitive, so it is not quoted"))
            }
            Err(error) => Err(undecodable(&format!("`task_parameter` is not a JSON object: {error}"))),
        }
    }

    /// Takes the argument of `parameter`; an absent one is read as `null`, so that `Option` parameters may be added.
    ///
    /// # Errors
    /// A permanent error naming the parameter when it is absent or of another type. That of a sensitive one names the type that
    /// was expected and quotes nothing.
    pub fn take<T: DeserializeOwned>(&mut self, parameter: &str) -> Result<T, TaskError> {
        match self.fields.remove(parameter) {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|error| {
                if self.sensitive.contains(&parameter) {
                    let expected = std::any::type_name::<T>();
                    undecodable(&format!(
                        "parameter `{parameter}`: expected {expected}; it is sensitive, so it is not quoted"
                    ))
                } else {
                    undecodable(&format!("parameter `{parameter}`: {error}"))
                }
            }),
            None => {
                serde_json::from_str("null").map_err(|_| undecodable(&format!("parameter `{parameter}` is missing")))
            }
        }
    }

    /// Takes the argument of a `#[default]` parameter; an absent one is `T::default()`.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_or_default<T: DeserializeOwned + Default>(&mut self, parameter: &str) -> Result<T, TaskError> {
        if self.fields.contains_key(parameter) { self.take(parameter) } else { Ok(T::default()) }
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// A field this build does not know means that a newer build wrote the row: the error asks to put it back without an
    /// attempt, so that a newer process can take it.
    pub fn finish(self) -> Result<(), TaskError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(TaskError::deferred(format!(
                "parameter `{unknown}` is not known to this build: the row was stored by a newer one and waits for it"
            ))),
        }
    }
}

fn undecodable(reason: &str) -> TaskError {
    TaskError::permanent(format!(
        "the stored arguments cannot be decoded: {reason}; correct `task_parameter`, then retry the row as the README shows"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_defaults_may_be_absent_but_nothing_else() {
        let mut decoder = ArgumentDecoder::new(r#"{"a":1}"#).unwrap();
        assert_eq!(decoder.take::<i64>("a").unwrap(), 1);
        assert_eq!(decoder.take::<Option<String>>("b").unwrap(), None);
        assert_eq!(decoder.take_or_default::<u8>("c").unwrap(), 0);
        assert!(decoder.take::<u8>("d").unwrap_err().text().contains("parameter `d` is missing"));
        decoder.finish().unwrap();
    }

    #[test]
    fn a_field_of_a_newer_build_asks_to_be_put_back() {
        let decoder = ArgumentDecoder::new(r#"{"new":1}"#).unwrap();
        assert_eq!(decoder.finish().unwrap_err().verdict(), crate::error::Verdict::Defer);
    }

    #[test]
    fn what_is_sensitive_is_not_quoted() {
        let mut decoder = ArgumentDecoder::guarding(r#"{"card":"4111","order":"one"}"#, &["card"]).unwrap();
        assert!(!format!("{decoder:?}").contains("4111"));
        let error = decoder.take::<u64>("card").unwrap_err();
        let expected = "parameter `card`: expected u64; it is sensitive, so it is not quoted";
        assert!(error.text().contains(expected) && !error.text().contains("4111"), "{error}");
        assert!(decoder.take::<u64>("order").unwrap_err().text().contains("\"one\""));
        for text in ["\"4111\"", "4111", "[4111]", "{\"4111"] {
            let error = ArgumentDecoder::guarding(text, &["card"]).unwrap_err();
            assert!(error.text().contains("is not a JSON object") && !error.text().contains("4111"), "{error}");
        }
    }

    #[test]
    fn anything_but_an_object_is_a_permanent_error() {
        for text in ["", "[]", "1", "{", "\"x\"", "{\"a\":}"] {
            let error = ArgumentDecoder::new(text).unwrap_err();
            assert_eq!(error.verdict(), crate::error::Verdict::Permanent, "{text}");
        }
    }
}
