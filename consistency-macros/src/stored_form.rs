//! From a parameter's type to what is stored for it: `&str` is stored as `String`, `Option<&T>` as `Option<T>`.

use proc_macro2::Span;
use syn::visit_mut::{self, VisitMut};
use syn::{GenericArgument, Lifetime, PathArguments, Type, parse_quote_spanned};

/// What is stored for a parameter, and how the body gets its value.
pub(crate) struct StoredForm {
    /// The owned type that is decoded.
    pub(crate) owned: Type,
    /// From the owned value to the parameter.
    pub(crate) passing: Passing,
}

/// From the owned value to the parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Passing {
    /// `value`
    Moved,
    /// `&value`
    Borrowed,
    /// `value.as_deref()`
    OptionDeref,
    /// `value.as_ref()`
    OptionRef,
}

impl StoredForm {
    /// The stored form of `ty`, which may have one reference: outermost, or directly inside an `Option`.
    pub(crate) fn of(ty: &Type) -> StoredForm {
        let (mut owned, passing) = match plain(ty) {
            Type::Reference(reference) => (owned_of(&reference.elem).0, Passing::Borrowed),
            ty => match option_reference(ty) {
                Some(target) => {
                    let (inner, unsized_target) = owned_of(target);
                    let passing = if unsized_target { Passing::OptionDeref } else { Passing::OptionRef };
                    (replace_option_argument(ty, inner), passing)
                }
                None => (ty.clone(), Passing::Moved),
            },
        };
        AnonymousToStatic.visit_type_mut(&mut owned);
        StoredForm { owned, passing }
    }
}

/// `T` of `Option<&T>`.
pub(crate) fn option_reference(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = plain(ty) else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(inner) => match plain(inner) {
            Type::Reference(reference) => Some(&reference.elem),
            _ => None,
        },
        _ => None,
    }
}

/// The type without the parentheses and invisible groups that `macro_rules!` puts around its fragments.
pub(crate) fn plain(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => plain(&group.elem),
        Type::Paren(paren) => plain(&paren.elem),
        ty => ty,
    }
}

/// Whether the type is `str`.
pub(crate) fn is_str(ty: &Type) -> bool {
    matches!(plain(ty), Type::Path(path) if path.path.is_ident("str"))
}

/// The owned type for what stands behind a reference, and whether that was unsized.
fn owned_of(target: &Type) -> (Type, bool) {
    let span = |ty: &Type| Span::call_site().located_at(syn::spanned::Spanned::span(ty));
    match plain(target) {
        ty if is_str(ty) => (parse_quote_spanned!(span(ty)=> ::std::string::String), true),
        Type::Slice(slice) => {
            let element = &slice.elem;
            (parse_quote_spanned!(span(target)=> ::std::vec::Vec<#element>), true)
        }
        ty => (ty.clone(), false),
    }
}

fn replace_option_argument(option: &Type, inner: Type) -> Type {
    let mut option = plain(option).clone();
    if let Type::Path(path) = &mut option
        && let Some(segment) = path.path.segments.last_mut()
        && let PathArguments::AngleBracketed(arguments) = &mut segment.arguments
        && let Some(argument) = arguments.args.first_mut()
    {
        *argument = GenericArgument::Type(inner);
    }
    option
}

/// A decoded value borrows from nothing: `Cow<'_, str>` is decoded as `Cow<'static, str>`.
struct AnonymousToStatic;

impl VisitMut for AnonymousToStatic {
    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == "_" {
            *lifetime = Lifetime::new("'static", lifetime.span());
        }
        visit_mut::visit_lifetime_mut(self, lifetime);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::readable;
    use quote::ToTokens;
    use syn::parse_quote;

    #[test]
    fn references_are_stored_as_what_they_point_at() {
        let cases: [(Type, &str, Passing); 8] = [
            (parse_quote!(i64), "i64", Passing::Moved),
            (parse_quote!(&str), "::std::string::String", Passing::Borrowed),
            (parse_quote!(&[u8]), "::std::vec::Vec<u8>", Passing::Borrowed),
            (parse_quote!(&Order), "Order", Passing::Borrowed),
            (parse_quote!(Option<&str>), "Option<::std::string::String>", Passing::OptionDeref),
            (parse_quote!(std::option::Option<&Order>), "std::option::Option<Order>", Passing::OptionRef),
            (parse_quote!(Option<Order>), "Option<Order>", Passing::Moved),
            (parse_quote!(Cow<'_, str>), "Cow<'static, str>", Passing::Moved),
        ];
        for (ty, text, passing) in cases {
            let form = StoredForm::of(&ty);
            assert_eq!(readable(form.owned.to_token_stream()), text);
            assert_eq!(form.passing, passing);
        }
    }
}
