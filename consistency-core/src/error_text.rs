//! Error texts on their way into the table, the events and the log: the sources of an error, what is left out, and the size.

use std::error::Error as StdError;

use crate::sensitive::{MASK, Secrets};

/// Most sources of an error that are written down. Chains end; one whose `source` leads back to itself does not.
const SOURCES_MAX: usize = 1000;
/// No further source is written down once the text is as long as this, in bytes.
const CHAIN_BYTES: usize = 1 << 20;
/// What ends a text that was cut.
const CUT: &str = " [cut]";

/// Writes an error and its sources, one line each; a source that says the same as the line above is left out.
pub(crate) fn chain_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut last = 0..text.len();
    let mut cause = error.source();
    let mut sources = 0;
    while let Some(source) = cause {
        sources += 1;
        if sources > SOURCES_MAX || text.len() >= CHAIN_BYTES {
            text.push_str("\ncaused by further sources, which are left out");
            break;
        }
        let line = source.to_string();
        if line != text[last.clone()] {
            text.push_str("\ncaused by: ");
            last = text.len()..text.len() + line.len();
            text.push_str(&line);
        }
        cause = source.source();
    }
    text
}

/// Makes an error text fit to be stored and reported: `***` in the place of `secrets`, no NUL, which PostgreSQL's `text`
/// refuses, and at most `limit` bytes, of at least 64.
///
/// It reads no more of the text than it needs, and cuts only what is masked already: no part of a secret is left at the end.
pub fn clean_error_text(text: &str, limit: usize, secrets: &Secrets) -> String {
    let mut clean = String::with_capacity(text.len().min(limit));
    // Where to cut, should the text turn out to be too long.
    let mut end = 0;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (piece, length) = match secrets.length_at(rest) {
            Some(length) => (MASK, length),
            None if first == '\0' => ("\u{fffd}", 1),
            None => (&rest[..first.len_utf8()], first.len_utf8()),
        };
        if clean.len() + piece.len() > limit {
            clean.truncate(end);
            clean.push_str(CUT);
            break;
        }
        clean.push_str(piece);
        if clean.len() + CUT.len() <= limit {
            end = clean.len();
        }
        rest = &rest[length..];
    }
    clean
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fmt;

    /// An error that is its own source.
    #[derive(Debug)]
    pub(crate) struct Circle;
    impl fmt::Display for Circle {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("round")
        }
    }
    impl StdError for Circle {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(self)
        }
    }

    /// One link of a chain, which shows all that is behind it too.
    #[derive(Debug)]
    struct Link(usize, Option<Box<Link>>);
    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "link {} {}", self.0, "x".repeat(self.0))
        }
    }
    impl StdError for Link {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|link| link as &dyn StdError)
        }
    }

    #[test]
    fn stored_text_has_no_nul_and_is_cut_between_characters() {
        let none = Secrets::default();
        assert_eq!(clean_error_text("a\0b", 100, &none), "a\u{fffd}b");
        let cut = clean_error_text(&"ä".repeat(100), 65, &none);
        assert!(cut.len() <= 65 && cut.ends_with("ä [cut]"), "{cut}");
        assert_eq!(clean_error_text(&"x".repeat(64), 64, &none), "x".repeat(64));
        assert_eq!(clean_error_text(&"\0".repeat(22), 64, &none), format!("{} [cut]", "\u{fffd}".repeat(19)));
    }

    #[test]
    fn what_is_cut_off_leaves_no_part_of_a_secret() {
        let secret = "0123456789".repeat(10);
        let secrets = Secrets::of(&["a"], &serde_json::json!({ "a": secret }).to_string());
        for before in 0..200 {
            let text = format!("{}{}", ".".repeat(before), secret.repeat(50));
            let clean = clean_error_text(&text, 100, &secrets);
            assert!(clean.len() <= 100 && !clean.contains("0123"), "{clean}");
        }
    }

    #[test]
    fn chains_without_an_end_are_cut() {
        assert!(chain_text(&Circle).starts_with("round\ncaused by further"));
        let deep = (0..10_000).fold(Link(0, None), |inner, number| Link(number, Some(Box::new(inner))));
        let text = chain_text(&deep);
        assert!(text.starts_with("link 9999 ") && text.ends_with("left out"));
        assert!(text.len() < CHAIN_BYTES + 20_000, "{} bytes", text.len());
    }
}
