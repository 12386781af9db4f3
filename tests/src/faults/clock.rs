//! A wrong clock for a process of a test's own, by libfaketime: it may jump in either direction while the process runs.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::backend::Backend;
use crate::database::{Database, on_fresh};
use crate::missing;
use crate::worker_process::WorkerProcess;

/// How often the program is asked: it fails where an earlier process of the same id has left its shared memory behind.
const TRIES: usize = 10;

/// A clock that processes started with it go by. Their monotonic clock, which measures waits, stays right.
#[derive(Debug)]
pub struct WrongClock {
    library: OsString,
    folder: TempDir,
}

impl WrongClock {
    /// A clock that goes `seconds` before the right one; behind it, where the number is negative.
    ///
    /// # Errors
    /// When the program `faketime` is not there.
    pub fn ahead(seconds: i64) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let clock = Self { library: library()?, folder };
        clock.jump_to(seconds);
        Ok(clock)
    }

    /// Goes `seconds` before the right one from now on.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn jump_to(&self, seconds: i64) {
        // Under another name first, so that nobody reads half of it.
        let next = self.folder.path().join("next");
        std::fs::write(&next, format!("{seconds:+}")).expect("a file");
        std::fs::rename(&next, self.file()).expect("a file");
    }

    /// Starts a worker that goes by this clock.
    pub fn start(&self, program: &str, database: &Database, arguments: &[&str]) -> WorkerProcess {
        let file = self.file();
        let environment: [(&str, &OsStr); 4] = [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", file.as_os_str()),
            ("FAKETIME_NO_CACHE", OsStr::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", OsStr::new("1")),
        ];
        WorkerProcess::start_in(program, database, arguments, &environment)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

/// Runs `body` on a fresh database with a clock that is right at first. Without the program `faketime` it says so and does
/// nothing, unless it is required.
///
/// # Panics
/// When what is missing is required; see [`missing`].
pub fn with_wrong_clock(backend: Backend, test: &str, body: impl FnOnce(&Database, &WrongClock)) {
    on_fresh(backend, test, |database| match WrongClock::ahead(0) {
        Ok(clock) => body(database, &clock),
        Err(reason) => missing::program(backend, test, &reason),
    });
}

/// What has to be loaded into a process: the program that wraps others knows where it is. A process that it starts itself
/// could not be killed through it.
fn library() -> Result<OsString, String> {
    for _ in 0..TRIES {
        let asked = Command::new("faketime").args(["-m", "-f", "+0s", "printenv", "LD_PRELOAD"]).output();
        let answer = asked.map_err(|error| format!("no faketime: {error}"))?;
        let library = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        if !library.is_empty() {
            return Ok(library.into());
        }
    }
    Err("faketime names no library".to_owned())
}
