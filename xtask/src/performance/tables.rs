//! The figures as tables: each case beside its limit and its target, what work costs, how cost grows.

use std::fmt::Write as _;

use serde_json::Value;

use crate::database::{ALL, Database};
use crate::performance::cases::{CASES, Case, GROWTH, HAND, OUTBOX, PEER, Target};
use crate::performance::runs::{Run, Runs, Spread};

/// The chart's file, beside the document.
pub(crate) const CHART: &str = "performance.svg";
/// By whom the asynchronous figures are.
const ASYNC_OUTBOX: &str = "async-outbox";

impl Case {
    /// The figure of every round, by whom.
    pub(crate) fn figures(&self, runs: &Runs, by: &str) -> Vec<f64> {
        runs.figures(&Run::of(self.database, self.arguments, by), self.figure)
    }

    /// What the library reaches for each that was reached by hand.
    pub(crate) fn ratio(&self, runs: &Runs) -> Option<Spread> {
        Spread::of_ratios(&self.figures(runs, OUTBOX), &self.figures(runs, HAND))
    }

    /// What is reached of the target: 1 or more where it is met.
    fn reached(&self, runs: &Runs, target: Target) -> Option<f64> {
        let ours = self.figures(runs, OUTBOX);
        let of = |theirs: Vec<f64>, ours: &[f64], share: f64| Some(Spread::of_ratios(ours, &theirs)?.median / share);
        match target {
            Target::OfHand(share) => of(self.figures(runs, HAND), &ours, share),
            Target::OfPeer(times) => of(self.figures(runs, PEER), &ours, times),
            Target::AsyncOfHand(share) => of(self.figures(runs, HAND), &self.figures(runs, ASYNC_OUTBOX), share),
            Target::OfCase(name, share) => {
                let other = CASES.iter().find(|case| case.name == name && case.database == self.database)?;
                of(other.figures(runs, OUTBOX), &ours, share)
            }
            Target::AtLeast(least, of_hand) => {
                let share = of(self.figures(runs, HAND), &ours, least / of_hand).unwrap_or_default();
                Some(share.max(Spread::of(ours)?.median / least))
            }
            Target::AtMost(most) => Some(most / Spread::of(ours)?.median.max(most / 1000.0)),
        }
    }
}

impl Target {
    fn shown(self, unit: &str) -> String {
        match self {
            Target::OfHand(share) => format!("≥ {share} of by hand"),
            Target::OfPeer(times) => format!("≥ {times} × {PEER}"),
            Target::AsyncOfHand(share) => format!("async ≥ {share} of by hand"),
            Target::OfCase(name, share) => format!("≥ {share} of {name}"),
            Target::AtLeast(least, of_hand) => {
                format!("≥ {} {unit}, or {:.2} of by hand", number(least), least / of_hand)
            }
            Target::AtMost(most) => format!("≤ {} {unit}", number(most)),
        }
    }
}

/// Every table, for each database.
pub(crate) fn all(runs: &Runs) -> String {
    let mut tables = format!("![What the library reaches of the same work written by hand]({CHART})\n\n");
    // Writing to a String does not fail.
    for database in &ALL {
        let _ = writeln!(tables, "### {}\n\n{}", database.title, beside_the_limit(runs, database));
        let _ = writeln!(tables, "{}", costs(runs, database));
        let _ = writeln!(tables, "{}", growth(runs, database));
    }
    tables
}

fn beside_the_limit(runs: &Runs, database: &Database) -> String {
    let mut lines = vec![row(["", "case", "by hand", "by others", "ours", "ours / by hand", "target", "met"])];
    for case in CASES.iter().filter(|case| case.database == database.feature) {
        let Some(ours) = Spread::of(case.figures(runs, OUTBOX)) else { continue };
        let others = case.by.iter().filter(|by| ![HAND, OUTBOX].contains(by));
        let others: Vec<String> = others
            .filter_map(|by| Some(format!("{by} {}", spread(Spread::of(case.figures(runs, by))?, case.unit))))
            .collect();
        let met = case.targets.iter().filter_map(|target| case.reached(runs, *target));
        let met: Vec<String> =
            met.map(|reached| if reached >= 1.0 { "yes".to_owned() } else { missed(reached) }).collect();
        let targets: Vec<String> = case.targets.iter().map(|target| target.shown(case.unit)).collect();
        lines.push(row([
            case.name,
            case.title,
            &Spread::of(case.figures(runs, HAND)).map_or_else(String::new, |hand| spread(hand, case.unit)),
            &others.join(", "),
            &spread(ours, case.unit),
            &case.ratio(runs).map_or_else(String::new, ratio),
            &targets.join("; "),
            &met.join("; "),
        ]));
    }
    table(lines)
}

fn missed(reached: f64) -> String {
    format!("no, by {:.0} %", (1.0 - reached) * 100.0)
}

/// What the server was asked for each task, and what was left behind.
fn costs(runs: &Runs, database: &Database) -> String {
    let mut lines = vec![row([
        "",
        "by",
        "commits per task",
        "log bytes per task",
        "dead rows left",
        "most memory, MiB",
        "p50, ms",
        "p95, ms",
        "p99, ms",
    ])];
    for case in CASES.iter().filter(|case| case.database == database.feature && !case.figure.ends_with("p99")) {
        for by in case.by {
            let Some(last) = runs.last(&Run::of(case.database, case.arguments, by)) else { continue };
            let shown = |pointer: &str| last.pointer(pointer).and_then(Value::as_f64).map_or_else(String::new, number);
            let time =
                |at: &str| ["/commit_ms/", "/commit_to_start_ms/"].map(|times| shown(&format!("{times}{at}"))).concat();
            let memory = last.pointer("/most_memory_kib").and_then(Value::as_f64).map(|kib| number(kib / 1024.0));
            lines.push(row([
                case.name,
                by,
                &shown("/costs/commits_per_task"),
                &shown("/costs/log_bytes_per_task"),
                &shown("/costs/dead_rows"),
                &memory.unwrap_or_default(),
                &time("p50"),
                &time("p95"),
                &time("p99"),
            ]));
        }
    }
    table(lines)
}

fn growth(runs: &Runs, database: &Database) -> String {
    let mut lines = vec![row(["drain", "tasks per second", "most memory, MiB"])];
    for (title, arguments) in GROWTH {
        let run = Run::of(database.feature, arguments, OUTBOX);
        let Some(rate) = Spread::of(runs.figures(&run, "/run_per_second")) else { continue };
        let memory = Spread::of(runs.figures(&run, "/most_memory_kib")).map(|kib| number(kib.most / 1024.0));
        lines.push(row([title, &spread(rate, "/s"), &memory.unwrap_or_default()]));
    }
    table(lines)
}

/// Which targets are met, in a line each that is missed.
pub(crate) fn summary(runs: &Runs) -> String {
    let mut met = 0;
    let mut missing = Vec::new();
    for case in CASES {
        for target in case.targets {
            match case.reached(runs, *target) {
                Some(reached) if reached >= 1.0 => met += 1,
                Some(reached) => {
                    missing.push(format!(
                        "{} on {}: {}: {}",
                        case.name,
                        case.database,
                        target.shown(case.unit),
                        missed(reached)
                    ));
                }
                None => missing.push(format!("{} on {}: not measured", case.name, case.database)),
            }
        }
    }
    format!("targets met: {met}; missed: {}\n{}", missing.len(), missing.join("\n"))
}

/// Median, and from least to most.
fn spread(spread: Spread, unit: &str) -> String {
    let (median, least, most) = (number(spread.median), number(spread.least), number(spread.most));
    if least == most { format!("{median} {unit}") } else { format!("{median} {unit} ({least} to {most})") }
}

fn ratio(ratio: Spread) -> String {
    let noise = if ratio.least <= 1.0 && ratio.most >= 1.0 && ratio.least < ratio.most { ", within noise" } else { "" };
    format!("{:.2} ({:.2} to {:.2}{noise})", ratio.median, ratio.least, ratio.most)
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        small if small < 0.1 => 4,
        small if small < 10.0 => 2,
        _ => 0,
    };
    let plain = format!("{value:.digits$}");
    if digits > 0 || plain.len() < 5 {
        return plain;
    }
    let mut grouped = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Nothing of only a head; no column that is empty.
fn table(lines: Vec<Vec<String>>) -> String {
    if lines.len() < 2 {
        return String::new();
    }
    let filled = |at: &usize| lines[1..].iter().any(|line| !line[*at].is_empty());
    let columns: Vec<usize> = (0..lines[0].len()).filter(filled).collect();
    let mut table = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|at| line[*at].as_str()).collect();
        // Writing to a String does not fail.
        let _ = writeln!(table, "| {} |", cells.join(" | "));
        if number == 0 {
            let _ = writeln!(table, "|{}", "---|".repeat(cells.len()));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_digits_that_mean_something() {
        assert_eq!(
            ["0", "0.0312", "0.85", "42", "1234", "65,536", "1,050,000"].map(str::to_owned),
            [0.0, 0.031_23, 0.853, 42.4, 1234.0, 65_536.0, 1_050_000.0].map(number)
        );
    }

    #[test]
    fn a_column_without_figures_is_left_out() {
        assert_eq!(table(vec![row(["a", "b"]), row(["1", ""])]), "| a |\n|---|\n| 1 |\n");
        assert_eq!(table(vec![row(["a", "b"])]), "");
    }
}
