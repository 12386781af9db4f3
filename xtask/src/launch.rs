//! Builds the programs that measure, and runs one of them on a database of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Outcome;
use crate::database::Database;
use crate::workspace::{cargo, root};

/// The programs are built with every database and both worlds of connections.
const FEATURES: &str = "sqlite,postgres,mysql,async-sqlite,async-postgres,async-mysql";

/// What a program left behind.
pub(crate) struct Ended {
    /// Whether it ended well.
    pub(crate) good: bool,
    /// The last line of JSON it printed.
    pub(crate) figures: Option<Value>,
}

/// Builds the programs for release.
pub(crate) fn build() -> Outcome {
    let tests = ["build", "--release", "-p", "consistency-tests", "--bins", "--features", FEATURES];
    let measure = ["build", "--release", "-p", "measure", "--features", "sqlite,postgres,mysql,async-postgres"];
    for arguments in [&tests[..], &measure[..]] {
        if !cargo().args(arguments).status()?.success() {
            return Err("the programs do not compile".into());
        }
    }
    Ok(true)
}

/// Where the other libraries are measured, apart from the workspace.
const PEERS: &str = "measure/peers";

/// Builds what measures other libraries.
pub(crate) fn build_peers() -> Outcome {
    let mut build = cargo();
    build.args(["build", "--release"]).current_dir(root().join(PEERS)).arg("--target-dir").arg(target().join("peers"));
    if !build.status()?.success() {
        return Err(format!("{PEERS} does not compile").into());
    }
    Ok(true)
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A program that was built.
pub(crate) fn program(name: &str) -> Command {
    Command::new(target().join("release").join(name))
}

/// What measures another library, with these arguments, on a database that is made for it.
pub(crate) fn peer(database: &Database, arguments: impl IntoIterator<Item = String>) -> Command {
    let mut command = program("on_fresh");
    command.arg(database.feature).arg(target().join("peers/release/measure-peers")).arg("URL").args(arguments);
    command
}

/// `measure` with these arguments, on a database that is made for it and removed afterwards.
pub(crate) fn measure(database: &Database, arguments: impl IntoIterator<Item = String>) -> Command {
    let mut command = program("on_fresh");
    command.arg(database.feature).arg(program("measure").get_program()).arg("URL").args(arguments);
    command
}

/// Runs it to its end, and passes on what it prints.
pub(crate) fn run(mut command: Command, database: &Database) -> std::io::Result<Ended> {
    if let Some((variable, url)) = database.variable() {
        command.env(variable, url);
    }
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut figures = None;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            if line.starts_with('{') {
                figures = serde_json::from_str(&line).ok();
            }
        }
    }
    Ok(Ended { good: child.wait()?.success(), figures })
}
