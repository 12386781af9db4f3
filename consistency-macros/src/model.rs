//! The annotated function as plain data: taken apart, not yet judged, and then checked.

use proc_macro2::{Ident, Span, TokenStream};
use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Block, FnArg, Item, ItemFn, Pat, Path, Signature, Type, Visibility};

use crate::attributes::Attributes;
use crate::options::Options;
use crate::stored_form::StoredForm;
use crate::text::readable;

/// The words that may mark a parameter.
pub(crate) const MARKERS: [&str; 5] = ["inject", "context", "tx", "default", "sensitive"];
/// Those that say something about a stored parameter; the others say where else the value comes from.
pub(crate) const OF_STORED: [&str; 2] = ["default", "sensitive"];

/// A function as it was written.
pub(crate) struct Written {
    /// Whether it stands in an annotated `impl` block.
    pub(crate) in_impl_block: bool,
    pub(crate) attributes: Attributes,
    pub(crate) visibility: Visibility,
    /// The signature without markers, fit for the body.
    pub(crate) signature: Signature,
    pub(crate) block: Block,
    /// The signature with markers, as text.
    pub(crate) signature_text: String,
    pub(crate) parameters: Vec<WrittenParameter>,
}

/// A parameter as it was written.
pub(crate) struct WrittenParameter {
    /// One of [`MARKERS`], or a single word nobody knows.
    pub(crate) markers: Vec<Marker>,
    /// `#[cfg]` and `#[cfg_attr]`.
    pub(crate) conditions: Vec<Attribute>,
    pub(crate) pattern: Pat,
    pub(crate) ty: Type,
}

impl WrittenParameter {
    /// Whether the caller leaves it out: any marker but those of stored parameters, known or not.
    pub(crate) fn is_supplied(&self) -> bool {
        self.markers.iter().any(|marker| !OF_STORED.contains(&marker.word.as_str()))
    }
}

/// One `#[word]` on a parameter.
pub(crate) struct Marker {
    pub(crate) word: String,
    pub(crate) attribute: Attribute,
}

impl Written {
    /// Takes `function` apart.
    pub(crate) fn read(function: ItemFn, in_impl_block: bool) -> Written {
        let ItemFn { attrs, vis: visibility, mut sig, block } = function;
        let signature_text = readable(sig.to_token_stream());
        let mut parameters = Vec::new();
        for input in &mut sig.inputs {
            let FnArg::Typed(parameter) = input else { continue };
            let mut markers = Vec::new();
            let mut conditions = Vec::new();
            for attribute in &parameter.attrs {
                if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
                    conditions.push(attribute.clone());
                } else if let Some(word) = marker_word(attribute) {
                    markers.push(Marker { word, attribute: attribute.clone() });
                }
            }
            parameter.attrs.retain(|attribute| marker_word(attribute).is_none());
            parameters.push(WrittenParameter {
                markers,
                conditions,
                pattern: (*parameter.pat).clone(),
                ty: (*parameter.ty).clone(),
            });
        }
        Written {
            in_impl_block,
            attributes: Attributes::sort(attrs),
            visibility,
            signature: sig,
            block: *block,
            signature_text,
            parameters,
        }
    }

    /// Where it says `Self` without an annotated `impl` block: it stands in one that the attribute cannot see.
    ///
    /// `Self` in an item inside the body belongs to that item.
    pub(crate) fn misplaced_self(&self) -> Option<Span> {
        struct Finder(Option<Span>);
        impl VisitMut for Finder {
            fn visit_path_mut(&mut self, path: &mut Path) {
                if let Some(first) = path.segments.first().filter(|first| first.ident == "Self") {
                    self.0.get_or_insert_with(|| first.ident.span());
                }
                visit_mut::visit_path_mut(self, path);
            }
            fn visit_item_mut(&mut self, _: &mut Item) {}
        }
        let mut finder = Finder(None);
        if !self.in_impl_block {
            finder.visit_signature_mut(&mut self.signature.clone());
            finder.visit_block_mut(&mut self.block.clone());
        }
        finder.0
    }

    /// Whether only an `impl` block can hold it: it says `self` or `Self`, but stands in none that is annotated.
    pub(crate) fn is_method(&self) -> bool {
        self.signature.receiver().is_some() || self.misplaced_self().is_some()
    }
}

/// The word of an attribute that is, or was meant to be, a marker. Lints and paths belong to others.
fn marker_word(attribute: &Attribute) -> Option<String> {
    const NOT_OURS: [&str; 8] = ["allow", "warn", "deny", "forbid", "expect", "cfg", "cfg_attr", "doc"];
    let word = attribute.path().get_ident()?.to_string();
    (!NOT_OURS.contains(&word.as_str())).then_some(word)
}

/// A function that passed every check.
pub(crate) struct Task {
    pub(crate) written: Written,
    pub(crate) options: Options,
    pub(crate) parameters: Vec<Parameter>,
}

/// A parameter that passed every check.
pub(crate) struct Parameter {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    pub(crate) role: Role,
}

impl Parameter {
    /// The name without `r#`: its key in the stored arguments.
    pub(crate) fn key(&self) -> String {
        bare(&self.name)
    }
}

/// Where a parameter's value comes from.
pub(crate) enum Role {
    /// The stored arguments.
    Stored {
        /// What is stored, and how the body gets it.
        form: StoredForm,
        /// An absent argument is `Default::default()`.
        default: bool,
        /// Errors and logs leave it out.
        sensitive: bool,
    },
    /// The builder; the type behind the `&`.
    Inject(Type),
    /// The attempt.
    Context,
    /// The transaction; the type behind the `&mut`.
    Tx(Type),
}

/// A name without `r#`.
pub(crate) fn bare(name: &Ident) -> String {
    name.to_string().trim_start_matches("r#").to_owned()
}

impl Task {
    /// `order_id: i64, card: String (sensitive)`.
    pub(crate) fn parameter_types(&self) -> String {
        let stored = self.parameters.iter().filter_map(|parameter| match &parameter.role {
            Role::Stored { form, sensitive, .. } => {
                let mark = if *sensitive { " (sensitive)" } else { "" };
                Some(format!("{}: {}{mark}", parameter.key(), type_text(&form.owned)))
            }
            _ => None,
        });
        stored.collect::<Vec<_>>().join(", ")
    }

    /// The keys of the sensitive parameters.
    pub(crate) fn sensitive(&self) -> Vec<String> {
        let is_sensitive = |parameter: &&Parameter| matches!(parameter.role, Role::Stored { sensitive: true, .. });
        self.parameters.iter().filter(is_sensitive).map(Parameter::key).collect()
    }

    /// The type behind `#[tx]`, if there is one.
    pub(crate) fn transaction(&self) -> Option<&Type> {
        self.parameters.iter().find_map(|parameter| match &parameter.role {
            Role::Tx(ty) => Some(ty),
            _ => None,
        })
    }
}

/// A type as text, without the path of the types this crate puts in the place of a reference.
fn type_text(ty: &Type) -> String {
    let tokens: TokenStream = ty.to_token_stream();
    readable(tokens).replace("::std::string::String", "String").replace("::std::vec::Vec", "Vec")
}
