//! The server that takes the writes dies for good and another one takes its place: every acknowledged commit's task runs, nothing
//! is half there, and the processes find the new server by themselves.

#[macro_use]
#[allow(dead_code, reason = "SQLite has no server")]
mod load;
#[path = "../src/bin/worker/tasks.rs"]
#[allow(dead_code, reason = "one of its tasks is enough here")]
mod worker_tasks;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::outbox::Outbox;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::effects::Effects;
use consistency_tests::faults::galera::{cluster, members_of};
use consistency_tests::faults::outage_load::{Load, Producer};
use consistency_tests::faults::server::{Server, with_own};
use consistency_tests::faults::standby::url_of_the_primary;
use consistency_tests::faults::switch::Switch;
use consistency_tests::length::is_long;
use consistency_tests::missing;
use consistency_tests::recorder::wait_until;
use consistency_tests::worker_process::WorkerProcess;
use worker_tasks::record;

const WORKER: &str = env!("CARGO_BIN_EXE_worker");
/// Commits of the load before the change, and as many after it.
const COMMITS_BEFORE: usize = 100;

fn start<P: Producer>(builder: OutboxBuilder, load: &Arc<Load>) -> Outbox {
    let builder = builder.only(P::TASKS).inject(Arc::clone(load)).listener(load.listener());
    builder
        .lease(Duration::from_secs(3))
        .heartbeat(Duration::from_millis(500))
        .start_blocking()
        .expect("the outbox starts")
}

/// Two nodes in this process and one worker process under load; `change` ends the server and brings another one.
fn through_a_change<P: Producer>(database: &Database, other_node: &str, test: &str, change: impl FnOnce()) {
    database.migrate();
    Effects::create_table(database);
    let load = Load::on(database);
    let nodes = [
        start::<P>(database.outbox(), &load),
        start::<P>(Outbox::builder(other_node).poll_interval(Duration::from_millis(50)), &load),
    ];
    let worker = WorkerProcess::start(WORKER, database, &["lease_ms=3000"]);
    worker.wait_for_line("started");
    let ended = Arc::new(AtomicBool::new(false));
    let elsewhere = produce_for_the_worker::<P>(database, &ended);
    let producers: Vec<_> = (0..3).map(|at| load.produce::<P>(&nodes[at % 2], database.address())).collect();
    load.wait_for_commits(COMMITS_BEFORE);
    let begun = Instant::now();
    load.through_outage(change);
    println!("{test}: working again after {:?}", begun.elapsed());
    load.wait_for_commits(COMMITS_BEFORE * 2);
    ended.store(true, Ordering::Release);
    let acknowledged = elsewhere.join().expect("the other producer");
    let sums = load.finish(database, producers);
    check_the_worker(database, &acknowledged, test);
    println!("{test}: {sums:?}, reported {} times", load.trouble());
    assert!(sums.acknowledged > 0);
    for node in nodes {
        node.shutdown_blocking();
    }
    worker.kill();
}

/// Stores calls that only the worker process runs. Returns those whose COMMIT was answered.
fn produce_for_the_worker<P: Producer>(database: &Database, ended: &Arc<AtomicBool>) -> JoinHandle<BTreeSet<i64>> {
    let outbox = database.outbox().enqueue_only().start_blocking().expect("the outbox starts");
    let (address, ended) = (database.address().to_owned(), Arc::clone(ended));
    std::thread::spawn(move || {
        let mut acknowledged = BTreeSet::new();
        let mut connection = None;
        for number in 0.. {
            if ended.load(Ordering::Acquire) {
                break;
            }
            match connection.as_mut() {
                None => connection = P::connect(&address).ok(),
                Some(producer) => match producer.store(&outbox, record(number)) {
                    Ok(()) => drop(acknowledged.insert(number)),
                    Err(_) => connection = None,
                },
            }
            // The rate of this load: a hundred in a second.
            std::thread::sleep(Duration::from_millis(10));
        }
        acknowledged
    })
}

/// The worker process found the new server as well, left nothing of what was acknowledged, and ran nothing that is not stored.
fn check_the_worker(database: &Database, acknowledged: &BTreeSet<i64>, test: &str) {
    let unfinished = || database.count("consistency_task", "state <> 2 AND method_name LIKE 'worker.%'");
    wait_until("the worker process to end its rows", || unfinished() == 0);
    let digits =
        |text: &String| text.chars().filter(char::is_ascii_digit).collect::<String>().parse().expect("a number");
    let parameters = "SELECT task_parameter AS value FROM consistency_task WHERE method_name LIKE 'worker.%'";
    let stored: BTreeSet<i64> = database.texts(parameters).iter().map(digits).collect();
    let ran: Vec<i64> = database
        .texts("SELECT CAST(task AS CHAR(20)) AS value FROM effects")
        .iter()
        .map(|text| text.trim().parse().expect("a number"))
        .collect();
    let once: BTreeSet<i64> = ran.iter().copied().collect();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged, and not stored: {lost:?}");
    let differ: Vec<_> = stored.symmetric_difference(&once).collect();
    assert!(differ.is_empty(), "stored and not run by the worker process, or run and not stored: {differ:?}");
    println!(
        "{test}: the worker process ran {} of {}, {} twice",
        once.len(),
        acknowledged.len(),
        ran.len() - once.len()
    );
}

fn the_standby_takes_over_from_a_killed_primary<P: Producer>(backend: Backend, test: &str) {
    if backend != Backend::Postgres {
        return;
    }
    let made = Server::fresh(backend).and_then(|primary| Ok((primary.synchronous_standby()?, primary)));
    with_own(backend, test, made, |(standby, mut primary)| {
        let database =
            Database::fresh_at(backend, &url_of_the_primary([&primary, &standby], "postgres")).expect("a database");
        through_a_change::<P>(&database, &database.url(), test, || {
            primary.kill();
            standby.promote();
        });
    });
}

fn a_killed_galera_node_hands_over_to_the_next<P: Producer>(backend: Backend, test: &str) {
    if backend != Backend::Mysql {
        return;
    }
    if !is_long() {
        missing::skipped(test, "only with CONSISTENCY_TEST_LONG=1");
        return;
    }
    with_own(backend, test, cluster(3), |mut nodes| {
        let switch = Switch::before(nodes.iter().map(Server::port).collect());
        // mysql_async would go around the switch, through the server's own socket.
        let admin = format!("mysql://root@127.0.0.1:{}/mysql?prefer_socket=false", switch.port());
        let database = Database::fresh_at(backend, &admin).expect("a database");
        // The second node of the outbox works on another server all the time: claims of both meet at certification.
        let other_node = database.url().replace(&format!(":{}/", switch.port()), &format!(":{}/", nodes[2].port()));
        through_a_change::<P>(&database, &other_node, test, || {
            nodes[0].kill();
            wait_until("the others to go on without it", || members_of(&nodes[1]) == 2);
        });
    });
}

for_each_load! {
    the_standby_takes_over_from_a_killed_primary;
    a_killed_galera_node_hands_over_to_the_next;
}
