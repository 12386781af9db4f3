//! The command line.

use std::error::Error;
use std::time::Duration;

use crate::USAGE;

/// What is asked for.
#[derive(Debug)]
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
    /// Connections that commit them.
    pub(crate) producers: usize,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut arguments = arguments.into_iter();
        let url = arguments.next().ok_or(USAGE)?;
        let mut options = Self { url, what: Vec::new(), tasks: None, time: None, rate: 200, producers: 4 };
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                match argument.parse() {
                    Ok(tasks) => options.tasks = Some(tasks),
                    Err(_) => options.what.push(argument),
                }
                continue;
            };
            let number: usize =
                arguments.next().ok_or_else(|| format!("--{name} needs a number\n\n{USAGE}"))?.parse()?;
            match name {
                "tasks" => options.tasks = Some(number),
                "seconds" => options.time = Some(Duration::from_secs(number as u64)),
                "rate" => options.rate = number.max(1),
                "producers" => options.producers = number.max(1),
                _ => return Err(format!("no option is called --{name}\n\n{USAGE}").into()),
            }
        }
        if options.what.is_empty() {
            options.what = vec!["drain".to_owned(), "latency".to_owned()];
        }
        Ok(options)
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
