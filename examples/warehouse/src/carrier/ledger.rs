//! The carrier's ledger: one line per accepted parcel, appended before the answer goes out and read back at the start.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::mood::Mood;

/// One line per accepted parcel: `order_no idempotency_key n`, n counting the lines.
const ACCEPTED: &str = "ledger.txt";
/// One line per repetition that was recognized and dropped, in the same form.
const DUPLICATES: &str = "duplicates.txt";

/// What the carrier counted. Parcels and duplicates are counted over all runs, the rest since this start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CarrierReport {
    /// Accepted parcels.
    pub(crate) parcels: u64,
    /// Repetitions under a known key, dropped.
    pub(crate) duplicates: u64,
    /// Parcels for an order that already had one under another key; the outbox must never cause one.
    pub(crate) double_parcels: u64,
    /// Visits answered with 500.
    pub(crate) broken: u64,
    /// Visits answered slowly.
    pub(crate) slow: u64,
    /// Visits recorded whose answer came too late.
    pub(crate) forgetful: u64,
}

/// The ledger on disk, and what it says, in memory.
#[derive(Debug)]
pub(super) struct Ledger {
    accepted: File,
    duplicates: File,
    keys: HashSet<String>,
    orders: HashSet<i64>,
    /// Visits per key since this start.
    arrivals: HashMap<String, u32>,
    report: CarrierReport,
}

impl Ledger {
    /// Opens the ledger in `directory`, new or as a former run left it.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let (accepted, accepted_text) = open_appending(&directory.join(ACCEPTED))?;
        let (duplicates, duplicates_text) = open_appending(&directory.join(DUPLICATES))?;
        let mut ledger = Self {
            accepted,
            duplicates,
            keys: HashSet::new(),
            orders: HashSet::new(),
            arrivals: HashMap::new(),
            report: CarrierReport::default(),
        };
        for (index, line) in accepted_text.lines().enumerate() {
            let entry = parse(line).with_context(|| format!("{ACCEPTED}, line {}: `{line}` is no entry", index + 1))?;
            ledger.remember(entry.0, entry.1);
        }
        ledger.report.duplicates = duplicates_text.lines().count() as u64;
        Ok(ledger)
    }

    /// Whether no parcel was ever accepted.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Counts a visit under `key` and the mood that `draw` gives it by its number, from 1.
    pub(super) fn arrival(&mut self, key: &str, draw: impl FnOnce(u32) -> Mood) -> Mood {
        let arrivals = self.arrivals.entry(key.to_owned()).or_default();
        *arrivals += 1;
        let mood = draw(*arrivals);
        match mood {
            Mood::Willing => {}
            Mood::Slow => self.report.slow += 1,
            Mood::Broken => self.report.broken += 1,
            Mood::Forgetful => self.report.forgetful += 1,
        }
        mood
    }

    /// Writes the parcel down, or drops it as a duplicate when its key is known.
    ///
    /// # Errors
    /// What the disk said; then nothing was accepted.
    pub(super) fn accept(&mut self, order_no: i64, key: &str) -> io::Result<()> {
        if self.keys.contains(key) {
            let count = self.report.duplicates + 1;
            self.duplicates.write_all(format!("{order_no} {key} {count}\n").as_bytes())?;
            self.report.duplicates = count;
        } else {
            self.accepted.write_all(format!("{order_no} {key} {}\n", self.report.parcels + 1).as_bytes())?;
            self.remember(order_no, key);
        }
        Ok(())
    }

    /// The counts so far.
    pub(super) fn report(&self) -> CarrierReport {
        self.report
    }

    fn remember(&mut self, order_no: i64, key: &str) {
        self.keys.insert(key.to_owned());
        self.report.parcels += 1;
        if !self.orders.insert(order_no) {
            self.report.double_parcels += 1;
        }
    }
}

/// Opens `path` for appending and reads what is in it, less a last line that a crash cut short.
fn open_appending(path: &Path) -> Result<(File, String)> {
    let name = path.display();
    let file =
        OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("cannot write {name}"))?;
    // A carrier whose parent was killed may still be writing its last line: wait for its end.
    file.lock().with_context(|| format!("cannot lock {name}"))?;
    let mut text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    if whole < text.len() {
        text.truncate(whole);
        file.set_len(whole as u64).with_context(|| format!("cannot shorten {name}"))?;
    }
    Ok((file, text))
}

/// Reads `order_no idempotency_key n`.
fn parse(line: &str) -> Result<(i64, &str)> {
    let parts: Vec<&str> = line.split(' ').collect();
    ensure!(parts.len() == 3, "expected three words");
    Ok((parts[0].parse().context("the order number")?, parts[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of this test's own, removed at its end.
    struct Directory(std::path::PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("warehouse-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_known_key_is_dropped_even_after_a_restart() {
        let directory = Directory::new("restart");
        let mut ledger = Ledger::open(&directory.0).unwrap();
        assert!(ledger.is_empty());
        ledger.accept(1, "a").unwrap();
        ledger.accept(2, "b").unwrap();
        ledger.accept(1, "a").unwrap();
        drop(ledger);

        let mut ledger = Ledger::open(&directory.0).unwrap();
        ledger.accept(2, "b").unwrap();
        ledger.accept(2, "c").unwrap();
        let report = ledger.report();
        assert_eq!((report.parcels, report.duplicates, report.double_parcels), (3, 2, 1));
        assert_eq!(fs::read_to_string(directory.0.join(ACCEPTED)).unwrap(), "1 a 1\n2 b 2\n2 c 3\n");
        assert_eq!(fs::read_to_string(directory.0.join(DUPLICATES)).unwrap(), "1 a 1\n2 b 2\n");
    }

    #[test]
    fn an_entry_cut_short_was_never_accepted() {
        let directory = Directory::new("cut");
        fs::write(directory.0.join(ACCEPTED), "1 a 1\n2 b").unwrap();
        let mut ledger = Ledger::open(&directory.0).unwrap();
        assert_eq!(ledger.report().parcels, 1);
        ledger.accept(2, "b").unwrap();
        assert_eq!(fs::read_to_string(directory.0.join(ACCEPTED)).unwrap(), "1 a 1\n2 b 2\n");
    }

    #[test]
    fn a_foreign_file_is_refused_by_line() {
        let directory = Directory::new("foreign");
        fs::write(directory.0.join(ACCEPTED), "1 a 1\nhello\n").unwrap();
        let error = Ledger::open(&directory.0).unwrap_err().to_string();
        assert_eq!(error, "ledger.txt, line 2: `hello` is no entry");
    }
}
