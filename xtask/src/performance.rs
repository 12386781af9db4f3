//! `cargo xtask performance`: what the library reaches beside the same work written by hand, in one document.
//!
//! Every measurement is a process of `measure` on a fresh database. A round runs each of them once, those of one case one after
//! the other, so that what slows the machine down slows them all; the order within a case turns from round to round. A ratio
//! compares two measurements of the same round.

mod cases;
mod chart;
mod runs;
mod tables;

use std::error::Error;
use std::path::PathBuf;

use crate::Outcome;
use crate::database::{ALL, Database};
use crate::launch;
use crate::performance::cases::{CASES, Case, GROWTH, OUTBOX, PEER};
use crate::performance::runs::{Run, Runs};
use crate::workspace::root;

/// What is asked for.
struct Wanted {
    rounds: usize,
    cases: Option<Vec<String>>,
    databases: Vec<&'static Database>,
}

impl Wanted {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut wanted = Wanted { rounds: 3, cases: None, databases: ALL.iter().collect() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("`{argument}` needs a value"))?;
            match argument.as_str() {
                "--rounds" => wanted.rounds = value.parse().map_err(|_| format!("`{value}` is no number of rounds"))?,
                "--cases" => wanted.cases = Some(value.split(',').map(str::to_owned).collect()),
                "--databases" => wanted.databases = Database::named(value)?,
                other => return Err(format!("`{other}` is not understood")),
            }
        }
        Ok(wanted)
    }

    fn wants(&self, case: &str) -> bool {
        self.cases.as_ref().is_none_or(|cases| cases.iter().any(|wanted| wanted == case))
    }

    fn wants_peers(&self) -> bool {
        let chosen = |case: &&Case| self.databases.iter().any(|database| database.feature == case.database);
        CASES.iter().filter(chosen).any(|case| self.wants(case.name) && case.by.contains(&PEER))
    }

    /// The measurements of a round, each once.
    fn runs(&self, database: &Database, round: usize) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut add = |run: Run| {
            if !runs.contains(&run) {
                runs.push(run);
            }
        };
        for case in CASES.iter().filter(|case| case.database == database.feature && self.wants(case.name)) {
            let by = case.by.iter().cycle().skip(round % case.by.len()).take(case.by.len());
            by.for_each(|by| add(Run::of(case.database, case.arguments, by)));
        }
        for (_, arguments) in GROWTH.iter().filter(|_| self.wants("growth")) {
            add(Run::of(database.feature, arguments, OUTBOX));
        }
        runs
    }
}

fn figures_file() -> PathBuf {
    root().join("docs").join("performance.json")
}

/// Measures, and writes the document.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let wanted = Wanted::read(arguments)?;
    launch::build()?;
    if wanted.wants_peers() {
        launch::build_peers()?;
    }
    let mut runs = Runs::read(&figures_file())?;
    let mut all_good = true;
    for round in 0..wanted.rounds {
        for database in &wanted.databases {
            for run in wanted.runs(database, round) {
                println!("== round {} of {}: {run}", round + 1, wanted.rounds);
                let ended = launch::run(run.command(database), database)?;
                match ended.figures.filter(|_| ended.good) {
                    Some(figures) => runs.keep(run, round, &figures)?,
                    None => {
                        all_good = false;
                        println!("-- FAILED: {run}");
                    }
                }
            }
        }
        runs.write(&figures_file())?;
        write_document(&runs)?;
    }
    println!("{}", tables::summary(&runs));
    Ok(all_good)
}

fn write_document(runs: &Runs) -> Result<(), Box<dyn Error>> {
    crate::report::replace_figures("performance.md", "performance", &tables::all(runs))?;
    std::fs::write(root().join("docs").join(tables::CHART), chart::draw(runs)?)?;
    Ok(())
}
