//! What a process of the storm writes down: what its producers were told, when its bodies began and ended, and which outcomes
//! it knows to be committed. One file a
//! process, one write a line: what was written stays when the process is killed.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use consistency_core::context::TaskContext;
use consistency_core::event::Event;
use consistency_core::state::State;

use crate::number;

/// Microseconds since 1970, by the machine's clock: all processes of a storm share it.
pub(crate) type Micros = u64;

/// The file of one process.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: File,
    committed: AtomicU64,
}

/// What a producer was told of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Committed,
    Failed,
    Unknown,
}

/// A body that has begun.
#[derive(Debug)]
pub(crate) struct OpenRun<'l> {
    ledger: &'l Ledger,
    task: i64,
    began: Micros,
    ended: bool,
}

/// A run as it was read back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) task: i64,
    /// The number of its process.
    pub(crate) process: u32,
    pub(crate) began: Micros,
    /// `None` where the process was killed before.
    pub(crate) ended: Option<Micros>,
    pub(crate) failed: bool,
}

/// Everything one process wrote down.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) told: Vec<(i64, Told)>,
    pub(crate) runs: Vec<Run>,
    /// The tasks whose success is committed, and when that was told.
    pub(crate) succeeded: Vec<(i64, Micros)>,
}

impl Ledger {
    fn path(folder: &Path, process: u32) -> PathBuf {
        folder.join(format!("process-{process}"))
    }

    pub(crate) fn create(folder: &Path, process: u32) -> Self {
        let file = OpenOptions::new().append(true).create_new(true).open(Self::path(folder, process));
        Self { file: file.expect("the ledger's file"), committed: AtomicU64::new(0) }
    }

    fn write(&self, line: &str) {
        // Appended in one piece, whoever else writes.
        (&self.file).write_all(line.as_bytes()).expect("the ledger is written");
    }

    /// What the producer of `order` was told; `calls` tasks go with it.
    pub(crate) fn told(&self, order: i64, told: Told, calls: usize) {
        let letter = match told {
            Told::Committed => "c",
            Told::Failed => "f",
            Told::Unknown => "u",
        };
        self.write(&format!("{letter} {order}\n"));
        if told == Told::Committed {
            self.committed.fetch_add(calls as u64, Ordering::Relaxed);
        }
    }

    /// How many tasks this process knows to be committed.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// What the outbox tells of its tasks: that an outcome is committed.
    pub(crate) fn hear(&self, event: &Event) {
        if let Event::Settled { attempt, state: State::Succeeded, .. } = event {
            self.write(&format!("s {} {}\n", attempt.id, now()));
        }
    }

    /// A body begins.
    pub(crate) fn begin(&self, cx: &TaskContext) -> OpenRun<'_> {
        let began = now();
        self.write(&format!("b {} {began}\n", cx.id()));
        OpenRun { ledger: self, task: cx.id(), began, ended: false }
    }

    /// Reads back what a process wrote down.
    pub(crate) fn read(folder: &Path, process: u32) -> Account {
        let text = match std::fs::read_to_string(Self::path(folder, process)) {
            // It was killed before it could begin.
            Err(error) if error.kind() == ErrorKind::NotFound => return Account::default(),
            text => text.expect("the ledger is read"),
        };
        let mut account = Account::default();
        let mut open = std::collections::HashMap::new();
        // A line without its end was cut off in the middle.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["c", order] => account.told.push((number(order), Told::Committed)),
                ["f", order] => account.told.push((number(order), Told::Failed)),
                ["u", order] => account.told.push((number(order), Told::Unknown)),
                ["s", task, at] => account.succeeded.push((number(task), number(at))),
                ["b", task, began] => {
                    let (task, began) = (number(task), number(began));
                    open.insert((task, began), account.runs.len());
                    account.runs.push(Run { task, process, began, ended: None, failed: false });
                }
                ["e", task, began, ended, how] => {
                    let begun = open.get(&(number(task), number(began))).expect("a run begins before it ends");
                    let run = &mut account.runs[*begun];
                    (run.ended, run.failed) = (Some(number(ended)), *how == "failed");
                }
                _ => panic!("`{line}` is no line of a ledger"),
            }
        }
        account
    }
}

impl OpenRun<'_> {
    /// The body ends well.
    pub(crate) fn succeeded(mut self) {
        self.end("well");
    }

    fn end(&mut self, how: &str) {
        self.ended = true;
        self.ledger.write(&format!("e {} {} {} {how}\n", self.task, self.began, now()));
    }
}

impl Drop for OpenRun<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end("failed");
        }
    }
}

/// The machine's clock.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_micros()).expect("a clock before the year 500000")
}
