//! Keeps the values of `#[sensitive]` parameters out of what people read: error texts, events, logs and `Debug`.

use std::fmt;

use crate::arguments::fields;

/// What stands in the place of a sensitive value.
pub const MASK: &str = "***";

/// Texts below this many characters are not looked for: `7` or `yes` occurs in every other sentence.
const SHORTEST: usize = 4;

/// What to look for in an error text: the texts and numbers inside the sensitive arguments of one row, each in the forms in
/// which it is usually shown.
#[derive(Default)]
pub struct Secrets {
    /// Sorted, without repetitions.
    forms: Vec<Vec<u8>>,
}

impl Secrets {
    /// Those of the parameters `names` in the stored arguments. Costs nothing when no parameter is sensitive.
    ///
    /// Arguments that are no JSON object have none: no body ever sees them.
    pub fn of(names: &[&str], stored: &str) -> Secrets {
        let mut secrets = Secrets::default();
        if names.is_empty() {
            return secrets;
        }
        let fields = fields(stored).unwrap_or_default();
        for value in names.iter().filter_map(|name| fields.get(*name)) {
            secrets.add_value(value.get());
        }
        secrets.forms.sort_unstable();
        secrets.forms.dedup();
        secrets
    }

    /// How many bytes at the beginning of `text` are a secret; the longest one counts.
    pub fn length_at(&self, text: &str) -> Option<usize> {
        let mut wanted = text.as_bytes();
        // Of the forms that `text` begins with, the longest is the greatest one up to `text`. What stands between them is
        // skipped by asking again for what it has in common with `text`.
        while wanted.len() >= SHORTEST {
            let behind = self.forms.partition_point(|form| form.as_slice() <= wanted);
            let form = self.forms[..behind].last()?;
            if wanted.starts_with(form) {
                return Some(form.len());
            }
            let common = form.iter().zip(wanted).take_while(|(ours, theirs)| ours == theirs).count();
            wanted = &wanted[..common];
        }
        None
    }

    /// Adds what is inside a JSON value: texts and numbers, and lists of numbers as a whole, for bytes are such lists. The keys
    /// of its objects are names.
    fn add_value(&mut self, json: &str) {
        let bytes = json.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    let end = end_of_text(bytes, at);
                    let is_key = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                    if !is_key {
                        self.add_text(&json[at..end]);
                    }
                    at = end;
                }
                b'-' | b'0'..=b'9' => {
                    let end = at + bytes[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                    self.add_number(&json[at..end]);
                    at = end;
                }
                b'[' => {
                    at += 1;
                    self.add_list(&json[at..]);
                }
                _ => at += 1,
            }
        }
    }

    /// Adds a text, given as JSON writes it.
    fn add_text(&mut self, literal: &str) {
        self.add(inside(literal));
        let Ok(text) = serde_json::from_str::<String>(literal) else { return };
        self.add(text.trim());
        self.add(inside(&format!("{text:?}")));
        if let Ok(escaped) = serde_json::to_string(&text) {
            self.add(inside(&escaped));
        }
        self.add(&text);
    }

    fn add_number(&mut self, literal: &str) {
        let number = literal.trim_start_matches('-');
        self.add(number);
        // `1e3` is shown as `1000`.
        if number.contains(['.', 'e', 'E'])
            && let Ok(number) = number.parse::<f64>()
        {
            self.add(&number.to_string());
            self.add(&format!("{number:?}"));
        }
    }

    /// Adds the list of numbers that `rest` begins with, if it is one of at least [`SHORTEST`].
    fn add_list(&mut self, rest: &str) {
        let of_list = |byte: &u8| is_of_number(*byte) || *byte == b',' || byte.is_ascii_whitespace();
        let length = rest.bytes().take_while(|byte| of_list(byte)).count();
        let numbers: Vec<&str> = rest[..length].split(',').map(str::trim).collect();
        if rest[length..].starts_with(']') && numbers.len() >= SHORTEST {
            self.add(&numbers.join(", "));
            self.add(&numbers.join(","));
        }
    }

    fn add(&mut self, form: &str) {
        if form.chars().nth(SHORTEST - 1).is_some() {
            self.forms.push(form.as_bytes().to_vec());
        }
    }
}

/// Says how many there are.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.forms.len())
    }
}

/// Where the JSON text that begins at `start` ends, its quotes included.
fn end_of_text(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// A quoted text without its quotes.
fn inside(quoted: &str) -> &str {
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted)
}

/// The stored arguments with [`MASK`] for the values of sensitive parameters, as `Debug` shows them.
pub(crate) struct Shown<'a> {
    pub(crate) sensitive: &'a [&'a str],
    pub(crate) stored: &'a str,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sensitive.is_empty() {
            return f.write_str(self.stored);
        }
        let fields = fields(self.stored).unwrap_or_default();
        f.write_str("{")?;
        for (position, (name, value)) in fields.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            let value = if self.sensitive.contains(&name.as_str()) { MASK } else { value.get() };
            write!(f, "{comma}{name:?}:{value}")?;
        }
        f.write_str("}")
    }
}

/// Stored arguments of which `Debug` tells nothing but their size: a row does not know which of them are sensitive.
pub(crate) struct Unseen<'a>(pub(crate) &'a str);

impl fmt::Debug for Unseen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of `text` stays with these stored arguments, all sensitive.
    fn masked(stored: &str, text: &str) -> String {
        let secrets = Secrets::of(&["a"], stored);
        let (mut rest, mut masked) = (text, String::new());
        while let Some(first) = rest.chars().next() {
            let (piece, length) = match secrets.length_at(rest) {
                Some(length) => (MASK, length),
                None => (&rest[..first.len_utf8()], first.len_utf8()),
            };
            masked.push_str(piece);
            rest = &rest[length..];
        }
        masked
    }

    #[test]
    fn texts_and_numbers_are_found_however_deep_they_lie() {
        let stored = r#"{"a":{"card":["4111-2222",{"pin":43210}],"on":true},"b":"open"}"#;
        assert_eq!(masked(stored, "4111-2222 and 43210 of card, open"), "*** and *** of card, open");
    }

    #[test]
    fn the_longest_of_several_is_taken() {
        let stored = r#"{"a":["abcd","abcdefgh","abcx","abcdefxx","zzzz"]}"#;
        assert_eq!(masked(stored, "abcdefgh abcdefg abcdefxx abcy zzzzz"), "*** ***efg *** abcy ***z");
    }

    #[test]
    fn escaped_forms_are_found_too() {
        let secret = "back\\slash \"quote\" \n tab\t \u{e4} \u{1f680} \u{1}";
        let stored = serde_json::json!({ "a": secret }).to_string();
        let json = serde_json::to_string(secret).unwrap();
        assert_eq!(masked(&stored, &format!("{secret}|{secret:?}|{json}")), "***|\"***\"|\"***\"");
        assert_eq!(masked(r#"{"a":"\u0041BCD"}"#, r"ABCD \u0041BCD"), "*** ***");
        assert_eq!(masked(r#"{"a":"  padded  "}"#, "padded,  padded  ."), "***,***.");
    }

    #[test]
    fn numbers_are_found_in_the_forms_rust_shows_them_in() {
        assert_eq!(masked(r#"{"a":-43210}"#, "-43210 43210"), "-*** ***");
        assert_eq!(masked(r#"{"a":[12345.0,1e21]}"#, "12345.0 12345 1000000000000000000000 1e21"), "*** *** *** ***");
        let wide = i128::MIN.to_string();
        assert_eq!(masked(&format!(r#"{{"a":{wide}}}"#), &wide), "-***");
        assert_eq!(masked(r#"{"a":[1, 2,3,255]}"#, "[1, 2, 3, 255] [1,2,3,255]"), "[***] [***]");
    }

    #[test]
    fn short_values_and_other_parameters_are_left_alone() {
        assert_eq!(
            masked(r#"{"a":["yes",7,null,[1,2]],"b":"others"}"#, "yes 7 null [1, 2] others"),
            "yes 7 null [1, 2] others"
        );
        assert_eq!(masked("no object", "no object"), "no object");
        assert_eq!(masked(r#"{"b":"absent"}"#, "absent"), "absent");
    }

    #[test]
    fn a_stored_value_no_text_can_be_made_of_does_no_harm() {
        assert_eq!(masked(r#"{"a":["\ud800 lone","whole"]}"#, "whole"), "***");
    }

    #[test]
    fn many_similar_values_are_looked_for_quickly() {
        let values: Vec<String> =
            (0..10_000).map(|number| format!("2024-{number:08}-{}", "x".repeat(number % 7))).collect();
        let stored = serde_json::json!({ "a": values }).to_string();
        let text = "2024-00000000 2024-9 ".repeat(10_000);
        assert!(masked(&stored, &text).starts_with("2024-00000000 2024-9 "));
    }
}
