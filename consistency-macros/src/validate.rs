//! Every rule for the function as a whole; [`crate::validate_parameter`] has those for one parameter.

use syn::visit_mut::{self, VisitMut};
use syn::{FnArg, GenericParam, ReturnType, Type, TypeImplTrait};

use crate::errors::Errors;
use crate::model::{Parameter, Role, Written, bare};
use crate::validate_parameter::{self, DeclaredLifetimes};

/// Names of primitive types: an enum of that name beside the call would shadow the type in the whole module.
const PRIMITIVES: [&str; 17] = [
    "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
    "f32", "f64",
];

/// Checks `written` and gives its parameters; complete only if `errors` stays empty.
pub(crate) fn check(written: &Written, errors: &mut Errors) -> Vec<Parameter> {
    check_attributes(written, errors);
    check_qualifiers(written, errors);
    let declared = check_generics(written, errors);
    check_return(written, errors);
    let parameters: Vec<Parameter> = written
        .parameters
        .iter()
        .filter_map(|parameter| validate_parameter::check(parameter, &declared, errors))
        .collect();
    check_roles(&parameters, errors);
    parameters
}

fn check_attributes(written: &Written, errors: &mut Errors) {
    for repeated in &written.attributes.repeated {
        errors.on(repeated, "the function is annotated twice: write all options into one `#[consistency_task(..)]`");
    }
}

fn check_qualifiers(written: &Written, errors: &mut Errors) {
    let signature = &written.signature;
    if PRIMITIVES.contains(&signature.ident.to_string().as_str()) {
        errors.on(
            &signature.ident,
            "a task cannot have the name of a primitive type, which it would hide: rename the function",
        );
    }
    if let Some(keyword) = &signature.unsafety {
        errors.on(
            keyword,
            "a task cannot be `unsafe`, for its worker knows none of your conditions: remove `unsafe` and use an `unsafe` block inside",
        );
    }
    if let Some(keyword) = &signature.constness {
        errors.on(keyword, "a task cannot be `const`, for it runs on a worker: remove `const`");
    }
    if let Some(abi) = &signature.abi {
        errors.on(abi, "a task cannot be `extern`, for only Rust code calls it: remove `extern`");
    }
    if let Some(variadic) = &signature.variadic {
        errors.on(
            variadic,
            "a task cannot be variadic, for each argument is stored under its name: name every parameter",
        );
    }
    if signature.receiver().is_none()
        && let Some(found) = written.misplaced_self()
    {
        errors.at(found, "`Self` has a meaning only in an `impl` block: put `#[consistency_task]` on that block too");
    }
    for input in &signature.inputs {
        if let FnArg::Receiver(receiver) = input {
            errors.on(
                receiver,
                "a task cannot take `self`, for no value of it is stored: take the stored data as parameters and the rest as `#[inject]`, \
                 and put `#[consistency_task]` on the `impl` block too",
            );
        }
    }
}

fn check_generics(written: &Written, errors: &mut Errors) -> DeclaredLifetimes {
    let generics = &written.signature.generics;
    let mut declared = Vec::new();
    for parameter in &generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) => {
                declared.push(lifetime.lifetime.clone());
                errors.on(
                    lifetime,
                    "a task has no lifetime parameters, for its arguments are decoded anew in each attempt: write `&str` without a lifetime",
                );
            }
            GenericParam::Type(parameter) => errors.on(
                parameter,
                "a task cannot be generic, for a stored row names one function: write the type out, or annotate one function for each type",
            ),
            GenericParam::Const(parameter) => errors.on(
                parameter,
                "a task cannot be generic, for a stored row names one function: write the number out, or take it as a parameter",
            ),
        }
    }
    if let Some(clause) = generics.where_clause.as_ref().filter(|_| generics.params.is_empty()) {
        errors.on(clause, "a task has no `where` clause, for it is not generic: remove the clause");
    }
    DeclaredLifetimes(declared)
}

fn check_return(written: &Written, errors: &mut Errors) {
    let ReturnType::Type(_, ty) = &written.signature.output else { return };
    each_impl_trait(ty, |found| {
        errors.on(found, "a task cannot return `impl Trait`: name the type, for example `Result<(), MyError>`");
    });
}

fn check_roles(parameters: &[Parameter], errors: &mut Errors) {
    let transactions = parameters.iter().filter(|parameter| matches!(parameter.role, Role::Tx(_)));
    for second in transactions.skip(1) {
        errors.on(&second.name, "a task has one transaction: remove this second `#[tx]` parameter");
    }
    let contexts = parameters.iter().filter(|parameter| matches!(parameter.role, Role::Context));
    for second in contexts.skip(1) {
        errors.on(&second.name, "a task has one context: remove this second `#[context]` parameter");
    }
    for (index, parameter) in parameters.iter().enumerate() {
        if parameters[..index].iter().any(|earlier| bare(&earlier.name) == bare(&parameter.name)) {
            errors.on(
                &parameter.name,
                "two parameters have this name, which is their key in the stored arguments: rename one",
            );
        }
    }
}

/// Calls `found` for each `impl Trait` in `ty`.
pub(crate) fn each_impl_trait(ty: &Type, found: impl FnMut(&TypeImplTrait)) {
    struct Finder<F>(F);
    impl<F: FnMut(&TypeImplTrait)> VisitMut for Finder<F> {
        fn visit_type_impl_trait_mut(&mut self, ty: &mut TypeImplTrait) {
            (self.0)(ty);
            visit_mut::visit_type_impl_trait_mut(self, ty);
        }
    }
    Finder(found).visit_type_mut(&mut ty.clone());
}
