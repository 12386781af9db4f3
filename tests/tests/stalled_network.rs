//! A network that swallows everything: nothing hangs, it is reported, and once it forwards again everything ends as it should.

use std::sync::Arc;
use std::time::{Duration, Instant};

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::faults::proxy::{Mode, Proxy};
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::{Probe, end_leases, store};

/// Says that it ran, as often as it does.
#[consistency_task]
fn quick(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

/// Runs until the test lets it go.
#[consistency_task(retry_every = "50ms")]
fn long(#[inject] probe: &Arc<Probe>) {
    let _inside = probe.enter("long");
    probe.note("begun");
    probe.go.wait_for(1);
}

/// The limit of these tests. A promise is kept when it holds within the limit and [`MARGIN`].
const LIMIT: Duration = Duration::from_secs(1);
/// For a machine that does much else at the same time.
const MARGIN: Duration = Duration::from_secs(5);

/// An outbox on the other side of the proxy.
fn through(url: &str, recorder: &Recorder, probe: &Arc<Probe>) -> OutboxBuilder {
    Outbox::builder(url)
        .migrate()
        .poll_interval(Duration::from_millis(50))
        .store_timeout(LIMIT)
        .inject(Arc::clone(probe))
        .listener(recorder.listener())
}

/// Waits until the runtime says that it has waited in vain, doing this.
fn wait_for_trouble(recorder: &Recorder, doing: &str) {
    recorder.wait_for(&format!("trouble while it tries to {doing}"), |events| {
        events.iter().any(|event| matches!(event, Event::StoreTrouble { doing: tried, error } if *tried == doing && error.contains("within")))
    });
}

/// SQLite has no network.
fn has_network(database: &Database) -> bool {
    database.backend() != Backend::Sqlite
}

for_each_database! {
    items {
        /// Inserts a business row in its own transaction.
        #[consistency_task(retry_every = "50ms")]
        fn writes(number: i64, #[tx] tx: &mut TaskTx<Conn>, #[inject] probe: &Arc<Probe>) -> Result<(), diesel::result::Error> {
            use diesel::RunQueryDsl;
            probe.note("begun");
            diesel::sql_query(format!("INSERT INTO business (id) VALUES ({number})")).execute(tx)?;
            probe.note("written");
            probe.go.wait_for(1);
            Ok(())
        }
    }

    fn a_stall_while_it_looks_for_tasks_ends_and_the_tasks_run(database: &Database) {
        if !has_network(database) { return }
        let (proxy, url) = Proxy::before(database.address());
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = through(&url, &recorder, &probe).only([quick::NAME]).start_blocking().unwrap();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        proxy.stall_somebody();
        let task_id = store::<Conn>(database, &elsewhere, quick(1));
        wait_for_trouble(&recorder, "look for due tasks");
        assert_eq!(recorder.count(State::Succeeded), 0);
        proxy.set(Mode::Forward);
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.lost_times, probe.notes().len()), (State::Succeeded, 0, 1));
        outbox.shutdown_blocking();
    }

    fn a_stalled_settlement_is_written_once_the_network_is_back(database: &Database) {
        if !has_network(database) { return }
        let (proxy, url) = Proxy::before(database.address());
        let (recorder, probe) = (Recorder::new(), Probe::new());
        // A lease that outlasts the stall: the attempt must not be made twice.
        let outbox = through(&url, &recorder, &probe).only([long::NAME]).lease(Duration::from_secs(60));
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        proxy.stall_somebody();
        probe.go.raise();
        wait_for_trouble(&recorder, "settle");
        assert_eq!(database.row(&task_id).state(), State::Running);
        proxy.set(Mode::Forward);
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.lost_times, row.owners()), (1, 0, 1));
        assert_eq!(probe.notes(), ["begun"]);
        outbox.shutdown_blocking();
    }

    fn leases_survive_a_stall_shorter_than_they_are(database: &Database) {
        if !has_network(database) { return }
        let (proxy, url) = Proxy::before(database.address());
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = through(&url, &recorder, &probe).only([long::NAME]).lease(Duration::from_secs(20));
        let outbox = outbox.heartbeat(Duration::from_millis(100)).start_blocking().unwrap();
        // It would take the row over.
        let other = database.outbox().only([long::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let other = other.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        proxy.stall_somebody();
        wait_for_trouble(&recorder, "renew leases");
        proxy.set(Mode::Forward);
        let until = || database.number(&format!("COUNT(*) FROM consistency_task WHERE task_id = '{task_id}' AND state = 1"));
        let renewed = |text: &str| database.texts(&format!("SELECT CAST(lease_until AS {text}) AS value FROM consistency_task")).remove(0);
        let text = if BACKEND == Backend::Postgres { "TEXT" } else { "CHAR(40)" };
        let before = renewed(text);
        wait_until("the next renewal", || renewed(text) != before);
        assert_eq!(until(), 1);
        probe.go.raise();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.lost_times, row.owners(), probe.most_inside("long")), (1, 0, 1, 1));
        outbox.shutdown_blocking();
        other.shutdown_blocking();
    }

    fn a_row_whose_node_is_cut_off_runs_elsewhere_after_its_lease_and_the_late_outcome_is_lost(database: &Database) {
        if !has_network(database) { return }
        let (proxy, url) = Proxy::before(database.address());
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = through(&url, &recorder, &probe).only([long::NAME]).heartbeat(Duration::from_millis(100));
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        proxy.stall_somebody();
        wait_for_trouble(&recorder, "renew leases");
        end_leases(database, "lease_owner IS NOT NULL");
        let (others, elsewhere) = (Recorder::new(), Probe::new());
        elsewhere.go.raise();
        let other = database.outbox().only([long::NAME]).inject(Arc::clone(&elsewhere)).listener(others.listener());
        let other = other.start_blocking().unwrap();
        others.wait_for_settled(&task_id, State::Succeeded);
        let settled = database.row(&task_id);
        assert_eq!((settled.state(), settled.owners(), elsewhere.notes().len()), (State::Succeeded, 3, 1));
        probe.go.raise();
        proxy.set(Mode::Forward);
        recorder.wait_for("the lost lease", |events| events.iter().any(|event| matches!(event, Event::LeaseLost { .. })));
        assert_eq!(database.row(&task_id), settled, "the late outcome changes nothing");
        outbox.shutdown_blocking();
        other.shutdown_blocking();
    }

    fn a_start_fails_in_time_when_nobody_answers(database: &Database) {
        if !has_network(database) { return }
        let (proxy, url) = Proxy::before(database.address());
        proxy.set(Mode::Stall);
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let begun = Instant::now();
        let start = || through(&url, &recorder, &probe).only([quick::NAME]).start_blocking();
        let error = start().expect_err("nobody answers").to_string();
        assert!(begun.elapsed() < LIMIT + MARGIN, "{:?}", begun.elapsed());
        assert!(error.contains("cannot connect"), "{error}");
        proxy.set(Mode::Forward);
        start().expect("somebody answers").shutdown_blocking();
    }

    fn questions_are_answered_with_an_error_in_time(database: &Database) {
        if !has_network(database) { return }
        let (proxy, url) = Proxy::before(database.address());
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = through(&url, &recorder, &probe).enqueue_only().start_blocking().unwrap();
        assert_eq!(outbox.status_blocking("nobody").unwrap(), None);
        proxy.set(Mode::Stall);
        let begun = Instant::now();
        let error = outbox.status_blocking("nobody").expect_err("nobody answers");
        assert!(begun.elapsed() < LIMIT + MARGIN, "{:?}", begun.elapsed());
        assert!(error.is_transient() && error.to_string().contains("a question about a task"), "{error}");
        proxy.set(Mode::Forward);
        wait_until("an answer", || outbox.status_blocking("nobody").is_ok());
    }

    fn a_shutdown_ends_in_time_while_nobody_answers(database: &Database) {
        if !has_network(database) { return }
        let (proxy, url) = Proxy::before(database.address());
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let (grace, patience) = (Duration::from_millis(100), Duration::from_secs(2));
        let outbox = through(&url, &recorder, &probe).only([long::NAME]).shutdown_grace(grace).busy_wait(patience);
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        proxy.stall_somebody();
        let begun = Instant::now();
        outbox.shutdown_blocking();
        // Each of three threads has its patience, and a quarter more.
        assert!(begun.elapsed() < grace + patience * 15 / 4 + MARGIN, "{:?}", begun.elapsed());
        probe.go.raise();
        assert_eq!(database.row(&task_id).state(), State::Running, "its lease runs out");
    }

    fn a_transaction_whose_completion_stalls_happens_once(database: &Database) {
        if !has_network(database) { return }
        database.execute("CREATE TABLE business (id INTEGER NOT NULL PRIMARY KEY)");
        let (proxy, url) = Proxy::before(database.address());
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = through(&url, &recorder, &probe).only([writes::NAME]).lease(Duration::from_secs(60));
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, writes(7));
        probe.wait_for("written", 1);
        proxy.stall_somebody();
        probe.go.raise();
        recorder.wait_for("trouble with the transaction", |events| events.iter().any(|event| matches!(
            event, Event::StoreTrouble { doing: "end a task's transaction" | "run a task in a transaction", .. }
        )));
        // What nobody will ever end: the server is told by the end of the connection.
        proxy.set(Mode::Forward);
        proxy.cut();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!((database.count("business", "id = 7"), database.row(&task_id).state()), (1, State::Succeeded));
        outbox.shutdown_blocking();
    }

    fn a_transaction_that_cannot_be_begun_costs_no_attempt(database: &Database) {
        if !has_network(database) { return }
        database.execute("CREATE TABLE business (id INTEGER NOT NULL PRIMARY KEY)");
        let (proxy, url) = Proxy::before(database.address());
        let (recorder, probe) = (Recorder::new(), Probe::new());
        probe.go.raise();
        let outbox = through(&url, &recorder, &probe).only([writes::NAME]).lease(Duration::from_secs(60));
        let outbox = outbox.start_blocking().unwrap();
        // With one connection open already, and with none.
        let first = store::<Conn>(database, &outbox, writes(1));
        recorder.wait_for_settled(&first, State::Succeeded);
        proxy.stall_somebody();
        let task_id = store::<Conn>(database, &outbox, writes(2));
        wait_for_trouble(&recorder, "run a task in a transaction");
        proxy.set(Mode::Forward);
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.lost_times, database.count("business", "id = 2")), (1, 0, 1));
        outbox.shutdown_blocking();
    }
}
