//! The keys of `#[consistency_task(..)]`: read with their spans, each checked by itself, then against one another.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{LitInt, LitStr};

use crate::duration;
use crate::errors::Errors;
use crate::option_list::{Entry, split, unknown};

/// Every key, in the order messages list them.
const KNOWN: [&str; 13] = [
    "name",
    "alias",
    "retry_every",
    "backoff",
    "max_attempts",
    "timeout",
    "delay",
    "mode",
    "run_on",
    "queue",
    "priority",
    "when_dead",
    "crate",
];

/// The longest task name in characters: the width of its column.
const NAME_MAX: usize = 200;
/// The longest queue name in characters: the width of its column.
const QUEUE_MAX: usize = 100;

/// The options as written; `None` leaves the runtime's default.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) retry_every: Option<Duration>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) delay: Option<Duration>,
    pub(crate) mode: Option<&'static str>,
    pub(crate) run_on: Option<&'static str>,
    pub(crate) queue: Option<String>,
    pub(crate) priority: Option<u8>,
    pub(crate) when_dead: Option<&'static str>,
    krate: Option<syn::Path>,
}

/// `backoff = shape(cap = .., jitter = ..)`.
pub(crate) struct Backoff {
    pub(crate) shape: &'static str,
    pub(crate) cap: Option<Duration>,
    pub(crate) jitter_percent: u8,
}

impl Options {
    /// Reads the tokens between the attribute's parentheses.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Options {
        let mut options = Options::default();
        let mut seen: Vec<(String, Span)> = Vec::new();
        for entry in split(tokens, "an option", &KNOWN, errors) {
            let name = entry.name();
            if name != "alias" && seen.iter().any(|(other, _)| *other == name) {
                errors.on(&entry.key, format!("option `{name}` is given twice: remove one of them"));
                continue;
            }
            seen.push((name.clone(), entry.value_or_key().span()));
            if let Err(error) = options.set(&name, &entry, errors) {
                errors.push(error);
            }
        }
        options.check_together(&seen, errors);
        options
    }

    /// The path to the library.
    pub(crate) fn krate(&self) -> TokenStream {
        self.krate.as_ref().map_or_else(|| quote!(::consistency_diesel), ToTokens::to_token_stream)
    }

    fn set(&mut self, name: &str, entry: &Entry, errors: &mut Errors) -> syn::Result<()> {
        match name {
            "name" => self.name = Some(task_name(entry.value.clone(), entry)?),
            "alias" => self.aliases.extend(aliases(entry)?),
            "retry_every" => self.retry_every = Some(positive(duration_value(entry, "30s")?, entry)?),
            "timeout" => self.timeout = Some(positive(duration_value(entry, "1m")?, entry)?),
            "delay" => self.delay = Some(duration_value(entry, "5s")?),
            "max_attempts" => self.max_attempts = Some(max_attempts(entry)?),
            "priority" => {
                self.priority = Some(integer(
                    entry,
                    0,
                    9,
                    "a priority goes from 0 (first) to 9 (last): write for example `priority = 5`",
                )?)
            }
            "mode" => self.mode = Some(choice(entry, &["immediate", "scheduled"])?),
            "when_dead" => self.when_dead = Some(choice(entry, &["block", "park", "skip"])?),
            "run_on" => self.run_on = Some(choice(entry, &["worker", "caller"])?),
            "queue" => self.queue = Some(text(entry.value.clone(), entry, "mail", "a queue name", QUEUE_MAX)?.value()),
            "backoff" => self.backoff = Some(backoff(entry, errors)?),
            "crate" => {
                self.krate = Some(syn::parse2(entry.value.clone()).map_err(|_| {
                    wrong(entry, "`crate` takes the path of the library: write `crate = my_crate::reexport`")
                })?);
            }
            _ => return Err(syn::Error::new_spanned(&entry.key, unknown("option", name, &KNOWN))),
        }
        Ok(())
    }

    fn check_together(&self, seen: &[(String, Span)], errors: &mut Errors) {
        let span_of =
            |key: &str| seen.iter().find(|(name, _)| name == key).map_or_else(Span::call_site, |(_, span)| *span);
        let mut names: Vec<String> = self.name.iter().map(LitStr::value).collect();
        for alias in &self.aliases {
            if names.contains(&alias.value()) {
                errors.on(alias, format!("the task already answers to `{}`: remove this alias", alias.value()));
            }
            names.push(alias.value());
        }
        if self.mode == Some("immediate") && self.delay.is_some_and(|delay| !delay.is_zero()) {
            errors.at(
                span_of("delay"),
                "a delayed task cannot be immediate: leave out `delay`, or write `mode = scheduled`",
            );
        }
        let every = self.retry_every.unwrap_or(Duration::from_secs(60));
        if let Some(cap) = self.backoff.as_ref().and_then(|backoff| backoff.cap).filter(|cap| *cap < every) {
            errors.at(
                span_of("backoff"),
                format!("the cap of {cap:?} is shorter than `retry_every`, which is {every:?}: raise the cap or shorten `retry_every`"),
            );
        }
    }
}

fn wrong(entry: &Entry, message: impl std::fmt::Display) -> syn::Error {
    syn::Error::new_spanned(entry.value_or_key(), message)
}

fn text(value: TokenStream, entry: &Entry, example: &str, what: &str, most: usize) -> syn::Result<LitStr> {
    let key = entry.name();
    let literal: LitStr = syn::parse2(value)
        .map_err(|_| wrong(entry, format!("`{key}` takes a text in quotes: write `{key} = \"{example}\"`")))?;
    let text = literal.value();
    let length = text.chars().count();
    if length == 0 || length > most {
        return Err(syn::Error::new_spanned(
            &literal,
            format!("{what} has 1 to {most} characters, this one has {length}: choose another"),
        ));
    }
    if text.trim() != text || text.contains(char::is_control) {
        return Err(syn::Error::new_spanned(
            &literal,
            format!("{what} neither begins nor ends with white space and has no control characters: remove them"),
        ));
    }
    Ok(literal)
}

fn task_name(value: TokenStream, entry: &Entry) -> syn::Result<LitStr> {
    text(value, entry, "warehouse.ship", "a task name", NAME_MAX)
}

fn aliases(entry: &Entry) -> syn::Result<Vec<LitStr>> {
    let Some(group) = &entry.arguments else { return Ok(vec![task_name(entry.value.clone(), entry)?]) };
    let mut aliases = Vec::new();
    for piece in group.stream().into_iter().collect::<Vec<_>>().split(|token| token.to_string() == ",") {
        if !piece.is_empty() {
            aliases.push(task_name(piece.iter().cloned().collect(), entry)?);
        }
    }
    if aliases.is_empty() { Err(wrong(entry, "`alias` is empty: write `alias = \"old.name\"`")) } else { Ok(aliases) }
}

fn duration_value(entry: &Entry, example: &str) -> syn::Result<Duration> {
    let key = entry.name();
    let literal: LitStr = syn::parse2(entry.value.clone()).map_err(|_| {
        wrong(entry, format!("`{key}` takes a duration in quotes, with its unit: write `{key} = \"{example}\"`"))
    })?;
    duration::parse(&literal.value()).map_err(|message| syn::Error::new_spanned(&literal, message))
}

fn positive(duration: Duration, entry: &Entry) -> syn::Result<Duration> {
    if duration.is_zero() {
        let key = entry.name();
        return Err(wrong(entry, format!("`{key}` cannot be zero: name a positive duration, or leave the option out")));
    }
    Ok(duration)
}

fn integer<N>(entry: &Entry, least: N, most: N, rule: &str) -> syn::Result<N>
where
    N: std::str::FromStr<Err: std::fmt::Display> + PartialOrd,
{
    let literal: LitInt = syn::parse2(entry.value.clone()).map_err(|_| wrong(entry, rule))?;
    match literal.base10_parse::<N>() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(wrong(entry, rule)),
    }
}

fn max_attempts(entry: &Entry) -> syn::Result<u32> {
    // The column is a signed 32-bit integer on every database.
    let most = u32::MAX / 2;
    integer(entry, 1, most, "`max_attempts` is a whole number from 1: leave it out to retry until the task succeeds")
}

fn choice(entry: &Entry, known: &[&'static str]) -> syn::Result<&'static str> {
    let key = entry.name();
    let takes = || {
        let written: Vec<String> = known.iter().map(|word| format!("`{key} = {word}`")).collect();
        wrong(entry, format!("`{key}` takes a word without quotes: write {}", written.join(" or ")))
    };
    let word: syn::Ident = syn::parse2(entry.value.clone()).map_err(|_| takes())?;
    known
        .iter()
        .find(|choice| word == **choice)
        .copied()
        .ok_or_else(|| wrong(entry, unknown(&key, &word.to_string(), known)))
}

fn backoff(entry: &Entry, errors: &mut Errors) -> syn::Result<Backoff> {
    const SHAPES: [&str; 3] = ["fixed", "linear", "exponential"];
    const RULE: &str =
        "`backoff` takes a shape: write `backoff = exponential`, or `backoff = exponential(cap = \"1h\", jitter = 20)`";
    let entries = split(entry.value.clone(), "a shape", &SHAPES, errors);
    let [shape_entry] = entries.as_slice() else { return Err(wrong(entry, RULE)) };
    if !shape_entry.value.is_empty() {
        return Err(wrong(entry, RULE));
    }
    let written = shape_entry.name();
    let Some(shape) = SHAPES.into_iter().find(|shape| *shape == written) else {
        return Err(syn::Error::new_spanned(&shape_entry.key, unknown("backoff", &written, &SHAPES)));
    };
    let mut backoff = Backoff { shape, cap: None, jitter_percent: 0 };
    let settings = shape_entry.arguments.as_ref().map(|group| group.stream()).unwrap_or_default();
    let mut seen = Vec::new();
    for setting in split(settings, "a backoff setting", &["cap", "jitter"], errors) {
        let name = setting.name();
        if seen.contains(&name) {
            errors.on(&setting.key, format!("`{name}` is given twice: remove one of them"));
        }
        seen.push(name.clone());
        match name.as_str() {
            "cap" if shape == "fixed" => {
                return Err(syn::Error::new_spanned(&setting.key, "a fixed interval does not grow: leave out `cap`"));
            }
            "cap" => backoff.cap = Some(positive(duration_value(&setting, "1h")?, &setting)?),
            "jitter" => {
                backoff.jitter_percent =
                    integer(&setting, 0, 100, "`jitter` is a percentage from 0 to 100: write `jitter = 20`")?
            }
            _ => {
                return Err(syn::Error::new_spanned(
                    &setting.key,
                    unknown("backoff setting", &name, &["cap", "jitter"]),
                ));
            }
        }
    }
    Ok(backoff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(tokens: TokenStream) -> Vec<String> {
        let mut errors = Errors::default();
        Options::parse(tokens, &mut errors);
        errors.messages()
    }

    #[test]
    fn every_option_is_read() {
        let mut errors = Errors::default();
        let options = Options::parse(
            quote! {
                name = "a.b", alias = "a", alias("b", "c"), retry_every = "30s", delay = "5s", mode = scheduled,
                run_on = caller, max_attempts = 5, timeout = "1m", queue = "mail", priority = 0,
                backoff = exponential(cap = "1h", jitter = 20), when_dead = park, crate = my::path,
            },
            &mut errors,
        );
        assert_eq!(errors.messages(), Vec::<String>::new());
        assert_eq!(options.aliases.len(), 3);
        assert_eq!(options.retry_every, Some(Duration::from_secs(30)));
        assert_eq!(options.krate().to_string(), quote!(my::path).to_string());
        assert_eq!(options.when_dead, Some("park"));
        assert_eq!(options.backoff.unwrap().jitter_percent, 20);
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let found =
            messages(quote!(nam = "x", priority = 10, retry_every = "0s", mode = "scheduled", timeout = 5, name));
        assert_eq!(found.len(), 6, "{found:#?}");
        assert!(found[0].contains("did you mean `name`"));
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(messages(quote!(mode = immediate, delay = "5s")).len(), 1);
        assert_eq!(messages(quote!(backoff = exponential(cap = "5s"))).len(), 1);
        assert_eq!(messages(quote!(backoff = fixed(cap = "5m"))).len(), 1);
        assert_eq!(messages(quote!(name = "a", alias = "a")).len(), 1);
        assert_eq!(messages(quote!(queue = "a", queue = "b")).len(), 1);
    }
}
