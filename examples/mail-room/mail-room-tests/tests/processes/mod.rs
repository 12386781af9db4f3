//! The mail room's programs as a test holds them: started, listened to, killed or asked to stop, and never left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]
// Each test file uses a part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use consistency_tests::database::Database;
use consistency_tests::recorder::wait_until;
use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;

/// How long a process may stay silent while a test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database, and the postman's round book beside it.
pub(crate) struct Stage<'d> {
    pub(crate) database: &'d Database,
    folder: TempDir,
}

impl<'d> Stage<'d> {
    pub(crate) fn on(database: &'d Database) -> Self {
        Self { database, folder: TempDir::new().unwrap() }
    }

    /// Starts the producer of so many letters.
    pub(crate) fn producer(&self, letters: u32) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mail-room-producer-under-test"));
        command.args(["--database-url", &self.database.url(), "--letters", &letters.to_string()]);
        Process::start(command)
    }

    /// Starts a worker with so many slots.
    pub(crate) fn worker(&self, slots: u32) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mail-room-worker-under-test"));
        command.args(["--database-url", &self.database.url(), "--slots", &slots.to_string()]);
        command.arg("--round-book").arg(self.round_book());
        Process::start(command)
    }

    pub(crate) fn round_book(&self) -> PathBuf {
        self.folder.path().join("round-book.txt")
    }

    /// The postman's deliveries: letter, key, and how often.
    pub(crate) fn deliveries(&self) -> HashMap<(String, String), usize> {
        let mut deliveries = HashMap::new();
        for line in fs::read_to_string(self.round_book()).unwrap().lines() {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            *deliveries.entry((words[0].to_owned(), words[1].to_owned())).or_default() += 1;
        }
        deliveries
    }

    /// Waits until every task has succeeded; it may take several deadlines as long as it gets on.
    pub(crate) fn wait_for_all(&self) {
        let open = || self.database.count("consistency_task", "state <> 2");
        let mut left = open();
        while left > 0 {
            wait_until("one more task to succeed", || open() < left);
            left = open();
        }
    }
}

/// A running process.
pub(crate) struct Process {
    child: Child,
    said: Arc<Said>,
    errors: Option<JoinHandle<String>>,
}

/// What a process has printed, and whether it has closed its standard output.
#[derive(Default)]
struct Said {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

/// How a process ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<String>,
    pub(crate) errors: String,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::<Said>::default();
        let (heard, output) = (Arc::clone(&said), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                heard.lines.lock().0.push(line);
                heard.changed.notify_all();
            }
            heard.lines.lock().1 = true;
            heard.changed.notify_all();
        });
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, said, errors: Some(errors) }
    }

    /// Waits until it has printed `line`.
    pub(crate) fn wait_for_line(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.said.lines.lock();
        while !said.0.iter().any(|said| said == line) {
            assert!(!said.1, "it ended without saying `{line}`");
            assert!(!self.said.changed.wait_until(&mut said, deadline).timed_out(), "`{line}` was not said in time");
        }
    }

    /// Kills it after `delay`, wherever it is by then; it must not have ended by itself.
    pub(crate) fn kill_after(mut self, delay: Duration) -> Ended {
        let deadline = Instant::now() + delay;
        let mut said = self.said.lines.lock();
        while !said.1 && !self.said.changed.wait_until(&mut said, deadline).timed_out() {}
        let ended_by_itself = said.1;
        drop(said);
        if !ended_by_itself {
            self.child.kill().unwrap();
        }
        let ended = self.wait();
        assert!(!ended_by_itself, "it ended before it was killed: {} {}", ended.status, ended.errors);
        ended
    }

    /// Sends it a signal: `TERM` or `INT`.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended.
    pub(crate) fn wait(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.said.lines.lock();
        while !said.1 {
            let timed_out = self.said.changed.wait_until(&mut said, deadline).timed_out();
            assert!(!timed_out, "it did not end in {PATIENCE:?}; it said {:?}", said.0);
        }
        let lines = std::mem::take(&mut said.0);
        drop(said);
        let status = self.child.wait().unwrap();
        let errors = self.errors.take().unwrap().join().unwrap();
        Ended { status, lines, errors }
    }
}

impl Ended {
    /// Checks that it ended by itself, with exit code 0 and without a complaint.
    pub(crate) fn assert_well(&self) {
        assert_eq!((self.status.code(), self.errors.as_str()), (Some(0), ""), "{}", self.status);
    }

    /// The letters it said it had committed.
    pub(crate) fn committed(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| line.strip_prefix("committed "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended and waited for, where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
