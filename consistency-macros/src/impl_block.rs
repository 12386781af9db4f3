//! The attribute on an `impl` block: its annotated functions become tasks, everything else stays as it is.

use std::collections::HashMap;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, ImplItem, ImplItemFn, ItemFn, ItemImpl, Meta};

use crate::attributes::is_task_attribute;
use crate::errors::Errors;
use crate::expand::{self, Names, located};
use crate::model::{Task, Written, bare};
use crate::options::Options;
use crate::text::readable;
use crate::{fallback, runner, validate};

/// The functions of the block, by name.
pub(crate) type Taken = HashMap<String, Span>;

/// Expands the attribute with `options` on `block`.
pub(crate) fn expand(options: TokenStream, mut block: ItemImpl) -> TokenStream {
    let mut errors = Errors::default();
    check_block(options, &block, &mut errors);
    let sound = errors.is_empty();
    let taken: Taken = block
        .items
        .iter()
        .filter_map(|item| match item {
            ImplItem::Fn(function) => Some((bare(&function.sig.ident), function.sig.ident.span())),
            _ => None,
        })
        .collect();
    let mut items = TokenStream::new();
    let mut registrations = TokenStream::new();
    let mut annotated = false;
    for item in std::mem::take(&mut block.items) {
        match item {
            ImplItem::Fn(mut function) if function.attrs.iter().any(is_task_attribute) => {
                annotated = true;
                let options = take_options(&mut function.attrs, &mut errors);
                let (item, registration) = associated_function(options, function, &block, &taken);
                items.extend(item);
                if sound {
                    registrations.extend(registration);
                }
            }
            other => other.to_tokens(&mut items),
        }
    }
    if !annotated {
        errors.on(
            &block.impl_token,
            "no function in this `impl` block is a task: put `#[consistency_task]` on those that are, or remove it here",
        );
    }
    block.items.push(ImplItem::Verbatim(items));
    let errors = errors.into_tokens();
    quote!(#errors #block #registrations)
}

fn check_block(options: TokenStream, block: &ItemImpl, errors: &mut Errors) {
    if !options.is_empty() {
        errors.on(&options, "an `impl` block takes no options: write them on its annotated functions");
    }
    if let Some((_, path, _)) = &block.trait_ {
        errors.on(path, "the functions of a trait cannot be tasks: put them in an `impl` block of the type itself");
    }
    if !block.generics.params.is_empty() {
        errors.on(
            &block.generics.params,
            "an `impl` block with tasks cannot be generic, for a stored row names one function: use one with a concrete type",
        );
    }
    if let Some(unsafety) = &block.unsafety {
        errors.on(unsafety, "an `impl` block with tasks cannot be `unsafe`: remove `unsafe`");
    }
}

/// Removes the first `#[consistency_task]` and gives its options; a second one is left to be refused.
fn take_options(attributes: &mut Vec<Attribute>, errors: &mut Errors) -> TokenStream {
    let Some(index) = attributes.iter().position(is_task_attribute) else { return TokenStream::new() };
    match attributes.remove(index).meta {
        Meta::Path(_) => TokenStream::new(),
        Meta::List(list) => list.tokens,
        Meta::NameValue(pair) => {
            errors.on(&pair, "options stand in parentheses: write `#[consistency_task(name = \"..\")]`");
            TokenStream::new()
        }
    }
}

/// One annotated function: what stands for it in the block, and its registration beside the block.
fn associated_function(
    options: TokenStream,
    function: ImplItemFn,
    block: &ItemImpl,
    taken: &Taken,
) -> (TokenStream, TokenStream) {
    let mut errors = Errors::default();
    let options = Options::parse(options, &mut errors);
    if let Some(default) = &function.defaultness {
        errors.on(default, "a task cannot be `default`: remove it");
    }
    let ImplItemFn { attrs, vis, sig, block: body, .. } = function;
    let written = Written::read(ItemFn { attrs, vis, sig, block: Box::new(body) }, true);
    let name = bare(&written.signature.ident);
    for (made, what) in [(format!("{name}_body"), "function itself"), (format!("{name}_task"), "definition")] {
        if let Some(span) = taken.get(&made) {
            errors.at(
                *span,
                format!("the name `{made}` is needed for the {what} of task `{name}`: rename this function"),
            );
        }
    }
    if block.trait_.is_some() {
        return (fallback::trait_function(&written), TokenStream::new());
    }
    let parameters = validate::check(&written, &mut errors);
    if !errors.is_empty() {
        return (fallback::associated_function(&written, &options, taken, errors), TokenStream::new());
    }
    sound_function(&Task { written, options, parameters }, block)
}

fn sound_function(task: &Task, block: &ItemImpl) -> (TokenStream, TokenStream) {
    let name = &task.written.signature.ident;
    let span = located(name.span());
    let text = bare(name);
    let owner = &block.self_ty;
    let owner_text = readable(owner.to_token_stream());
    let definition_fn = Ident::new(&format!("{text}_task"), span);
    let names = Names {
        body: Ident::new(&format!("{text}_body"), span),
        runner: format_ident!("__{text}_run", span = span),
        definition: quote!(Self::#definition_fn()),
        default_name: quote!(::core::concat!(::core::module_path!(), "::", #owner_text, "::", #text)),
    };
    let krate = task.options.krate();
    let (cfg, visibility) = (&task.written.attributes.cfg, &task.written.visibility);
    let call = expand::call(task, &names);
    let body = expand::body(task, &names);
    let runner = runner::runner(task, &names);
    let definition = expand::definition(task, &names, &quote!(Self));
    let doc = format!("The definition of the task `{text}`, to register it by hand.");
    let items = quote! {
        #call
        #body
        #runner

        #(#cfg)*
        #[doc = #doc]
        #visibility const fn #definition_fn() -> &'static #krate::__private::TaskDefinition {
            const { #definition }
        }
    };
    // Conditions on the block hold for the registration beside it.
    let conditions = block.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let registration = expand::registration(task, &quote!(<#owner>::#definition_fn()));
    (items, quote!(#(#conditions)* #registration))
}
