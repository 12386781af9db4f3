//! Starts the carrier in a process of its own, and stops it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::carrier::CarrierReport;

/// The running carrier. It ends by itself when its standard input closes, so even a killed parent leaves no orphan.
pub(crate) struct CarrierProcess {
    child: Child,
    output: BufReader<ChildStdout>,
    address: String,
}

impl CarrierProcess {
    /// Starts this same program as the carrier, with its ledger in `directory`.
    pub(crate) fn start(directory: &Path, calm: bool) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create the carrier's directory {}", directory.display()))?;
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.arg("carrier").arg("--dir").arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        if calm {
            command.arg("--calm");
        }
        let mut child = command.spawn().context("cannot start the carrier")?;
        let output = child.stdout.take().context("the carrier has no standard output")?;
        let mut carrier = Self { child, output: BufReader::new(output), address: String::new() };
        // Its first line is its address; what goes wrong before that it says itself, on standard error.
        carrier.address = carrier.line()?;
        ensure!(!carrier.address.is_empty(), "the carrier did not start");
        Ok(carrier)
    }

    /// Where it listens, or will listen once it is up.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Says so when the carrier has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("the carrier")? {
            None => Ok(()),
            Some(status) => bail!("the carrier ended ({status}); start the example again, it goes on where it was"),
        }
    }

    /// Closes the carrier's standard input; its last line is its report.
    pub(crate) fn stop(mut self) -> Result<CarrierReport> {
        drop(self.child.stdin.take());
        let report = serde_json::from_str(&self.line()?).context("the carrier's report")?;
        self.child.wait().context("the carrier")?;
        Ok(report)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("the carrier")?;
        Ok(line.trim_end().to_owned())
    }
}
