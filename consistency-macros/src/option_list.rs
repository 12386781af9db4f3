//! Takes `key = value, key(..), ..` apart, one entry at a time, so that one bad entry does not hide the next.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;

use crate::errors::Errors;

/// One entry of the list.
pub(crate) struct Entry {
    /// The word in front.
    pub(crate) key: Ident,
    /// What follows `=`; empty when there is none.
    pub(crate) value: TokenStream,
    /// The parenthesized list directly after the key.
    pub(crate) arguments: Option<Group>,
}

impl Entry {
    /// The key without `r#`.
    pub(crate) fn name(&self) -> String {
        self.key.to_string().trim_start_matches("r#").to_owned()
    }

    /// The tokens an error about the value points at: the value, or the key when there is none.
    pub(crate) fn value_or_key(&self) -> TokenStream {
        match (&self.arguments, self.value.is_empty()) {
            (_, false) => self.value.clone(),
            (Some(group), true) => group.to_token_stream(),
            (None, true) => self.key.to_token_stream(),
        }
    }
}

/// Cuts `tokens` at its commas. `what` names an entry in errors, `known` are the keys to offer.
pub(crate) fn split(tokens: TokenStream, what: &str, known: &[&str], errors: &mut Errors) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut piece: Vec<TokenTree> = Vec::new();
    let mut pieces = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Punct(comma) if comma.as_char() == ',' => {
                if piece.is_empty() {
                    errors.at(comma.span(), format!("nothing stands before this comma: remove it, or write {what}"));
                }
                pieces.push(std::mem::take(&mut piece));
            }
            other => piece.push(other),
        }
    }
    pieces.push(piece);
    for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
        match entry(&piece) {
            Some(entry) => entries.push(entry),
            None => errors.on(
                &piece.into_iter().collect::<TokenStream>(),
                format!("this is not {what}: write `key = value`; known are {}", list(known)),
            ),
        }
    }
    entries
}

fn entry(piece: &[TokenTree]) -> Option<Entry> {
    let (TokenTree::Ident(key), rest) = piece.split_first()? else { return None };
    let (arguments, rest) = match rest.split_first() {
        Some((TokenTree::Group(group), rest)) if group.delimiter() == Delimiter::Parenthesis => {
            (Some(group.clone()), rest)
        }
        _ => (None, rest),
    };
    let value = match rest.split_first() {
        None => TokenStream::new(),
        Some((TokenTree::Punct(equals), value)) if equals.as_char() == '=' && arguments.is_none() => {
            value.iter().cloned().collect()
        }
        Some(_) => return None,
    };
    Some(Entry { key: key.clone(), value, arguments })
}

/// `a`, `b` and `c`, in backticks.
pub(crate) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, init)) => format!("{} and {last}", init.join(", ")),
        None => String::new(),
    }
}

/// The answer to an unknown word: what it is, the nearest known one if there is a near one, and all of them.
pub(crate) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let all = list(known);
    match nearest(word, known) {
        Some(near) => format!("unknown {what} `{word}`: did you mean `{near}`? Known are {all}"),
        None => format!("unknown {what} `{word}`: known are {all}"),
    }
}

fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let begins = |candidate: &&&str| word.len() >= 3 && (candidate.starts_with(word) || word.starts_with(**candidate));
    let near = known.iter().map(|candidate| (distance(word, candidate), *candidate)).min()?;
    if near.0 <= 2.min(word.len() / 2) { Some(near.1) } else { known.iter().find(begins).copied() }
}

/// How many letters must be added, removed or changed to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_offered_and_a_far_one_is_not() {
        let known = ["name", "retry_every", "priority"];
        assert_eq!(nearest("nmae", &known), Some("name"));
        assert_eq!(nearest("retry", &known), Some("retry_every"));
        assert_eq!(nearest("priorty", &known), Some("priority"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(unknown("option", "x", &["a", "b"]), "unknown option `x`: known are `a` and `b`");
    }

    #[test]
    fn one_bad_entry_does_not_hide_the_next() {
        let mut errors = Errors::default();
        let tokens = quote::quote!(a = 1, 7, b("x"), , c, d(1) = 2);
        let names: Vec<String> = split(tokens, "an option", &["a"], &mut errors).iter().map(Entry::name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(errors.messages().len(), 3);
    }
}
