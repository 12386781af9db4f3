//! Runs a program on a database of its own: `on_fresh sqlite|postgres|mysql PROGRAM [ARGUMENT..]`, where the argument `URL`
//! becomes the database's address. The database is removed when the program has ended.

// A panic is how a test speaks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Command, ExitCode};

use consistency_tests::backend::Backend;
use consistency_tests::database::Database;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, program, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: on_fresh sqlite|postgres|mysql PROGRAM [ARGUMENT..]");
        return ExitCode::from(2);
    };
    let Some(backend) = Backend::of_key(backend) else {
        eprintln!("`{backend}` is no database; say sqlite, postgres or mysql");
        return ExitCode::from(2);
    };
    let database = Database::fresh(backend).unwrap_or_else(|reason| panic!("{reason}"));
    let url = database.url();
    let arguments = rest.iter().map(|argument| if argument == "URL" { &url } else { argument });
    let status = Command::new(program).args(arguments).status().unwrap_or_else(|error| panic!("{program}: {error}"));
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
