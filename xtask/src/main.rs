//! The workspace's own commands: `cargo xtask test`, `reliability`, `performance`, `instructions`, `tidy`, `features`, `msrv` and `package`.

mod database;
mod features;
mod instructions;
mod launch;
mod library;
mod markdown;
mod msrv;
mod package;
mod performance;
mod programs;
mod reliability;
mod report;
mod scenarios;
mod sources;
mod statements;
mod states;
mod test;
mod tidy;
mod unsafety;
mod workspace;

use std::process::ExitCode;

/// What a command answers: `Ok(false)` is a failure it has explained already.
type Outcome = Result<bool, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: cargo xtask <command>

  test [--require all|sqlite,postgres,mysql] [-- ARGUMENTS FOR cargo test]
           all tests: first as built by default, with SQLite, then on every database whose server
           is found, on Diesel's own connections where their client library is there and on those
           of diesel-async, which need none; with --require, a missing server or library is a
           failure instead of a skip
  reliability [--parts NAME,..] [--databases sqlite,postgres,mysql] [--minutes N]
           the long form of what shows that nothing is lost: storms of kills, steady load, drains,
           outages, failovers; about two hours; writes its figures into docs/reliability.md
  performance [--cases NAME,..] [--databases sqlite,postgres,mysql] [--rounds N]
           what the library reaches beside the same work written by hand, three rounds, about an hour;
           writes its figures into docs/performance.md
  instructions [--write]
           instructions per task, counted by valgrind, beside what is written down
  tidy     rules no compiler checks: module headers, file lengths, SQL without values, `unsafe`,
           documents, the table of scenarios
  features the library with each feature alone and in pairs, and what promises no C library has none
  msrv     no dependency of the published crates asks for a newer Rust than the workspace promises
  package  packs the published crates and compiles what was packed";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_str() {
        "test" => test::run(&rest),
        "reliability" => reliability::run(&rest),
        "performance" => performance::run(&rest),
        "instructions" => instructions::run(&rest),
        "tidy" if rest.is_empty() => tidy::run(),
        "features" if rest.is_empty() => features::run(),
        "msrv" if rest.is_empty() => msrv::run(),
        "package" if rest.is_empty() => package::run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask {command}: {error}");
            ExitCode::FAILURE
        }
    }
}
