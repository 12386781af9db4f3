//! `cargo xtask test`: every test on every database this machine has, and a plain word about those it has not.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use crate::Outcome;
use crate::database::{ALL, Database, Found};
use crate::programs;
use crate::workspace::{cargo, list, metadata, text};

/// Databases the tests may not skip, for the tests themselves.
const REQUIRE: &str = "CONSISTENCY_TEST_REQUIRE";
/// With `1` they may not skip either what needs a program or a right that this machine lacks.
const REQUIRE_PROGRAMS: &str = "CONSISTENCY_TEST_REQUIRE_PROGRAMS";
/// The feature of the database that somebody gets who names none.
const DEFAULT: &str = "sqlite";

/// Runs the tests; `arguments` as in the usage text.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let (required, for_cargo) = read(arguments)?;
    let found: Vec<(&Database, Found)> = ALL.iter().map(|database| (database, database.look())).collect();
    print_table(&found);

    let short: Vec<_> =
        found.iter().filter(|(database, _)| required.contains(database.feature)).flat_map(reasons).collect();
    if !short.is_empty() {
        println!("required, but not testable here:");
        short.iter().for_each(|reason| println!("  {reason}"));
        return Ok(false);
    }

    let features: Vec<&str> = found.iter().flat_map(|(_, found)| found.features.iter().copied()).collect();
    if features.is_empty() {
        return Err("no database can be tested on this machine".into());
    }
    let answering = || found.iter().filter(|(_, found)| !found.features.is_empty());
    let programs = if required.is_empty() { "0" } else { "1" };
    let require: Vec<&str> = match required.is_empty() {
        true => answering().map(|(database, _)| database.feature).collect(),
        false => required.into_iter().collect(),
    };
    let (mut passed, mut compiling) = (true, Vec::new());
    for pass in Pass::ALL {
        let has = pass.features(&features);
        if has.is_empty() {
            continue;
        }
        let require = require.iter().copied().filter(|database| pass == Pass::Everything || *database == DEFAULT);
        let require = require.collect::<Vec<_>>().join(",");
        let packages = packages_with(&has, pass)?;
        let command = |more: &[&str]| {
            let mut command = cargo();
            command.args(["test", "--no-default-features"]).args(&packages).args(more);
            command.env(REQUIRE, &require).env(REQUIRE_PROGRAMS, programs);
            for (variable, url) in found.iter().filter_map(|(database, _)| database.variable()) {
                command.env(variable, url);
            }
            command
        };
        println!("cargo test with {}, {REQUIRE}={require}\n", pass.title());
        passed &= match for_cargo {
            [] => {
                let (well, still_compiling) = run_all(pass, command)?;
                compiling.extend(still_compiling);
                well
            }
            some => command(&some.iter().map(String::as_str).collect::<Vec<_>>()).status()?.success(),
        };
        println!();
    }
    for compiling in compiling {
        passed &= wait_for(compiling)?;
    }

    found.iter().flat_map(reasons).chain(programs::missing()).for_each(|reason| println!("skipped: {reason}"));
    let tested = answering().map(|(database, _)| database.title).collect::<Vec<_>>().join(", ");
    // With arguments for Cargo, perhaps not all of them ran.
    let which =
        if for_cargo.is_empty() { "all tests".to_owned() } else { format!("cargo test {}", for_cargo.join(" ")) };
    if passed {
        println!("passed: {which}, on {tested}");
    } else {
        println!("FAILED: {which}, on {tested}; see above");
    }
    Ok(passed)
}

/// The required databases, and what follows `--`.
fn read(arguments: &[String]) -> Result<(BTreeSet<&str>, &[String]), String> {
    let end = arguments.iter().position(|argument| argument == "--");
    let (ours, for_cargo) = match end {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let mut required = BTreeSet::new();
    let mut ours = ours.iter();
    while let Some(argument) = ours.next() {
        let names = match (argument.as_str(), argument.strip_prefix("--require=")) {
            (_, Some(names)) => names,
            ("--require", None) => {
                ours.next().ok_or("--require needs a value: `all`, or some of `sqlite,postgres,mysql`")?
            }
            (other, None) => {
                return Err(format!("`{other}` is not understood; arguments for `cargo test` follow `--`"));
            }
        };
        for name in names.split(',') {
            match ALL.iter().find(|database| database.feature == name) {
                Some(database) => drop(required.insert(database.feature)),
                None if name == "all" => required.extend(ALL.iter().map(|database| database.feature)),
                None => return Err(format!("--require knows `all`, `sqlite`, `postgres` and `mysql`, not `{name}`")),
            }
        }
    }
    Ok((required, for_cargo))
}

fn print_table(found: &[(&Database, Found)]) {
    let width = found.iter().map(|(_, found)| found.library.len()).max().unwrap_or_default().max(14);
    println!("{:<17} {:<7} {:<width$} server", "database", "tested", "client library");
    for (database, Found { library, server, features, missing }) in found {
        let tested = match (features.is_empty(), missing.is_empty()) {
            (true, _) => "no",
            (false, true) => "yes",
            (false, false) => "in part",
        };
        println!("{:<17} {tested:<7} {library:<width$} {server}", database.title);
    }
    found.iter().flat_map(reasons).for_each(|reason| println!("skipped: {reason}"));
    println!();
}

fn reasons((database, found): &(&Database, Found)) -> Vec<String> {
    found.missing.iter().map(|reason| format!("{}: {reason}", database.title)).collect()
}

/// The tests that compile one small program after the other, and so keep one core busy for minutes: the others run beside them.
const COMPILING: &str = "macro_refusals";
/// The package of the tests that every database has to pass.
const TESTS: &str = "consistency-tests";
/// Those of its files that run with the default features too, which are some of each kind. On SQLite all of them run anyway,
/// with the features of the other pass.
const WITH_DEFAULTS: [&str; 15] = [
    "crash_matrix",
    "enqueue",
    "keys",
    "lifecycle",
    "lost_transactions",
    "migrations",
    "modes",
    "ordering",
    "registration",
    "retries",
    "savepoints",
    "shutdown",
    "store_contract",
    "test_outbox",
    "transactional_tasks",
];

/// The tests that compile, as they run beside all others.
type Compiling = JoinHandle<std::io::Result<Output>>;

/// Builds the tests of a pass, then runs them. Those that compile may go on for long.
fn run_all(pass: Pass, command: impl Fn(&[&str]) -> Command) -> Result<(bool, Option<Compiling>), Box<dyn Error>> {
    let targets = pass.targets()?;
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let compiling = [&targets[..], if targets.is_empty() { &[] } else { &["--test", COMPILING] }].concat();
    if !command(&[&compiling[..], &["--no-run"]].concat()).status()?.success() {
        return Ok((false, None));
    }
    let mut compiling = command(&["--test", COMPILING]);
    let compiling = std::thread::spawn(move || compiling.output());
    let mut passed = command(&[&targets[..], &["--", "--skip", COMPILING]].concat()).status()?.success();
    if !targets.is_empty() {
        passed &= command(&["--doc"]).status()?.success();
    }
    Ok((passed, Some(compiling)))
}

/// Waits for them, and shows what they said.
fn wait_for(compiling: Compiling) -> Result<bool, Box<dyn Error>> {
    let said = compiling.join().map_err(|_| "the thread that ran them panicked")??;
    std::io::stdout().write_all(&said.stdout)?;
    std::io::stderr().write_all(&said.stderr)?;
    Ok(said.status.success())
}

/// One build of the workspace, and the run of its tests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// As somebody builds it who takes the default features: embedded SQLite, nothing of diesel-async.
    Default,
    /// Every database that is there, with Diesel's own connections and those of diesel-async; tasks register the other way.
    Everything,
}

impl Pass {
    const ALL: [Pass; 2] = [Pass::Default, Pass::Everything];

    fn title(self) -> &'static str {
        match self {
            Pass::Default => "the default features",
            Pass::Everything => "everything there is",
        }
    }

    /// Cargo's arguments for what is run besides [`COMPILING`] and the documentation's examples; none for everything there is.
    fn targets(self) -> Result<Vec<String>, Box<dyn Error>> {
        if self == Pass::Everything {
            return Ok(Vec::new());
        }
        let metadata = metadata(&["--no-deps"])?;
        let mut arguments = vec!["--lib".to_owned(), "--bins".to_owned()];
        let mut missing: BTreeSet<&str> = WITH_DEFAULTS.into();
        for package in list(&metadata["packages"]).iter().filter(|package| asynchronous_by_itself(package).is_empty()) {
            let tests = list(&package["targets"])
                .iter()
                .filter(|target| target["kind"][0] == "test" && list(&target["required-features"]).is_empty());
            let names = tests.map(|target| text(&target["name"]));
            let runs = |name: &&str| package["name"] != TESTS || WITH_DEFAULTS.contains(name);
            for name in names.filter(runs) {
                missing.remove(name);
                arguments.extend(["--test".to_owned(), name.to_owned()]);
            }
        }
        if !missing.is_empty() {
            return Err(format!("no files of tests are called {missing:?} any more").into());
        }
        Ok(arguments)
    }

    /// Of the features that can be tested here, those of this pass.
    fn features<'a>(self, testable: &[&'a str]) -> Vec<&'a str> {
        match self {
            Pass::Default => testable.iter().copied().filter(|feature| *feature == DEFAULT).collect(),
            Pass::Everything => testable.iter().copied().chain(["linkme"]).collect(),
        }
    }
}

/// Cargo's arguments for the packages of one pass, with the features each has.
///
/// Cargo builds a dependency once, with every feature somebody asks for: a package that is asynchronous by itself has no place
/// in the default pass. The other has one only for those that it builds in another way.
fn packages_with(features: &[&str], pass: Pass) -> Result<Vec<String>, Box<dyn Error>> {
    let metadata = metadata(&["--no-deps"])?;
    let mut arguments = Vec::new();
    let mut all = Vec::new();
    for package in list(&metadata["packages"]) {
        let has = |feature: &str| package["features"].get(feature).is_some();
        let fixed = asynchronous_by_itself(package);
        let belongs = match pass {
            Pass::Default => fixed.is_empty(),
            Pass::Everything if fixed.is_empty() => features.iter().any(|feature| *feature != DEFAULT && has(feature)),
            Pass::Everything => fixed.iter().all(|feature| features.contains(feature)),
        };
        if belongs {
            let name = text(&package["name"]);
            arguments.extend(["-p".to_owned(), name.to_owned()]);
            all.extend(features.iter().filter(|feature| has(feature)).map(|feature| format!("{name}/{feature}")));
        }
    }
    arguments.extend(["--features".to_owned(), all.join(",")]);
    Ok(arguments)
}

/// The features of diesel-async that a package always has.
fn asynchronous_by_itself(package: &serde_json::Value) -> Vec<&str> {
    let ours = list(&package["dependencies"])
        .iter()
        .filter(|dependency| dependency["name"] == "consistency-diesel" && dependency["optional"] != true);
    let features = ours.flat_map(|dependency| list(&dependency["features"])).map(text);
    features.filter(|feature| feature.starts_with("async-")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_databases_and_cargos_arguments_are_told_apart() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let arguments = words("--require sqlite,mysql -- --test atomicity");
        let (required, for_cargo) = read(&arguments).unwrap();
        assert_eq!(required, BTreeSet::from(["sqlite", "mysql"]));
        assert_eq!(for_cargo, words("--test atomicity"));
        assert_eq!(read(&words("--require=all")).unwrap().0.len(), 3);
        assert!(read(&words("--require oracle")).unwrap_err().contains("oracle"));
        assert!(read(&words("--require")).is_err());
        assert!(read(&words("atomicity")).is_err());
    }
}
