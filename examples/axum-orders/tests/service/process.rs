//! The service as a process: started, listened to, killed or asked to stop, and never left behind.

use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::DEADLINE;
use super::database::Database;

/// A running service. Killed when it is dropped.
pub(crate) struct Service {
    child: Child,
    output: watch::Receiver<String>,
    log: watch::Receiver<String>,
}

/// How a service ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) log: String,
}

impl Service {
    /// Starts the service on the database, with this shipper, on a free port.
    pub(crate) fn start(database: &Database, shipper: &str, arguments: &[&str]) -> Self {
        let url = database.url();
        Self::with(&[&["--database-url", &url, "--shipper", shipper], arguments].concat())
    }

    /// Starts the service with these arguments, on a free port.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_axum-orders"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).env_remove("DATABASE_URL").env("RUST_LOG", "info");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let output = follow(child.stdout.take().unwrap());
        let log = follow(child.stderr.take().unwrap());
        Self { child, output, log }
    }

    /// Waits until the service listens; gives its address.
    pub(crate) async fn listening(&self) -> String {
        let mut output = self.output.clone();
        let line = timeout(DEADLINE, output.wait_for(|said| said.contains('\n'))).await;
        let said = match line {
            Ok(Ok(said)) => said.clone(),
            _ => panic!("the service does not listen; it said: {}", *self.log.borrow()),
        };
        let first = said.lines().next().unwrap_or_default();
        first.strip_prefix("listening on ").unwrap_or_else(|| panic!("`{first}` is no address")).to_owned()
    }

    /// Kills the service at once: SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("the service still runs");
        kill_process(Pid::from_raw(id.cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits until the service has ended and has said everything.
    pub(crate) async fn end(mut self) -> Ended {
        let Ok(status) = timeout(DEADLINE, self.child.wait()).await else {
            panic!("the service does not end; it said: {}", *self.log.borrow());
        };
        Ended { status: status.unwrap(), output: all_of(&mut self.output).await, log: all_of(&mut self.log).await }
    }

    /// Waits until the log contains `text`.
    pub(crate) async fn logged(&self, text: &str) {
        let mut log = self.log.clone();
        let found = timeout(DEADLINE, log.wait_for(|log| log.contains(text))).await.is_ok_and(|found| found.is_ok());
        assert!(found, "`{text}` is not in the log: {}", *self.log.borrow());
    }
}

/// Everything a stream says, as it comes; the sender goes with the end of the stream.
fn follow(stream: impl AsyncRead + Send + Unpin + 'static) -> watch::Receiver<String> {
    let (said, follower) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            said.send_modify(|said| said.push_str(&(line + "\n")));
        }
    });
    follower
}

async fn all_of(stream: &mut watch::Receiver<String>) -> String {
    // The error is the end of the stream.
    let _ = timeout(DEADLINE, stream.wait_for(|_| false)).await;
    stream.borrow().clone()
}
