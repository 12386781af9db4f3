//! A server of a test's own: PostgreSQL or MariaDB in a folder of its own on a free port, stopped, crashed and started again at
//! will, and gone with the value.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::any_connection::AnyConnection;
use crate::backend::Backend;
use crate::database::Database;
use crate::faults::programs::{account, folder, free_port, is_root, postgres_program, program};
use crate::missing;

/// How long a server may take to start or to stop. A crash is recovered from first.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// In good order: who is connected is told so.
    Fast,
    /// At once, without a word: what follows is a recovery.
    Crash,
}

/// A running, or stopped, server of a test's own.
pub struct Server {
    backend: Backend,
    folder: PathBuf,
    /// Deleted with the value; `None` where somebody else keeps the folder.
    _kept: Option<TempDir>,
    port: u16,
    options: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// A fresh server, running.
    ///
    /// # Errors
    /// What is missing on this machine.
    ///
    /// # Panics
    /// When everything is there and it does not start.
    pub fn fresh(backend: Backend) -> Result<Server, String> {
        Self::with(backend, &[])
    }

    /// As [`fresh`](Self::fresh), with further command-line options.
    ///
    /// # Errors
    /// As [`fresh`](Self::fresh).
    pub fn with(backend: Backend, options: &[&str]) -> Result<Server, String> {
        let kept = folder()?;
        let folder = kept.path().to_owned();
        Self::in_folder(backend, &folder, Some(kept), options)
    }

    /// As [`with`](Self::with), in a folder that exists, is empty, and stays afterwards.
    ///
    /// # Errors
    /// As [`fresh`](Self::fresh).
    pub fn within(backend: Backend, folder: &Path, options: &[&str]) -> Result<Server, String> {
        Self::in_folder(backend, folder, None, options)
    }

    fn in_folder(backend: Backend, folder: &Path, kept: Option<TempDir>, options: &[&str]) -> Result<Server, String> {
        let mut server = Self::unborn(backend, folder, kept, options)?;
        server.initialise()?;
        server.start();
        Ok(server)
    }

    /// A server whose data somebody else makes, in [`data`](Self::data); not running.
    pub(crate) fn unborn(
        backend: Backend,
        folder: &Path,
        kept: Option<TempDir>,
        options: &[&str],
    ) -> Result<Server, String> {
        let mut server = Server {
            backend,
            folder: folder.to_owned(),
            _kept: kept,
            port: free_port(),
            options: Vec::new(),
            child: None,
        };
        server.own(folder)?;
        server.options = match backend {
            Backend::Postgres => postgres_options(server.port),
            Backend::Mysql => mariadb_options(server.port, folder),
            Backend::Sqlite => return Err("SQLite has no server".to_owned()),
        };
        server.options.extend(options.iter().map(|&option| option.to_owned()));
        Ok(server)
    }

    /// Which kind it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Its port on 127.0.0.1; it stays the same.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A database of it that exists, for a user that may do everything.
    pub fn admin_url(&self) -> String {
        admin_url(self.backend, &format!("127.0.0.1:{}", self.port))
    }

    /// A fresh, empty database on it. Drop it before the server.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn database(&self) -> Database {
        Database::fresh_at(self.backend, &self.admin_url()).expect("a database on a server of the test's own")
    }

    /// Runs a statement as the user that may do everything, on a connection of its own.
    ///
    /// # Panics
    /// When the server does not answer, or refuses it.
    pub fn execute(&self, sql: &str) {
        self.ask().execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn ask(&self) -> AnyConnection {
        AnyConnection::open(self.backend, &self.admin_url()).expect("a connection")
    }

    /// Ends every connection to it but the one that asks.
    pub fn cut_connections(&self) {
        match self.backend {
            Backend::Postgres => self.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            ),
            _ => self.execute(
                "BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1094 BEGIN END; \
                 FOR client IN (SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() \
                 AND user NOT IN ('system user', 'event_scheduler')) DO KILL CONNECTION client.id; END FOR; END",
            ),
        }
    }

    /// Stops it and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self, how: Stop) {
        let Some(mut child) = self.child.take() else { return };
        match (self.backend, how) {
            (Backend::Postgres, Stop::Fast) => self.pg_ctl_stop("fast"),
            (Backend::Postgres, Stop::Crash) => self.pg_ctl_stop("immediate"),
            // The answer may be lost with the server.
            (_, Stop::Fast) => drop(self.ask().execute("SHUTDOWN")),
            (_, Stop::Crash) => child.kill().expect("the server is killed"),
        }
        child.wait().expect("the server's end");
    }

    /// Starts it if it has ended by itself.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_if_it_fell(&mut self) {
        let fell = self.child.as_mut().is_some_and(|child| child.try_wait().expect("its status").is_some());
        if fell {
            self.child = None;
            self.start();
        }
    }

    /// Whether it was started and not stopped since.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Ends its first process with SIGKILL, as the kernel does when memory is short, and does not start it again.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("the server is killed");
        child.wait().expect("the server's end");
    }

    fn pg_ctl_stop(&self, mode: &str) {
        let pg_ctl = postgres_program("pg_ctl").expect("it was there");
        let stopped = self.command(&pg_ctl).args(["stop", "-w", "-m", mode, "-D"]).arg(self.data()).output();
        let Output { status, stderr, .. } = stopped.expect("pg_ctl");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    }

    /// Starts it, again on its port and with its data, and waits until it takes work.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let program = match self.backend {
            Backend::Postgres => postgres_program("postgres"),
            _ => program("mariadbd"),
        };
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = self.command(&program.expect("it was there"));
        command.args(&self.options).args(match self.backend {
            Backend::Postgres => vec!["-D".to_owned(), self.data().display().to_string()],
            _ => vec![format!("--datadir={}", self.data().display())],
        });
        let logged_too = log.try_clone().expect("a log");
        self.child = Some(command.stdout(logged_too).stderr(log).spawn().expect("the server starts"));
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let url = self.admin_url();
        while let Err(error) = AnyConnection::open(self.backend, &url) {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().expect("its status").is_some());
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                panic!("no {} at {url}: {error}\n{}", self.backend, lines[lines.len().saturating_sub(40)..].join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn initialise(&self) -> Result<(), String> {
        let data = self.data();
        let made = match self.backend {
            Backend::Postgres => {
                postgres_program("postgres")?;
                let arguments =
                    ["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--wal-segsize=1", "-D"];
                self.command(&postgres_program("initdb")?).args(arguments).arg(data).output()
            }
            _ => {
                program("mariadbd")?;
                // Read by it as well: the size of the log is that of the first start.
                let own = self.options.iter().filter(|option| option.starts_with("--innodb"));
                self.command(&program("mariadb-install-db")?)
                    .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
                    .args(["--skip-name-resolve"])
                    .args(own)
                    .arg(format!("--datadir={}", data.display()))
                    .output()
            }
        };
        let Output { status, stdout, stderr } = made.map_err(|error| error.to_string())?;
        let said = [stdout, stderr].concat();
        assert!(status.success(), "no fresh {}: {}", self.backend, String::from_utf8_lossy(&said));
        Ok(())
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// A command as the server's user: root starts no server.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // Servers at their start throw away what lies where temporary tables do.
        command.current_dir(&self.folder).env("TMPDIR", &self.folder);
        if let Some((user, group)) = self.user() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Where root does the tests, somebody else runs the server.
    fn user(&self) -> Option<(u32, u32)> {
        let name = if self.backend == Backend::Postgres { "postgres" } else { "mysql" };
        if is_root() { account(name) } else { None }
    }

    /// Makes a folder that exists the server's own.
    pub(crate) fn own(&self, folder: &Path) -> Result<(), String> {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(|error| error.to_string())?;
        if is_root() {
            let (user, group) = self.user().ok_or("a server must not be root, and its usual user is missing")?;
            chown(folder, Some(user), Some(group)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Its children must be gone before the folder.
        if self.backend == Backend::Postgres && !std::thread::panicking() {
            self.pg_ctl_stop("immediate");
        }
        // Ended already, where it went well.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({} at {})", self.backend, self.port)
    }
}

/// Runs `body` unless something is missing for it, as `made` says. Then it says so aloud.
///
/// # Panics
/// When what is missing is required; see [`missing`].
pub fn with_own<T>(backend: Backend, test: &str, made: Result<T, String>, body: impl FnOnce(T)) {
    match made {
        Ok(own) => body(own),
        Err(reason) => missing::program(backend, test, &reason),
    }
}

/// The address of the administration at `host`, which may be several of PostgreSQL's with options after them.
pub(crate) fn admin_url(backend: Backend, host: &str) -> String {
    match backend {
        Backend::Postgres => format!("postgres://postgres@{host}/postgres"),
        _ => format!("mysql://root@{host}/mysql"),
    }
}

/// No disk is waited for: the servers' processes fall, the machine does not.
fn postgres_options(port: u16) -> Vec<String> {
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "shared_buffers=16MB".to_owned(),
        "max_wal_size=64MB".to_owned(),
        "min_wal_size=4MB".to_owned(),
        "fsync=off".to_owned(),
        // In its own folder, so that nothing stays behind when it is killed.
        "dynamic_shared_memory_type=mmap".to_owned(),
    ];
    settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

fn mariadb_options(port: u16, folder: &Path) -> Vec<String> {
    let place = folder.display();
    vec![
        // The first of all, or it is refused.
        "--no-defaults".to_owned(),
        format!("--port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--socket={place}/socket"),
        format!("--pid-file={place}/pid"),
        "--skip-name-resolve".to_owned(),
        "--innodb-log-file-size=8M".to_owned(),
        "--innodb-buffer-pool-size=24M".to_owned(),
        "--innodb-flush-log-at-trx-commit=2".to_owned(),
        "--innodb-flush-method=nosync".to_owned(),
    ]
}
