//! Tokens as a reader would write them, for the readable columns of the table.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Writes `tokens` on one line, spaced as rustfmt would space a signature.
pub(crate) fn readable(tokens: TokenStream) -> String {
    let mut text = String::new();
    let mut glue = Glue::None;
    write(tokens, &mut text, &mut glue);
    text
}

/// What stands between the last token and the next.
#[derive(Clone, Copy, PartialEq)]
enum Glue {
    /// Nothing, whatever comes.
    None,
    /// A space before a word.
    Word,
    /// A space before anything but closing punctuation.
    Space,
}

fn write(tokens: TokenStream, text: &mut String, glue: &mut Glue) {
    for token in tokens {
        match token {
            TokenTree::Ident(word) => put_word(&word.to_string(), text, glue),
            TokenTree::Literal(literal) => put_word(&literal.to_string(), text, glue),
            TokenTree::Punct(punct) => put_punct(punct.as_char(), punct.spacing(), text, glue),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                if group.delimiter() == Delimiter::None {
                    write(group.stream(), text, glue);
                    continue;
                }
                if *glue == Glue::Space {
                    text.push(' ');
                }
                text.push_str(open);
                *glue = Glue::None;
                write(group.stream(), text, glue);
                while text.ends_with([' ', ',']) {
                    text.pop();
                }
                text.push_str(close);
                *glue = Glue::Word;
            }
        }
    }
}

fn put_word(word: &str, text: &mut String, glue: &mut Glue) {
    if *glue != Glue::None {
        text.push(' ');
    }
    text.push_str(word);
    *glue = if matches!(word, "dyn" | "impl" | "mut" | "const" | "as" | "async" | "for") {
        Glue::Space
    } else {
        Glue::Word
    };
}

fn put_punct(punct: char, spacing: Spacing, text: &mut String, glue: &mut Glue) {
    let spaced_before = match punct {
        '-' | '=' | '+' | '{' => *glue != Glue::None && !text.ends_with(['-', '=']),
        '&' | '#' | '*' | '\'' | '?' | '!' | ':' => *glue == Glue::Space,
        _ => false,
    };
    if spaced_before && !text.ends_with(' ') {
        text.push(' ');
    }
    let arrow = punct == '>' && text.ends_with(['-', '=']);
    let path = punct == ':' && text.ends_with(':');
    text.push(punct);
    *glue = match punct {
        ',' | ';' | '+' => Glue::Space,
        ':' if spacing == Spacing::Joint || path => Glue::None,
        ':' => Glue::Space,
        '=' if spacing == Spacing::Alone => Glue::Space,
        '>' if arrow => Glue::Space,
        '>' => Glue::Word,
        _ => Glue::None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn signatures_read_as_they_were_written() {
        let cases = [
            (
                quote!(async fn ship(order_id: i64, sku: &str, #[inject] http: &reqwest::Client) -> anyhow::Result<()>),
                "async fn ship(order_id: i64, sku: &str, #[inject] http: &reqwest::Client) -> anyhow::Result<()>",
            ),
            (
                quote!(fn f(a: Option<&[u8]>, b: [u8; 4], c: (i64, String),)),
                "fn f(a: Option<&[u8]>, b: [u8; 4], c: (i64, String))",
            ),
            (
                quote!(fn f(#[tx] tx: &mut TaskTx<'_, C>) -> Result<(), Box<dyn Error + Send>>),
                "fn f(#[tx] tx: &mut TaskTx<'_, C>) -> Result<(), Box<dyn Error + Send>>",
            ),
            (quote!(fn r#type(a: HashMap<String, Vec<i64>>)), "fn r#type(a: HashMap<String, Vec<i64>>)"),
            (quote!(a: &'static str, b: ::std::string::String), "a: &'static str, b: ::std::string::String"),
        ];
        for (tokens, text) in cases {
            assert_eq!(readable(tokens), text);
        }
    }
}
