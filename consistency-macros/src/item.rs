//! Looks at what the attribute stands on and sends it the right way.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Item, ItemFn};

use crate::errors::Errors;
use crate::model::{Task, Written};
use crate::options::Options;
use crate::{expand, fallback, impl_block, validate};

/// Expands the attribute with `options` on `item`.
pub(crate) fn annotate(options: TokenStream, item: TokenStream) -> TokenStream {
    match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Fn(function)) => free_function(options, function),
        Ok(Item::Impl(block)) => impl_block::expand(options, block),
        _ => refuse(item),
    }
}

fn free_function(options: TokenStream, function: ItemFn) -> TokenStream {
    let mut errors = Errors::default();
    let options = Options::parse(options, &mut errors);
    let written = Written::read(function, false);
    let parameters = validate::check(&written, &mut errors);
    if errors.is_empty() {
        expand::free_function(&Task { written, options, parameters })
    } else {
        fallback::free_function(&written, &options, errors)
    }
}

/// Anything but a function or an `impl` block: the error, and the item as it was.
fn refuse(item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let what = match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Struct(item)) => ("a struct", item.struct_token.into_token_stream()),
        Ok(Item::Enum(item)) => ("an enum", item.enum_token.into_token_stream()),
        Ok(Item::Union(item)) => ("a union", item.union_token.into_token_stream()),
        Ok(Item::Trait(item)) => ("a trait", item.trait_token.into_token_stream()),
        Ok(Item::Mod(item)) => ("a module", item.mod_token.into_token_stream()),
        Ok(Item::Const(item)) => ("a constant", item.const_token.into_token_stream()),
        Ok(Item::Static(item)) => ("a static", item.static_token.into_token_stream()),
        _ => ("this item", item.clone()),
    };
    errors.on(
        &what.1,
        format!("`#[consistency_task]` cannot stand on {}: put it on a function with a body, or on an `impl` block that has some", what.0),
    );
    let errors = errors.into_tokens();
    quote!(#errors #item)
}
