//! The program as a test runs it: an orders file, a start, its end or a kill, and nothing left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]
// Each test file uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tempfile::TempDir;

/// How long a run may take to its end. Interrupted tasks wait for their lease of ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with an orders file and the carrier's ledger.
pub(crate) struct Stage {
    folder: TempDir,
}

impl Stage {
    /// With orders numbered from 1.
    pub(crate) fn with_orders(count: i64) -> Self {
        let folder = TempDir::new().unwrap();
        let mut csv = String::from("order_no,customer_id,ordered_on,quantity,amount\n");
        for order_no in 1..=count {
            csv.push_str(&format!(
                "{order_no},{},1997-01-{:02},{},{}.50\n",
                order_no % 97,
                order_no % 28 + 1,
                order_no % 5 + 1,
                order_no % 60
            ));
        }
        fs::write(folder.path().join("orders.csv"), csv).unwrap();
        Self { folder }
    }

    /// Writes a parcel from before into the carrier's ledger. On its first day it refuses connections for two seconds, and
    /// a program killed sooner would never deliver anything.
    pub(crate) fn end_the_carriers_first_day(&self) {
        fs::create_dir_all(self.path("carrier")).unwrap();
        fs::write(self.path("carrier").join("ledger.txt"), "0 a-parcel-from-before 1\n").unwrap();
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the program on the database at `url`, with the orders file.
    pub(crate) fn start(&self, url: &str, arguments: &[&str]) -> Run {
        let mut command = program();
        command.arg("--database-url").arg(url).arg("--orders").arg(self.path("orders.csv")).args(arguments);
        Run::start(command, self.folder.path())
    }

    /// Starts it with the carrier's ledger in the folder.
    pub(crate) fn start_with_carrier(&self, url: &str) -> Run {
        self.start(url, &["--carrier-dir", self.path("carrier").to_str().unwrap()])
    }

    /// Order number and key of every line in the carrier's ledger, less the parcel from before.
    pub(crate) fn ledger(&self) -> Vec<(i64, String)> {
        let text = fs::read_to_string(self.path("carrier").join("ledger.txt")).unwrap();
        let entry = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0].parse().unwrap(), words[1].to_owned())
        };
        text.lines().map(entry).filter(|(order_no, _)| *order_no != 0).collect()
    }
}

/// The program, without arguments.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_warehouse"))
}

/// A run of the program.
pub(crate) struct Run {
    child: Child,
    output: Receiver<String>,
    errors: Receiver<String>,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Run {
    /// Starts `command` in `folder`.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Self {
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = read_all(child.stdout.take().unwrap());
        let errors = read_all(child.stderr.take().unwrap());
        Self { child, output, errors }
    }

    /// Kills the program after `delay` and waits until its carrier has ended as well, which shares its standard error.
    /// `None` when it ended by itself before.
    pub(crate) fn kill_after(mut self, delay: Duration) -> Option<()> {
        match self.output.recv_timeout(delay) {
            Err(RecvTimeoutError::Timeout) => {}
            ended => {
                let status = self.child.wait().unwrap();
                assert!(status.success(), "{status}: {ended:?} {:?}", self.errors.recv_timeout(PATIENCE));
                return None;
            }
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.errors.recv_timeout(PATIENCE).expect("the carrier ends with the program");
        Some(())
    }

    /// Waits until the program ends.
    pub(crate) fn wait(mut self) -> Ended {
        let output = self.output.recv_timeout(PATIENCE);
        if output.is_err() {
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        let errors = self.errors.recv_timeout(PATIENCE).unwrap_or_default();
        Ended {
            status,
            output: output.unwrap_or_else(|_| panic!("the program did not end; it complained: {errors}")),
            errors,
        }
    }
}

/// The whole text of a stream, once it is closed.
fn read_all(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        // A test that failed listens no more.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
