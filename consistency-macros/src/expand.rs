//! From the checked function to what replaces it: the call, the body, the definition, the registration.
//!
//! Items get spans that point at the user's code but resolve at the attribute (`located`), and locals are hygienic
//! (`mixed_site`): a user's own span would carry the hygiene of a surrounding `macro_rules!` and break there.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};

use crate::model::{Role, Task, bare};
use crate::options::Options;
use crate::runner;

/// A span at the user's code that resolves where the attribute stands.
pub(crate) fn located(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// Where the parts of one task live.
pub(crate) struct Names {
    /// The function that runs the body.
    pub(crate) body: Ident,
    /// The hidden function that decodes and calls the body.
    pub(crate) runner: Ident,
    /// An expression for the `&'static TaskDefinition`.
    pub(crate) definition: TokenStream,
    /// The name of the task when no option gives one: an expression of type `&'static str`.
    pub(crate) default_name: TokenStream,
}

/// A free function: the call, an enum of the same name that carries the body, the task, the registration.
pub(crate) fn free_function(task: &Task) -> TokenStream {
    let name = &task.written.signature.ident;
    let span = located(name.span());
    let enum_name = enum_name(name);
    let krate = task.options.krate();
    let text = bare(name);
    let names = Names {
        body: Ident::new("body", span),
        runner: Ident::new("__run", span),
        definition: quote!(<#enum_name as #krate::__private::Task>::DEFINITION),
        default_name: quote!(::core::concat!(::core::module_path!(), "::", #text)),
    };
    let attributes = &task.written.attributes;
    let (cfg, hidden, visibility) = (&attributes.cfg, &attributes.hidden, &task.written.visibility);
    let call = call(task, &names);
    let body = body(task, &names);
    let runner = runner::runner(task, &names);
    let definition = definition(task, &names, &quote!(#enum_name));
    let registration = registration(task, &names.definition);
    let enum_doc = format!("The task behind the function `{text}`: register it with `.register::<{text}>()`.");
    quote! {
        #call

        #(#cfg)* #(#hidden)*
        #[doc = #enum_doc]
        #[allow(non_camel_case_types)]
        #visibility enum #enum_name {}

        #(#cfg)*
        impl #enum_name {
            #body
            #runner
        }

        #(#cfg)*
        impl #krate::__private::Task for #enum_name {
            const DEFINITION: &'static #krate::__private::TaskDefinition = #definition;
        }

        #registration
    }
}

/// The enum's name: the function's, resolved at the attribute.
pub(crate) fn enum_name(function: &Ident) -> Ident {
    let mut name = function.clone();
    name.set_span(located(function.span()));
    name
}

/// The function of the written name: serializes its arguments and runs nothing.
pub(crate) fn call(task: &Task, names: &Names) -> TokenStream {
    let written = &task.written;
    let krate = task.options.krate();
    let (attributes, visibility, name) = (&written.attributes, &written.visibility, &written.signature.ident);
    let (cfg, docs, hidden, allow) = (&attributes.cfg, &attributes.call, &attributes.hidden, &attributes.allow);
    let stored: Vec<_> =
        task.parameters.iter().filter(|parameter| matches!(parameter.role, Role::Stored { .. })).collect();
    let idents: Vec<_> = stored.iter().map(|parameter| &parameter.name).collect();
    let types = stored.iter().map(|parameter| &parameter.ty);
    let keys = stored.iter().map(|parameter| parameter.key());
    let definition = &names.definition;
    let encoder = Ident::new("encoder", Span::mixed_site());
    let body = if stored.is_empty() {
        quote!(#krate::__private::ArgumentEncoder::new(#definition).into_call())
    } else {
        quote! {
            use #krate::__private::{EncodeStorable as _, EncodeUnstorable as _};
            let mut #encoder = #krate::__private::ArgumentEncoder::new(#definition);
            #( (&&#krate::__private::Given(&#idents)).encode(&mut #encoder, #keys); )*
            #encoder.into_call()
        }
    };
    quote! {
        #(#cfg)* #(#docs)* #(#hidden)* #(#allow)*
        // Said once, about the function itself.
        #[allow(clippy::too_many_arguments)]
        #visibility fn #name(#(#idents: #types),*) -> #krate::__private::Call {
            #body
        }
    }
}

/// The function as it was written, under another name.
pub(crate) fn body(task: &Task, names: &Names) -> TokenStream {
    let written = &task.written;
    let (attributes, visibility, block) = (&written.attributes, &written.visibility, &written.block);
    let (cfg, others) = (&attributes.cfg, &attributes.body);
    let mut signature = written.signature.clone();
    signature.ident = names.body.clone();
    let doc =
        format!("The function behind the call `{}`: runs now, without a database.", bare(&written.signature.ident));
    quote! {
        #(#cfg)* #(#others)*
        #[doc = #doc]
        #visibility #signature #block
    }
}

/// The `&'static TaskDefinition`; `owner` is the type that has the runner.
pub(crate) fn definition(task: &Task, names: &Names, owner: &TokenStream) -> TokenStream {
    let krate = task.options.krate();
    let private = quote!(#krate::__private);
    let options = &task.options;
    let name = match &options.name {
        Some(name) => quote!(#name),
        None => names.default_name.clone(),
    };
    let aliases = &options.aliases;
    let signature = &task.written.signature_text;
    let parameter_types = task.parameter_types();
    let sensitive = task.sensitive();
    let line = line(task.written.signature.ident.span());
    let task_options = task_options(options, &private);
    let injected: Vec<_> = task
        .parameters
        .iter()
        .filter_map(|parameter| match &parameter.role {
            Role::Inject(ty) => Some(ty),
            _ => None,
        })
        .collect();
    let injects = if injected.is_empty() {
        quote!(::std::vec::Vec::new)
    } else {
        quote!(|| ::std::vec![#(#private::NeededType::of::<#injected>()),*])
    };
    let runner = &names.runner;
    let run = quote!(#owner::#runner);
    let body = match task.transaction() {
        Some(ty) => {
            let variant =
                if task.written.signature.asyncness.is_some() { "AsyncTransactional" } else { "Transactional" };
            let variant = format_ident!("{variant}");
            quote! {
                #private::Body::#variant {
                    connection: || #private::NeededType::of::<<#ty as #private::TransactionParameter>::Connection>(),
                    run: #run,
                }
            }
        }
        None if task.written.signature.asyncness.is_some() => quote!(#private::Body::Async(#run)),
        None => quote!(#private::Body::Blocking(#run)),
    };
    quote! {
        &#private::TaskDefinition {
            name: #name,
            aliases: &[#(#aliases),*],
            signature: #signature,
            parameter_types: #parameter_types,
            sensitive: &[#(#sensitive),*],
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: #line,
            options: #task_options,
            injects: #injects,
            body: #body,
        }
    }
}

/// The line of `span`; that of the attribute when `span` is in another file, brought in by a `macro_rules!`.
fn line(span: Span) -> TokenStream {
    let (here, attribute) = (span.unwrap(), Span::call_site().unwrap());
    match u32::try_from(here.line()) {
        Ok(line) if here.file() == attribute.file() => quote!(#line),
        _ => quote!(::core::line!()),
    }
}

/// Makes the task known at link time.
pub(crate) fn registration(task: &Task, definition: &TokenStream) -> TokenStream {
    let krate = task.options.krate();
    let cfg = &task.written.attributes.cfg;
    quote! {
        #(#cfg)*
        const _: () = {
            #krate::__private::register! { #definition }
        };
    }
}

fn task_options(options: &Options, private: &TokenStream) -> TokenStream {
    let mut fields = TokenStream::new();
    let mut set = |field: &str, value: TokenStream| {
        let field = format_ident!("{field}");
        fields.extend(quote!(#field: #value,));
    };
    let some = |value: TokenStream| quote!(::core::option::Option::Some(#value));
    if let Some(every) = options.retry_every {
        set("retry_every", duration(every));
    }
    if let Some(delay) = options.delay {
        set("delay", some(duration(delay)));
    }
    if let Some(mode) = options.mode {
        let variant = format_ident!("{}", if mode == "scheduled" { "Scheduled" } else { "Immediate" });
        set("mode", quote!(#private::ExecuteMode::#variant));
    }
    if let Some(run_on) = options.run_on {
        let variant = format_ident!("{}", if run_on == "caller" { "Caller" } else { "Worker" });
        set("run_on", quote!(#private::RunOn::#variant));
    }
    if let Some(most) = options.max_attempts {
        set("max_attempts", some(quote!(#most)));
    }
    if let Some(timeout) = options.timeout {
        set("timeout", some(duration(timeout)));
    }
    if let Some(queue) = &options.queue {
        set("queue", quote!(#queue));
    }
    if let Some(priority) = options.priority {
        set("priority", quote!(#priority));
    }
    if let Some(when_dead) = options.when_dead {
        let variant = match when_dead {
            "park" => quote!(Park),
            "skip" => quote!(Skip),
            _ => quote!(Block),
        };
        set("when_dead", quote!(#private::WhenDead::#variant));
    }
    if let Some(backoff) = &options.backoff {
        let shape = format_ident!(
            "{}",
            match backoff.shape {
                "linear" => "Linear",
                "exponential" => "Exponential",
                _ => "Fixed",
            }
        );
        let cap = backoff.cap.map_or_else(|| quote!(::core::option::Option::None), |cap| some(duration(cap)));
        let jitter = backoff.jitter_percent;
        set(
            "backoff",
            quote!(#private::Backoff { shape: #private::BackoffShape::#shape, cap: #cap, jitter_percent: #jitter }),
        );
    }
    if fields.is_empty() {
        quote!(#private::TaskOptions::DEFAULT)
    } else {
        quote!(#private::TaskOptions { #fields ..#private::TaskOptions::DEFAULT })
    }
}

fn duration(duration: std::time::Duration) -> TokenStream {
    // At most ten years, so the milliseconds fit.
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    quote!(::core::time::Duration::from_millis(#millis))
}
