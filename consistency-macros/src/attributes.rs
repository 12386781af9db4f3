//! Sorts a function's attributes: some describe the call, some the body, some both.

use syn::{Attribute, Meta};

/// The attributes of an annotated function, sorted.
#[derive(Default)]
pub(crate) struct Attributes {
    /// `#[cfg]`: on everything that is generated.
    pub(crate) cfg: Vec<Attribute>,
    /// Docs and `#[deprecated]`: on the call.
    pub(crate) call: Vec<Attribute>,
    /// `#[allow]`: on the call too, which has nearly the same signature.
    pub(crate) allow: Vec<Attribute>,
    /// The rest: on the body, in the order written.
    pub(crate) body: Vec<Attribute>,
    /// `#[doc(hidden)]`: on the call and on the enum beside it.
    pub(crate) hidden: Vec<Attribute>,
    /// Further `#[consistency_task]`.
    pub(crate) repeated: Vec<Attribute>,
}

impl Attributes {
    /// Sorts `attributes`.
    pub(crate) fn sort(attributes: Vec<Attribute>) -> Attributes {
        let mut sorted = Attributes::default();
        for attribute in attributes {
            let path = attribute.path();
            if is_task_attribute(&attribute) {
                sorted.repeated.push(attribute);
            } else if path.is_ident("cfg") {
                sorted.cfg.push(attribute);
            } else if is_hidden(&attribute) {
                sorted.hidden.push(attribute);
            } else if path.is_ident("doc") || path.is_ident("deprecated") {
                sorted.call.push(attribute);
            } else {
                if path.is_ident("allow") {
                    sorted.allow.push(attribute.clone());
                }
                sorted.body.push(attribute);
            }
        }
        sorted
    }
}

/// Whether this is `#[consistency_task]`, by whatever path.
pub(crate) fn is_task_attribute(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "consistency_task")
}

fn is_hidden(attribute: &Attribute) -> bool {
    attribute.path().is_ident("doc")
        && matches!(&attribute.meta, Meta::List(list) if list.tokens.to_string() == "hidden")
}
