//! The command line.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use crate::USAGE;

/// Who does the work that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The outbox, with default settings.
    Outbox,
    /// The outbox on connections of diesel-async.
    AsyncOutbox,
    /// The same work written by hand.
    Hand,
    /// By hand too, the finished rows deleted.
    HandDeleting,
    /// The business's part of it alone.
    Business,
}

const BY: [(&str, By); 5] = [
    ("outbox", By::Outbox),
    ("async-outbox", By::AsyncOutbox),
    ("hand", By::Hand),
    ("hand-deleting", By::HandDeleting),
    ("business", By::Business),
];

impl By {
    /// What it is called on the command line and in figures.
    pub(crate) fn name(self) -> &'static str {
        BY.iter().find(|(_, by)| *by == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = BY.iter().find(|(name, _)| *name == text);
        found.map(|(_, by)| *by).ok_or_else(|| format!("nobody is called `{text}`\n\n{USAGE}"))
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The database, as the outbox takes it.
    pub(crate) url: String,
    /// What to measure, in this order.
    pub(crate) what: Vec<String>,
    /// How many tasks, if not as many as usual.
    pub(crate) tasks: Option<usize>,
    /// For how long, if not for as long as usual.
    pub(crate) time: Option<Duration>,
    /// Transactions per second.
    pub(crate) rate: usize,
    /// Connections that commit, each on its own thread.
    pub(crate) producers: usize,
    /// Who does it.
    pub(crate) by: By,
    /// Processes that run tasks.
    pub(crate) processes: usize,
    /// Bytes of arguments of a task.
    pub(crate) payload: usize,
    /// How long the body of a task takes.
    pub(crate) body: Duration,
    /// Rows that are due much later, stored before.
    pub(crate) future: usize,
    /// Rows that are finished, stored before.
    pub(crate) finished: usize,
    /// SQLite's `synchronous`, on the caller's connections.
    pub(crate) synchronous: String,
    /// Whether the tables' statistics are made before the work begins.
    pub(crate) analyzed: bool,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut arguments = arguments.into_iter();
        let url = arguments.next().ok_or(USAGE)?;
        let mut options = Self {
            url,
            what: Vec::new(),
            tasks: None,
            time: None,
            rate: 200,
            producers: 0,
            by: By::Outbox,
            processes: 1,
            payload: 110,
            body: Duration::ZERO,
            future: 0,
            finished: 0,
            synchronous: "FULL".to_owned(),
            analyzed: false,
        };
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                match argument.parse() {
                    Ok(tasks) => options.tasks = Some(tasks),
                    Err(_) => options.what.push(argument),
                }
                continue;
            };
            if name == "analyzed" {
                options.analyzed = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("--{name} needs a value\n\n{USAGE}"))?;
            match name {
                "by" => options.by = value.parse()?,
                "synchronous" => options.synchronous = value,
                _ => options.set(name, value.parse()?)?,
            }
        }
        if options.what.is_empty() {
            options.what = vec!["drain".to_owned(), "latency".to_owned()];
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, number: usize) -> Result<(), String> {
        match name {
            "tasks" => self.tasks = Some(number),
            "seconds" => self.time = Some(Duration::from_secs(number as u64)),
            "rate" => self.rate = number.max(1),
            "producers" => self.producers = number.max(1),
            "processes" => self.processes = number.max(1),
            "payload" => self.payload = number,
            "body-ms" => self.body = Duration::from_millis(number as u64),
            "future" => self.future = number,
            "finished" => self.finished = number,
            _ => return Err(format!("no option is called --{name}\n\n{USAGE}")),
        }
        Ok(())
    }

    /// How many connections commit, or as many as usual.
    pub(crate) fn producers_or(&self, usual: usize) -> usize {
        if self.producers == 0 { usual } else { self.producers }
    }

    /// The address for Diesel's own `establish`.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("sqlite://")
    }

    /// The kind of database.
    pub(crate) fn database(&self) -> &str {
        self.url.split(':').next().unwrap_or_default()
    }
}
