//! The measurements that were made: kept line by line, the newest rounds of each.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::database::Database;
use crate::launch;
use crate::performance::cases::PEER;
use crate::workspace::{list, text, today};

/// A measurement that can be repeated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    database: String,
    asked: String,
    by: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} by {}", self.asked, self.database, self.by)
    }
}

impl Run {
    pub(crate) fn of(database: &str, asked: &str, by: &str) -> Self {
        Self { database: database.to_owned(), asked: asked.to_owned(), by: by.to_owned() }
    }

    /// How it is made on a database of this kind.
    pub(crate) fn command(&self, database: &Database) -> Command {
        let words = self.asked.split(' ').map(str::to_owned);
        if self.by == PEER {
            return launch::peer(database, words);
        }
        launch::measure(database, words.chain(["--by".to_owned(), self.by.clone()]))
    }
}

/// The measurements by what was asked, with the figures of each round.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    made: BTreeMap<Run, Vec<Value>>,
}

impl Runs {
    /// Those of earlier, none if there is no such file.
    pub(crate) fn read(file: &Path) -> Result<Self, Box<dyn Error>> {
        let mut runs = Runs::default();
        let kept: Value = match std::fs::read_to_string(file) {
            Ok(kept) => serde_json::from_str(&kept)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
            Err(error) => return Err(error.into()),
        };
        for kept in list(&kept) {
            let run = Run::of(text(&kept["database"]), text(&kept["asked"]), text(&kept["by"]));
            runs.made.insert(run, list(&kept["rounds"]).to_vec());
        }
        Ok(runs)
    }

    /// Keeps the figures of a round; the first round takes the place of what was measured before.
    pub(crate) fn keep(&mut self, run: Run, round: usize, printed: &Value) -> Result<(), Box<dyn Error>> {
        let rounds = self.made.entry(run).or_default();
        if round == 0 {
            rounds.clear();
        }
        let mut figures = printed["figures"].clone();
        figures["date"] = today()?.into();
        rounds.push(figures);
        Ok(())
    }

    pub(crate) fn write(&self, file: &Path) -> std::io::Result<()> {
        let line = |(run, rounds): (&Run, &Vec<Value>)| {
            format!("  {}", json!({ "database": run.database, "asked": run.asked, "by": run.by, "rounds": rounds }))
        };
        let lines: Vec<String> = self.made.iter().map(line).collect();
        std::fs::write(file, format!("[\n{}\n]\n", lines.join(",\n")))
    }

    /// A figure of every round.
    pub(crate) fn figures(&self, run: &Run, figure: &str) -> Vec<f64> {
        self.made.get(run).into_iter().flatten().filter_map(|round| round.pointer(figure)?.as_f64()).collect()
    }

    /// The figures of the last round, whole.
    pub(crate) fn last(&self, run: &Run) -> Option<&Value> {
        self.made.get(run)?.last()
    }
}

/// A figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, least, most })
    }

    /// Of what the one reached for each that the other did, round by round.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        Self::of(
            ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
    }

    #[test]
    fn a_ratio_compares_what_was_measured_in_the_same_round() {
        let ratios = Spread::of_ratios(&[1.0, 4.0, 9.0], &[2.0, 4.0, 3.0]);
        assert_eq!(ratios, Some(Spread { median: 1.0, least: 0.5, most: 3.0 }));
    }
}
