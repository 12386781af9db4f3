//! A PgBouncer of a test's own in front of the PostgreSQL of the tests, in the pool mode the test wants.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::backend::Backend;
use crate::database::{Database, on_fresh};
use crate::faults::programs::{free_port, is_root, program};
use crate::missing;
use crate::recorder::wait_until;

/// How a pooler deals out the server's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// One session for as long as its client stays.
    Session,
    /// One session for one transaction.
    Transaction,
}

impl PoolMode {
    fn name(self) -> &'static str {
        match self {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        }
    }
}

/// A running PgBouncer, ended with this value.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts one on a free port of this machine. Every database of the server can be reached through it. `settings` are lines
    /// of the section `[pgbouncer]` that come after the usual ones.
    ///
    /// # Errors
    /// When the program is not there.
    ///
    /// # Panics
    /// When it does not answer within the deadline.
    pub fn start(mode: PoolMode, settings: &[&str]) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let (server, port) = (Server::of_the_tests(), free_port());
        let configuration = format!(
            "[databases]\n* = {}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {}\nignore_startup_parameters = extra_float_digits\n{}\n",
            server.target(),
            mode.name(),
            settings.join("\n"),
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, configuration).map_err(|error| error.to_string())?;
        let mut command = Command::new(program("pgbouncer")?);
        command.arg("--quiet").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to run as root, and changes to the user it is told; nobody else can tell it one.
        if is_root() {
            command.args(["--user", "nobody"]);
        }
        let process = command.arg(&file).spawn().map_err(|error| format!("no pgbouncer: {error}"))?;
        let mut started = Self { process, port, _folder: folder };
        wait_until("PgBouncer to answer", || {
            let ended = started.process.try_wait().expect("its status");
            assert!(ended.is_none(), "PgBouncer has ended: {ended:?}");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Ok(started)
    }

    /// The address of `database` through it.
    pub fn url(&self, database: &Database) -> String {
        let name = database.address().rsplit('/').next().unwrap_or_default();
        let name = name.split('?').next().unwrap_or_default();
        format!("postgres://through_pgbouncer@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `body` on a fresh database of PostgreSQL with a PgBouncer in front of it. Without one of them it says so and does
/// nothing, unless it is required.
///
/// # Panics
/// When what is missing is required; see [`missing`].
pub fn behind_pgbouncer(mode: PoolMode, settings: &[&str], test: &str, body: impl FnOnce(&Database, &PgBouncer)) {
    on_fresh(Backend::Postgres, test, |database| match PgBouncer::start(mode, settings) {
        Ok(pooler) => body(database, &pooler),
        Err(reason) => missing::program(Backend::Postgres, test, &reason),
    });
}

/// Where the server of the tests is, and who may log in.
struct Server {
    user: String,
    password: Option<String>,
    host: String,
    port: String,
}

impl Server {
    fn of_the_tests() -> Self {
        let url = Backend::Postgres.admin_url();
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let (login, place) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
        let (user, password) =
            login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word.to_owned())));
        let (host, port) = place.split_once(':').unwrap_or((place, "5432"));
        Self { user: user.to_owned(), password, host: host.to_owned(), port: port.to_owned() }
    }

    /// As PgBouncer takes it.
    fn target(&self) -> String {
        let password = self.password.as_ref().map_or(String::new(), |password| format!(" password={password}"));
        format!("host={} port={} user={}{password}", self.host, self.port, self.user)
    }
}
