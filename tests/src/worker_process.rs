//! A worker process as a test holds it: started, listened to, killed or asked to stop, and never left behind.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::database::Database;
use crate::recorder::{DEADLINE, wait_until_some};

/// A running process of a program of the tests, such as `worker`.
pub struct WorkerProcess {
    child: Child,
    said: Arc<Said>,
    reader: Option<JoinHandle<()>>,
    errors: Option<JoinHandle<String>>,
}

#[derive(Default)]
struct Said {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

impl WorkerProcess {
    /// Starts `program` (say `env!("CARGO_BIN_EXE_worker")`) on `database` with further arguments.
    pub fn start(program: &str, database: &Database, arguments: &[&str]) -> Self {
        Self::start_in(program, database, arguments, &[])
    }

    /// As [`WorkerProcess::start`], with these variables in its environment.
    pub fn start_in(program: &str, database: &Database, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Self {
        let mut child = Command::new(program)
            .arg(database.url())
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the worker starts");
        let said: Arc<Said> = Arc::default();
        let (heard, output) = (Arc::clone(&said), child.stdout.take().expect("standard output"));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                heard.lines.lock().push(line);
                heard.changed.notify_all();
            }
        });
        let mut stderr = child.stderr.take().expect("standard error");
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).expect("standard error");
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, said, reader: Some(reader), errors: Some(errors) }
    }

    /// Waits until the process has printed `line`.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    #[track_caller]
    pub fn wait_for_line(&self, line: &str) {
        let deadline = std::time::Instant::now() + DEADLINE;
        let mut lines = self.said.lines.lock();
        while !lines.iter().any(|said| said == line) {
            if self.said.changed.wait_until(&mut lines, deadline).timed_out() {
                panic!("waited {DEADLINE:?} in vain for the worker to say `{line}`; it said {lines:?}");
            }
        }
    }

    /// What the process has printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.said.lines.lock().clone()
    }

    /// Asks, also after the process has ended, for everything it printed.
    pub fn said(&self) -> impl Fn() -> Vec<String> + use<> {
        let said = Arc::clone(&self.said);
        move || said.lines.lock().clone()
    }

    /// Writes a line to its standard input.
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("its standard input is open");
        writeln!(input, "{line}").expect("a line to its standard input");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a process to signal");
    }

    /// Waits until a SIGSTOP has stopped it, all of its threads.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    #[track_caller]
    pub fn wait_until_stopped(&self) {
        // Its end is left to be waited for.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        wait_until_some("the process to be stopped", || {
            waitid(WaitId::Pid(self.pid()), stopped).expect("the process's state")
        });
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Kills the process at once.
    pub fn kill(mut self) {
        self.child.kill().expect("the worker is killed");
        self.child.wait().expect("the worker is gone");
    }

    /// Asks the process to stop, and waits for its end. Returns its exit status and what it wrote to standard error.
    pub fn stop(mut self) -> (ExitStatus, String) {
        drop(self.child.stdin.take());
        self.wait()
    }

    /// Waits until the process ends by itself.
    pub fn wait_for_end(mut self) -> (ExitStatus, String) {
        self.wait()
    }

    fn wait(&mut self) -> (ExitStatus, String) {
        let child = &mut self.child;
        let status = wait_until_some("the worker to end", || child.try_wait().expect("the worker's status"));
        // Whatever it printed is heard.
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader");
        }
        let errors = self.errors.take().map(|errors| errors.join().expect("the reader")).unwrap_or_default();
        (status, errors)
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // Already ended and waited for, where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl std::fmt::Debug for WorkerProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkerProcess({})", self.child.id())
    }
}
