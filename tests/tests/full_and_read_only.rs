//! The database takes no writes: it is full, or read-only. The caller hears of it and has nothing stored, the outbox reports it
//! and loses nothing, and everything runs once there is room again.

#[macro_use]
mod load;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use consistency_diesel::outbox::Outbox;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::faults::outage_load::{Load, Producer};
use consistency_tests::faults::programs::is_root;
use consistency_tests::faults::server::{Server, with_own};
use consistency_tests::recorder::wait_until;
use tempfile::TempDir;

fn start<P: Producer>(database: &Database, url: &str, load: &Arc<Load>) -> Outbox {
    database.migrate();
    let builder = Outbox::builder(url).poll_interval(Duration::from_millis(50));
    let builder = builder.only(P::TASKS).inject(Arc::clone(load)).listener(load.listener());
    let builder = builder.lease(Duration::from_secs(2)).heartbeat(Duration::from_millis(300));
    builder.busy_wait(Duration::from_secs(1)).start_blocking().expect("the outbox starts")
}

/// Lets a load run into `begin`, which stops every write, and go on after `end`. `refusal` is what the caller reads.
fn through<P: Producer>(database: &Database, url: &str, refusal: &[&str], begin: impl FnOnce(), end: impl FnOnce()) {
    let load = Load::on(database);
    let outbox = start::<P>(database, url, &load);
    let address = url.strip_prefix("sqlite://").unwrap_or(url);
    let producers: Vec<_> = (0..2).map(|_| load.produce::<P>(&outbox, address)).collect();
    load.wait_for_a_fresh_run();
    load.through_outage(|| {
        let (refused, trouble) = (load.not_acknowledged(), load.trouble());
        // There must be something to write.
        load.hold_bodies();
        begin();
        wait_until("the caller to hear of it", || load.not_acknowledged() > refused + 2);
        load.let_bodies_end();
        wait_until("the outbox to report it", || load.trouble() > trouble && outbox.trouble().is_some());
        end();
    });
    wait_until("the outbox to be well again", || outbox.trouble().is_none());
    let sums = load.finish(database, producers);
    println!("{sums:?} {:?}", load.refusals());
    let said = load.refusals().join("\n").to_lowercase();
    assert!(refusal.iter().any(|words| said.contains(words)), "{said}");
    outbox.shutdown_blocking();
}

/// A user that is no administrator: those may write to a read-only MariaDB.
fn ordinary(server: &Server, database: &Database) -> String {
    match server.backend() {
        Backend::Postgres => database.url(),
        _ => {
            server.execute("CREATE USER ordinary@'%' IDENTIFIED BY ''");
            server.execute("GRANT ALL ON *.* TO ordinary@'%'");
            server.execute("REVOKE SUPER, READ ONLY ADMIN ON *.* FROM ordinary@'%'");
            database.url().replace("//root@", "//ordinary@")
        }
    }
}

fn a_read_only_server_refuses_loses_nothing_and_everything_runs_afterwards<P: Producer>(backend: Backend, test: &str) {
    with_own(backend, test, Server::fresh(backend), |server| {
        let database = server.database();
        let url = ordinary(&server, &database);
        let set = |on: bool| match backend {
            Backend::Postgres => {
                server.execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {on}"));
                server.execute("SELECT pg_reload_conf()");
            }
            _ => server.execute(&format!("SET GLOBAL read_only = {}", i32::from(on))),
        };
        through::<P>(&database, &url, &["read-only", "read only"], || set(true), || set(false));
    });
}

/// As after a change of roles: connections made meanwhile stay as they were made, whatever the server says later.
fn connections_made_while_it_was_read_only_are_not_kept<P: Producer>(backend: Backend, test: &str) {
    if backend == Backend::Postgres {
        with_own(backend, test, Server::fresh(backend), |server| {
            let database = server.database();
            let name = database.texts("SELECT current_database()::text AS value").remove(0);
            let set = |on: bool| {
                server.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = {on}"));
                server.cut_connections();
            };
            // Nobody is cut off at the end: only those who notice come back.
            let end = || server.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = off"));
            through::<P>(&database, &database.url(), &["read-only"], || set(true), end);
        });
    }
}

/// A small file system of its own, unmounted with the value.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Result<SmallDisk, String> {
        if !is_root() {
            return Err("only root may mount a small file system".to_owned());
        }
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        let mounted = mounted.map_err(|error| error.to_string())?;
        if mounted.status.success() {
            Ok(SmallDisk(folder))
        } else {
            Err(String::from_utf8_lossy(&mounted.stderr).into())
        }
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let written = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k"])
            .arg(format!("of={}", self.ballast().display()))
            .output();
        assert!(!written.expect("dd").status.success(), "the disk has no end");
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast is gone");
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    fn folder(&self) -> PathBuf {
        let folder = self.0.path().join("server");
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0.path()).output();
    }
}

fn a_full_disk_refuses_loses_nothing_and_everything_runs_when_there_is_room_again<P: Producer>(
    backend: Backend,
    test: &str,
) {
    let made = SmallDisk::mount(160).and_then(|disk| {
        let server = Server::within(backend, &disk.folder(), &[])?;
        Ok((disk, server))
    });
    with_own(backend, test, made, |(disk, mut server)| {
        let database = server.database();
        let load = Load::on(&database);
        let outbox = start::<P>(&database, &database.url(), &load);
        let producers: Vec<_> = (0..2).map(|_| load.produce::<P>(&outbox, database.address())).collect();
        load.wait_for_a_fresh_run();
        load.through_outage(|| {
            let refused = load.not_acknowledged();
            disk.fill();
            wait_until("the caller to hear of it", || load.not_acknowledged() > refused + 2);
            println!("full: {:?}", load.refusals());
            disk.free();
            // PostgreSQL falls when its log finds no room, and recovers by itself or needs a start.
            server.start_if_it_fell();
        });
        println!("{:?} {:?}", load.finish(&database, producers), load.refusals());
        outbox.shutdown_blocking();
    });
}

/// The file is on a full disk, for everybody who writes to it.
fn a_full_disk_under_the_file_loses_nothing<P: Producer>(backend: Backend, test: &str) {
    with_own(backend, test, SmallDisk::mount(8), |disk| {
        let database = Database::file_in(&disk.folder());
        through::<P>(&database, &database.url(), &["is full"], || disk.fill(), || disk.free());
    });
}

for_each_load! {
    sqlite: a_full_disk_under_the_file_loses_nothing;
}

for_each_load! {
    a_read_only_server_refuses_loses_nothing_and_everything_runs_afterwards;
    connections_made_while_it_was_read_only_are_not_kept;
    a_full_disk_refuses_loses_nothing_and_everything_runs_when_there_is_room_again;
}
