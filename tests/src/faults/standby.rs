//! A standby of a PostgreSQL server: it streams from the primary, confirms every commit, and can take its place.

use std::process::Output;

use crate::any_connection::{AnyConnection, Number};
use crate::backend::Backend;
use crate::faults::programs::{folder, postgres_program};
use crate::faults::server::Server;
use crate::recorder::wait_until;

impl Server {
    /// A running standby of this server. From now on no commit is acknowledged that it does not have.
    ///
    /// # Errors
    /// What is missing on this machine.
    ///
    /// # Panics
    /// When everything is there and it does not stream.
    pub fn synchronous_standby(&self) -> Result<Server, String> {
        let program = postgres_program("pg_basebackup")?;
        let kept = folder()?;
        let place = kept.path().to_owned();
        let mut standby = Server::unborn(Backend::Postgres, &place, Some(kept), &[])?;
        let source = format!("host=127.0.0.1 port={} user=postgres application_name=standby", self.port());
        let mut copy = standby.command(&program);
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &source, "-D"]).arg(standby.data());
        let Output { status, stderr, .. } = copy.output().map_err(|error| error.to_string())?;
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        standby.start();
        self.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
        self.execute("SELECT pg_reload_conf()");
        let streams = "SELECT count(*)::bigint AS value FROM pg_stat_replication WHERE sync_state = 'sync'";
        wait_until("the standby to stream as a synchronous one", || self.number(streams) == 1);
        // Commits wait for it only once the checkpointer, too, has read the setting, and pg_stat_replication does not say
        // when that is. It reads it before it begins the next checkpoint.
        self.execute("CHECKPOINT");
        Ok(standby)
    }

    /// Makes a standby the primary, and waits until it is.
    ///
    /// # Panics
    /// When it does not become one.
    pub fn promote(&self) {
        self.execute("SELECT pg_promote()");
        let is_standby = "SELECT pg_is_in_recovery()::int::bigint AS value";
        wait_until("the standby to be the primary", || self.number(is_standby) == 0);
    }

    /// The one number named `value` that a statement answers; on a connection of its own.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn number(&self, sql: &str) -> i64 {
        let mut admin = AnyConnection::open(self.backend(), &self.admin_url()).expect("a connection");
        let rows: Vec<Number> = admin.load(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.first().unwrap_or_else(|| panic!("{sql}: no row")).value
    }
}

/// The address of a database on whichever of these servers takes writes, in the form libpq and tokio-postgres share.
pub fn url_of_the_primary(servers: [&Server; 2], database: &str) -> String {
    let [first, second] = servers.map(Server::port);
    format!("postgres://postgres@127.0.0.1:{first},127.0.0.1:{second}/{database}?target_session_attrs=read-write")
}
