//! A storm: processes that store and run tasks on one database, killed again and again; then a verdict on all that is left.
//!
//! `storm run sqlite|postgres|mysql [seconds=N] [kills=N] [tasks=N] [processes=N] [rate=N] [seed=N]`
//!
//! Nodes have default settings. The storm lasts until all three of its seconds, kills and committed tasks are reached, and at
//! most three times its seconds. It ends with a line of JSON, and with exit code 1 when anything was lost, doubled or stuck.

// A panic is how a test speaks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod found;
mod ledger;
mod node;
mod orders;
mod storm;
mod tasks;
mod verdict;

use std::process::ExitCode;
use std::str::FromStr;

use consistency_tests::backend::Backend;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["node", url, folder, process, rate, seed] => {
            node::run(url, folder.as_ref(), number(process), number(rate), number(seed));
            ExitCode::SUCCESS
        }
        ["run", backend, rest @ ..] => {
            let backend = Backend::of_key(backend)
                .unwrap_or_else(|| panic!("`{backend}` is no database; say sqlite, postgres or mysql"));
            let verdict = storm::run(backend, &storm::Size::from_words(rest));
            println!("{}", verdict.json());
            if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        _ => {
            eprintln!(
                "usage: storm run sqlite|postgres|mysql [seconds=N] [kills=N] [tasks=N] [processes=N] [rate=N] [seed=N]"
            );
            ExitCode::from(2)
        }
    }
}

/// A number among the arguments.
fn number<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}
