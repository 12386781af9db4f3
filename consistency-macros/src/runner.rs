//! The type-erased function that a worker calls: decodes the arguments, gathers the rest, runs the body, reads its result.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ReturnType, Type};

use crate::expand::{Names, located};
use crate::model::{Role, Task};
use crate::stored_form::{Passing, plain};

/// The hidden runner of `task`, an associated function of the type that has the body.
pub(crate) fn runner(task: &Task, names: &Names) -> TokenStream {
    let krate = task.options.krate();
    let private = quote!(#krate::__private);
    let cfg = &task.written.attributes.cfg;
    let runner = &names.runner;
    let attempt = local("attempt");
    let assertions = assertions(task, names, &private);
    let steps = steps(task, names, &private, &attempt);
    let outcome = quote!(::core::result::Result<(), #private::TaskError>);
    // At the function's name, where the compiler says that the future is not `Send`.
    let name = located(task.written.signature.ident.span());
    let future = quote_spanned!(name=> ::std::boxed::Box::pin(async move { #steps }));
    if task.transaction().is_some() && task.written.signature.asyncness.is_some() {
        let parts = local("parts");
        return quote! {
            #(#cfg)*
            #[doc(hidden)]
            fn #runner(#attempt: #private::Attempt, #parts: #private::TxParts<'_>) -> #private::TxFuture<'_> {
                #assertions
                #future
            }
        };
    }
    if task.transaction().is_some() {
        let parts = local("parts");
        return quote! {
            #(#cfg)*
            #[doc(hidden)]
            fn #runner(#attempt: #private::Attempt, #parts: #private::TxParts<'_>) -> #outcome {
                #assertions
                #steps
            }
        };
    }
    if task.written.signature.asyncness.is_some() {
        return quote! {
            #(#cfg)*
            #[doc(hidden)]
            fn #runner(#attempt: #private::Attempt) -> #private::BoxFuture {
                #assertions
                #future
            }
        };
    }
    quote! {
        #(#cfg)*
        #[doc(hidden)]
        fn #runner(#attempt: #private::Attempt) -> #outcome {
            #assertions
            #steps
        }
    }
}

/// Asks once for each stored type whether it can be stored; see the core's `storage_probe` for why only here.
///
/// A default name is as long as its module path, which only the compiler knows, so its length is checked here too.
fn assertions(task: &Task, names: &Names, private: &TokenStream) -> TokenStream {
    let mut assertions = TokenStream::new();
    if task.options.name.is_none() {
        let name = &names.default_name;
        let at = located(task.written.signature.ident.span());
        assertions.extend(quote_spanned! {at=>
            const _: () = ::core::assert!(
                #name.len() <= 200,
                "the default name of this task is longer than 200 bytes: give it one with `name = \"..\"`"
            );
        });
    }
    for parameter in &task.parameters {
        match &parameter.role {
            Role::Stored { form, .. } => {
                let owned = &form.owned;
                assertions.extend(quote!(#private::storable::<#owned>();));
            }
            Role::Tx(ty) => {
                let world = if task.written.signature.asyncness.is_some() { "Asynchronous" } else { "Blocking" };
                let (world, at) = (format_ident!("{world}"), located(target_span(&parameter.ty)));
                assertions.extend(quote_spanned! {at=>
                    {
                        use #private::{BindOther as _, BindTransaction as _};
                        (&&#private::WantedTransaction::<#ty>::new()).fits::<#private::#world, #ty>();
                    }
                });
            }
            Role::Inject(_) | Role::Context => {}
        }
    }
    assertions
}

/// Everything stored is decoded and checked before anything of the user's runs.
fn steps(task: &Task, names: &Names, private: &TokenStream, attempt: &Ident) -> TokenStream {
    let decoder = local("decoder");
    let mut decode = TokenStream::new();
    let mut gather = TokenStream::new();
    let mut arguments = Vec::new();
    for (index, parameter) in task.parameters.iter().enumerate() {
        let value = format_ident!("argument_{index}", span = Span::mixed_site());
        let at = located(target_span(&parameter.ty));
        match &parameter.role {
            Role::Stored { form, default, .. } => {
                let (owned, key) = (&form.owned, parameter.key());
                let method = Ident::new(if *default { "decode_or_default" } else { "decode" }, at);
                decode.extend(quote_spanned! {at=>
                    let #value = (&&#private::Wanted::<#owned>::new()).#method(&mut #decoder, #key)?;
                });
                arguments.push(match form.passing {
                    Passing::Moved => quote_spanned!(at=> #value),
                    Passing::Borrowed => quote_spanned!(at=> &#value),
                    Passing::OptionDeref => quote_spanned!(at=> #value.as_deref()),
                    Passing::OptionRef => quote_spanned!(at=> #value.as_ref()),
                });
            }
            Role::Inject(ty) => {
                gather.extend(quote_spanned!(at=> let #value = #attempt.state.get::<#ty>()?;));
                arguments.push(quote_spanned!(at=> #value));
            }
            Role::Context => arguments.push(quote_spanned!(at=> &#attempt.context)),
            Role::Tx(ty) => {
                let parts = local("parts");
                gather.extend(quote_spanned! {at=>
                    let mut #value = {
                        use #private::{BindOther as _, BindTransaction as _};
                        (&&#private::WantedTransaction::<#ty>::new()).bind(#parts)?
                    };
                });
                arguments.push(quote_spanned!(at=> &mut #value));
            }
        }
    }
    let (mutable, probes) = if decode.is_empty() {
        (None, None)
    } else {
        (Some(quote!(mut)), Some(quote!(use #private::{DecodeStorable as _, DecodeUnstorable as _};)))
    };
    let sensitive = task.sensitive();
    let arguments_read = if sensitive.is_empty() {
        quote!(#private::ArgumentDecoder::new(&#attempt.arguments)?)
    } else {
        quote!(#private::ArgumentDecoder::guarding(&#attempt.arguments, &[#(#sensitive),*])?)
    };
    let returned = local("returned");
    let name = located(task.written.signature.ident.span());
    let output = match &task.written.signature.output {
        ReturnType::Default => name,
        ReturnType::Type(_, ty) => located(ty.span()),
    };
    let body = &names.body;
    let wait = task.written.signature.asyncness.map(|_| quote_spanned!(name=> .await));
    let convert = quote_spanned!(output=> (&&&&&#returned).into_outcome());
    quote! {
        #probes
        use #private::{Boxed as _, LocalBoxed as _, Plain as _, Shown as _, Unfit as _};
        let #mutable #decoder = #arguments_read;
        #decode
        #decoder.finish()?;
        #gather
        let #returned = #private::Returned::new(Self::#body(#(#arguments),*) #wait);
        #convert
    }
}

/// Where an error about a parameter points: at its type, behind the `&` if there is one.
fn target_span(ty: &Type) -> Span {
    match plain(ty) {
        Type::Reference(reference) => reference.elem.span(),
        ty => ty.span(),
    }
}

/// A local that no name of the user's can meet.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}
