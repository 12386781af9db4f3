//! What is emitted when the input is wrong: the errors, and items of the same names, so that one mistake yields one error.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::errors::Errors;
use crate::expand::{enum_name, located};
use crate::impl_block::Taken;
use crate::model::{Written, bare};
use crate::options::Options;

/// A refused free function.
pub(crate) fn free_function(written: &Written, options: &Options, errors: Errors) -> TokenStream {
    let errors = errors.into_tokens();
    if written.is_method() {
        // It stands inside an `impl` block, where no enum can be.
        let original = renamed(written, &written.signature.ident);
        return quote!(#errors #original);
    }
    let krate = options.krate();
    let (cfg, visibility) = (&written.attributes.cfg, &written.visibility);
    let name = enum_name(&written.signature.ident);
    let call = call(written, options);
    let body = renamed(written, &Ident::new("body", located(name.span())));
    let definition = definition(&krate);
    quote! {
        #errors
        #call

        #(#cfg)*
        /// Refused.
        #[allow(non_camel_case_types)]
        #visibility enum #name {}

        #(#cfg)*
        impl #name {
            #body
        }

        #(#cfg)*
        impl #krate::__private::Task for #name {
            const DEFINITION: &'static #krate::__private::TaskDefinition = #definition;
        }
    }
}

/// A refused associated function.
///
/// A name in `taken` belongs to another function, which has been told to make room.
pub(crate) fn associated_function(written: &Written, options: &Options, taken: &Taken, errors: Errors) -> TokenStream {
    let errors = errors.into_tokens();
    let name = &written.signature.ident;
    if written.is_method() {
        let original = renamed(written, name);
        return quote!(#errors #original);
    }
    let krate = options.krate();
    let (cfg, visibility) = (&written.attributes.cfg, &written.visibility);
    let free_name = |part: &str| {
        let wanted = format_ident!("{}_{part}", bare(name), span = located(name.span()));
        if taken.contains_key(&wanted.to_string()) { format_ident!("__{wanted}") } else { wanted }
    };
    let call = call(written, options);
    let body = renamed(written, &free_name("body"));
    let task = free_name("task");
    let definition = definition(&krate);
    quote! {
        #errors
        #call
        #body

        #(#cfg)*
        /// Refused.
        #[allow(dead_code)]
        #visibility const fn #task() -> &'static #krate::__private::TaskDefinition {
            const { #definition }
        }
    }
}

/// A function of a trait, where nothing can stand in for it: as it was written.
pub(crate) fn trait_function(written: &Written) -> TokenStream {
    renamed(written, &written.signature.ident)
}

/// A call that type-checks wherever the real one would.
fn call(written: &Written, options: &Options) -> TokenStream {
    let krate = options.krate();
    let attributes = &written.attributes;
    let (cfg, docs, visibility, name) =
        (&attributes.cfg, &attributes.call, &written.visibility, &written.signature.ident);
    let (generics, clause) = (&written.signature.generics, &written.signature.generics.where_clause);
    let types = written.parameters.iter().filter(|parameter| !parameter.is_supplied()).map(|parameter| &parameter.ty);
    quote! {
        #(#cfg)* #(#docs)*
        #[allow(dead_code)]
        #visibility fn #name #generics (#(_: #types),*) -> #krate::__private::Call #clause {
            ::core::unreachable!()
        }
    }
}

/// The function as it was written, with `name`.
fn renamed(written: &Written, name: &Ident) -> TokenStream {
    let (attributes, visibility, block) = (&written.attributes, &written.visibility, &written.block);
    let (cfg, others) = (&attributes.cfg, &attributes.body);
    let mut signature = written.signature.clone();
    signature.ident = name.clone();
    quote! {
        #(#cfg)* #(#others)*
        /// Refused.
        #[allow(dead_code)]
        #visibility #signature #block
    }
}

fn definition(krate: &TokenStream) -> TokenStream {
    quote! {
        &#krate::__private::TaskDefinition {
            name: "",
            aliases: &[],
            signature: "",
            parameter_types: "",
            sensitive: &[],
            module: "",
            file: "",
            line: 0,
            options: #krate::__private::TaskOptions::DEFAULT,
            injects: ::std::vec::Vec::new,
            body: #krate::__private::Body::Blocking(|_| ::core::result::Result::Ok(())),
        }
    }
}
