//! `cargo xtask reliability`: the long form of everything that shows the promises kept, and its figures in one document.
//!
//! The short form of each part is among the tests. Every part that is a program prints its figures as a line of JSON; every
//! part that is a test passes or fails.

use std::time::Instant;

use crate::Outcome;
use crate::database::{ALL, Database};
use crate::launch::{self, Ended};
use crate::report::{self, Tested};
use crate::workspace::{cargo, root};

/// Asks tests for their long form.
const LONG: &str = "CONSISTENCY_TEST_LONG";

/// A program of the workspace that runs once per database.
struct Program {
    part: &'static str,
    arguments: fn(u64) -> Vec<String>,
    on: &'static [&'static str],
}

const EVERY: &[&str] = &["sqlite", "postgres", "mysql"];

/// The programs, with what they are asked for when a storm lasts so many seconds. `measure` runs on a database of its own.
const PROGRAMS: [Program; 6] = [
    Program { part: "storm", arguments: storm, on: EVERY },
    Program { part: "steady", arguments: |seconds| words(&format!("steady --seconds {seconds}")), on: EVERY },
    Program { part: "drain", arguments: |_| words("drain --tasks 1000000"), on: EVERY },
    Program { part: "recovery", arguments: |_| words("recovery"), on: EVERY },
    Program { part: "idle", arguments: |_| words("idle"), on: EVERY },
    Program {
        part: "snapshot",
        arguments: |seconds| words(&format!("open-snapshot --seconds {seconds}")),
        on: &["postgres"],
    },
];

/// The files of tests that have a long form: they ask which one is wanted, themselves or for the cases they draw.
fn long_tests() -> Result<Vec<String>, std::io::Error> {
    let mut tests = Vec::new();
    for file in std::fs::read_dir(root().join("tests").join("tests"))? {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        if text.contains("is_long()") || text.contains("some_of(") {
            tests.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    tests.sort();
    Ok(tests)
}

fn storm(seconds: u64) -> Vec<String> {
    let kills = (seconds / 2).max(1);
    let tasks = seconds * 1_000_000 / 600;
    words(&format!("seconds={seconds} kills={kills} tasks={tasks}"))
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// What is asked for.
struct Wanted {
    parts: Option<Vec<String>>,
    databases: Vec<&'static Database>,
    seconds: u64,
}

impl Wanted {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut wanted = Wanted { parts: None, databases: ALL.iter().collect(), seconds: 600 };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("`{argument}` needs a value"))?;
            match argument.as_str() {
                "--parts" => wanted.parts = Some(value.split(',').map(str::to_owned).collect()),
                "--databases" => wanted.databases = Database::named(value)?,
                "--minutes" => {
                    let minutes: u64 = value.parse().map_err(|_| format!("`{value}` is no number of minutes"))?;
                    wanted.seconds = minutes * 60;
                }
                other => return Err(format!("`{other}` is not understood")),
            }
        }
        Ok(wanted)
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.as_ref().is_none_or(|parts| parts.iter().any(|wanted| wanted == part))
    }
}

/// Runs the parts one after the other, and writes down what each held.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let wanted = Wanted::read(arguments)?;
    launch::build()?;
    let mut all_good = true;
    for program in PROGRAMS.iter().filter(|program| wanted.wants(program.part)) {
        for database in wanted.databases.iter().filter(|database| program.on.contains(&database.feature)) {
            println!("== {} on {}", program.part, database.title);
            let Ended { good, figures } = run_program(program, database, wanted.seconds)?;
            all_good &= good;
            match figures {
                Some(figures) => report::keep(&figures)?,
                None => {
                    all_good = false;
                    println!("{} on {} gave no figures", program.part, database.title);
                }
            }
        }
    }
    for test in long_tests()?.into_iter().filter(|test| wanted.wants(test)) {
        println!("== {test}");
        let tested = run_test(test)?;
        all_good &= tested.passed;
        report::keep(&tested.to_json())?;
    }
    report::write()?;
    println!("{}", report::summary()?);
    Ok(all_good)
}

fn run_program(part: &Program, database: &Database, seconds: u64) -> std::io::Result<Ended> {
    let begun = Instant::now();
    let arguments = (part.arguments)(seconds);
    let command = if part.part == "storm" {
        let mut command = launch::program("storm");
        command.args(["run", database.feature]).args(arguments);
        command
    } else {
        launch::measure(database, arguments)
    };
    let ended = launch::run(command, database)?;
    println!("-- {} on {}: {} s, {}", part.part, database.title, begun.elapsed().as_secs(), verdict(ended.good));
    Ok(ended)
}

fn run_test(test: String) -> Result<Tested, std::io::Error> {
    let begun = Instant::now();
    let mut command = cargo();
    command.args(["test", "-p", "consistency-tests", "--all-features", "--test", &test, "--", "--nocapture"]);
    command.env(LONG, "1").env("CONSISTENCY_TEST_REQUIRE", "all").env("CONSISTENCY_TEST_REQUIRE_PROGRAMS", "1");
    for (variable, url) in ALL.iter().filter_map(Database::variable) {
        command.env(variable, url);
    }
    let passed = command.status()?.success();
    println!("-- {test}: {} s, {}", begun.elapsed().as_secs(), verdict(passed));
    Ok(Tested { test, passed, seconds: begun.elapsed().as_secs() })
}

fn verdict(good: bool) -> &'static str {
    if good { "good" } else { "FAILED" }
}
