//! Every rule for one parameter: its markers, its name, its type.

use proc_macro2::Ident;
use syn::visit_mut::{self, VisitMut};
use syn::{Lifetime, ParenthesizedGenericArguments, Pat, Type, TypeBareFn, TypeReference};

use crate::errors::Errors;
use crate::model::{MARKERS, OF_STORED, Parameter, Role, WrittenParameter};
use crate::option_list::unknown;
use crate::stored_form::{StoredForm, is_str, option_reference, plain};
use crate::validate::each_impl_trait;

/// The lifetimes the function itself declares; they have been refused already.
pub(crate) struct DeclaredLifetimes(pub(crate) Vec<Lifetime>);

/// Checks one parameter; `None` when it is too wrong to go on with.
pub(crate) fn check(
    written: &WrittenParameter,
    declared: &DeclaredLifetimes,
    errors: &mut Errors,
) -> Option<Parameter> {
    for condition in &written.conditions {
        errors.on(
            condition,
            "a task's parameter cannot be conditional, for its rows are read by other builds: put `#[cfg]` on two whole functions",
        );
    }
    let markers = fitting_markers(written, errors);
    let name = plain_name(&written.pattern, errors);
    let role = role(written, &markers?, declared, errors)?;
    Some(Parameter { name: name?, ty: written.ty.clone(), role })
}

/// The markers of a parameter, each known, bare, written once, and fitting the others; `None` after an error.
fn fitting_markers<'a>(written: &'a WrittenParameter, errors: &mut Errors) -> Option<Vec<&'a str>> {
    let mut chosen: Vec<&str> = Vec::new();
    let mut sound = true;
    for marker in &written.markers {
        let word = marker.word.as_str();
        let of_stored = OF_STORED.contains(&word);
        let at_odds = chosen.iter().find(|other| OF_STORED.contains(other) != of_stored).copied();
        let refusal = if !MARKERS.contains(&word) {
            unknown("marker", word, &MARKERS)
        } else if marker.attribute.meta.require_path_only().is_err() {
            format!("`#[{word}]` takes nothing: write just `#[{word}]`")
        } else if chosen.contains(&word) {
            format!("`#[{word}]` is written twice: remove one")
        } else if let Some(other) = at_odds {
            let (of_stored, origin) = if of_stored { (word, other) } else { (other, word) };
            format!(
                "`#[{of_stored}]` is for stored parameters, and a `#[{origin}]` parameter is not stored: remove one of the two"
            )
        } else if let (false, Some(other)) = (of_stored, chosen.first()) {
            format!("a parameter has one origin, and this one is already `#[{other}]`: remove one of the two")
        } else {
            chosen.push(word);
            continue;
        };
        errors.on(&marker.attribute, refusal);
        sound = false;
    }
    sound.then_some(chosen)
}

fn plain_name(pattern: &Pat, errors: &mut Errors) -> Option<Ident> {
    match pattern {
        Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => Some(name.ident.clone()),
        Pat::Wild(wild) => {
            errors.on(
                wild,
                "a parameter needs a name, which is its key in the stored arguments: write for example `_order_id`",
            );
            None
        }
        other => {
            errors.on(
                other,
                "a parameter needs a plain name, which is its key in the stored arguments: name it and take it apart in the body",
            );
            None
        }
    }
}

fn role(
    written: &WrittenParameter,
    markers: &[&str],
    declared: &DeclaredLifetimes,
    errors: &mut Errors,
) -> Option<Role> {
    let ty = plain(&written.ty);
    let reference = match ty {
        Type::Reference(reference) => Some(reference),
        _ => None,
    };
    // Two markers are both of a stored parameter.
    match markers.first().copied().unwrap_or_default() {
        "inject" => injected(ty, reference, errors),
        "context" => {
            if reference.is_none_or(|reference| reference.mutability.is_some()) {
                errors.on(ty, "a `#[context]` parameter is borrowed: write `#[context] cx: &TaskContext`");
                return None;
            }
            Some(Role::Context)
        }
        "tx" => match reference {
            Some(reference) if reference.mutability.is_some() => Some(Role::Tx((*reference.elem).clone())),
            _ => {
                errors
                    .on(ty, "a `#[tx]` parameter is borrowed mutably: write `#[tx] tx: &mut TaskTx<SqliteConnection>`");
                None
            }
        },
        _ => storable(ty, declared, errors).then(|| Role::Stored {
            form: StoredForm::of(&written.ty),
            default: markers.contains(&"default"),
            sensitive: markers.contains(&"sensitive"),
        }),
    }
}

fn injected(ty: &Type, reference: Option<&TypeReference>, errors: &mut Errors) -> Option<Role> {
    let Some(reference) = reference else {
        errors.on(ty, "an `#[inject]` parameter is borrowed from the outbox: write its type with `&` in front");
        return None;
    };
    if reference.mutability.is_some() {
        errors.on(
            ty,
            "an `#[inject]` parameter is shared between tasks, so it cannot be `&mut`: write `&`, and use for example a `Mutex` inside",
        );
        return None;
    }
    let target = plain(&reference.elem);
    if is_str(target) || matches!(target, Type::TraitObject(_) | Type::Slice(_)) {
        errors.on(
            ty,
            "an `#[inject]` parameter is found by its sized type: inject an `Arc<dyn Trait>`, a `String` or a `Vec`, and write `&` and that type",
        );
        return None;
    }
    let before = errors.count();
    each_impl_trait(ty, |found| refuse_impl_trait(found, errors));
    (errors.count() == before).then(|| Role::Inject((*reference.elem).clone()))
}

fn refuse_impl_trait(found: &syn::TypeImplTrait, errors: &mut Errors) {
    errors.on(found, "`impl Trait` makes the task generic, but a stored row names one function: write a concrete type");
}

/// Whether a parameter of type `ty` can be rebuilt from stored text, as far as the type's tokens tell.
fn storable(ty: &Type, declared: &DeclaredLifetimes, errors: &mut Errors) -> bool {
    let before = errors.count();
    each_impl_trait(ty, |found| refuse_impl_trait(found, errors));
    let mut inner = ty.clone();
    if let Type::Reference(reference) = ty {
        check_outer_reference(reference, declared, errors);
        inner = plain(&reference.elem).clone();
        if matches!(inner, Type::TraitObject(_)) {
            errors.on(
                ty,
                "a trait object cannot be stored: if this is application state, mark the parameter `#[inject]`",
            );
        }
    } else if let Some(target) = option_reference(ty) {
        if let Type::Path(_) = ty
            && let Some(reference) = first_reference(ty)
        {
            check_outer_reference(&reference, declared, errors);
        }
        inner = plain(target).clone();
    }
    if errors.count() == before {
        InnerReferences { declared, errors }.visit_type_mut(&mut inner);
    }
    errors.count() == before
}

fn first_reference(ty: &Type) -> Option<TypeReference> {
    struct First(Option<TypeReference>);
    impl VisitMut for First {
        fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
            self.0.get_or_insert_with(|| reference.clone());
        }
    }
    let mut first = First(None);
    first.visit_type_mut(&mut ty.clone());
    first.0
}

fn check_outer_reference(reference: &TypeReference, declared: &DeclaredLifetimes, errors: &mut Errors) {
    if reference.mutability.is_some() {
        errors.on(
            reference,
            "a stored parameter cannot be `&mut`, for changes to it would be lost: take it by value, or mark the transaction `#[tx]`",
        );
    }
    if let Some(lifetime) = &reference.lifetime
        && lifetime.ident != "_"
        && !declared.0.contains(lifetime)
    {
        errors.on(
            lifetime,
            format!("a stored parameter is decoded anew in each attempt, so it cannot live for `{lifetime}`: remove the lifetime"),
        );
    }
}

/// Refuses references and named lifetimes below the outermost reference.
struct InnerReferences<'a> {
    declared: &'a DeclaredLifetimes,
    errors: &'a mut Errors,
}

impl VisitMut for InnerReferences<'_> {
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        let mend = match plain(&reference.elem) {
            ty if is_str(ty) => "write `String`",
            Type::Slice(_) => "write `Vec<..>`",
            _ => "write the type without `&`",
        };
        self.errors.on(
            reference,
            format!("a stored parameter can be borrowed only as a whole, or directly inside an `Option`: {mend} here"),
        );
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        let known = lifetime.ident == "static" || lifetime.ident == "_" || self.declared.0.contains(lifetime);
        if !known {
            self.errors.on(
                lifetime,
                format!("a stored parameter is decoded anew in each attempt, so it cannot live for `{lifetime}`: own the data"),
            );
        }
        visit_mut::visit_lifetime_mut(self, lifetime);
    }

    // Elided lifetimes in `fn(&str)` and `Fn(&str)` are the callee's; such types are refused as unstorable anyway.
    fn visit_type_bare_fn_mut(&mut self, _: &mut TypeBareFn) {}
    fn visit_parenthesized_generic_arguments_mut(&mut self, _: &mut ParenthesizedGenericArguments) {}
}
