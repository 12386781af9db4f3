//! A process of the program `fault_node` as a test holds it.

use std::process::ExitStatus;

use crate::database::Database;
use crate::faults::plan::Place;
use crate::faults::sessions::own_session;
use crate::faults::setup::{Role, Setup};
use crate::recorder::wait_until;
use crate::worker_process::WorkerProcess;
use rustix::process::Signal;

/// A running process of `fault_node`.
#[derive(Debug)]
pub struct FaultNode {
    process: WorkerProcess,
    role: Role,
}

impl FaultNode {
    /// Starts `program` (`env!("CARGO_BIN_EXE_fault_node")`) on a [prepared](crate::faults::orders::prepare) database. The
    /// test's own session is spared.
    pub fn start(program: &str, database: &Database, mut setup: Setup) -> FaultNode {
        setup.spared.push(database.number(own_session(database.backend())));
        let argument = serde_json::to_string(&setup).expect("a setup is plain data");
        FaultNode { process: WorkerProcess::start(program, database, &[&argument]), role: setup.role }
    }

    /// Waits until its producer has heard about every order.
    #[track_caller]
    pub fn wait_until_produced(&self) {
        assert_ne!(self.role, Role::Node, "a node produces nothing");
        self.process.wait_for_line("produced");
    }

    /// Waits until its outbox has started.
    #[track_caller]
    pub fn wait_until_started(&self) {
        self.process.wait_for_line("started");
    }

    /// Waits until its plan has struck at `place`.
    #[track_caller]
    pub fn wait_until_reached(&self, place: Place) {
        self.process.wait_for_line(&format!("reached {place}"));
    }

    /// Waits until it is stopped by its plan.
    #[track_caller]
    pub fn wait_until_stopped(&self) {
        self.process.wait_until_stopped();
    }

    /// Lets a stopped process go on.
    pub fn go_on(&mut self) {
        self.process.say("go on");
        self.process.signal(Signal::CONT);
    }

    /// What it has printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Waits until it has printed a line that begins so.
    #[track_caller]
    pub fn wait_for_line_that_begins(&self, beginning: &str) {
        wait_until(&format!("a line `{beginning}..`"), || {
            self.process.lines().iter().any(|line| line.starts_with(beginning))
        });
    }

    /// Asks it to stop and waits for its end. Returns everything it printed.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    pub fn stop(self) -> Vec<String> {
        let said = self.process.said();
        let (status, errors) = self.process.stop();
        assert!(status.success(), "{status}: {errors}");
        said()
    }

    /// Waits until it ends by itself. Returns its exit status, everything it printed, and what it wrote to standard error.
    pub fn wait_for_end(self) -> (ExitStatus, Vec<String>, String) {
        let said = self.process.said();
        let (status, errors) = self.process.wait_for_end();
        (status, said(), errors)
    }
}
