//! A process in which something goes wrong: stores tasks, runs them, or both, and suffers what its setup says.
//!
//! `fault_node URL SETUP`, where SETUP is a `consistency_tests::faults::setup::Setup` as JSON. It prints `started`,
//! `reached PLACE` where its plan strikes, `told NUMBER WORD` for each order, `produced` after the last one, and lines about
//! leases and trouble. It ends well when its standard input closes; the line `go on` lets it go on after a SIGCONT.

// A panic is how a test speaks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tasks;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use consistency_core::call::Call;
use consistency_core::event::Event;
use consistency_diesel::outbox::Outbox;
use consistency_tests::backend::Backend;
use consistency_tests::effects::Effects;
use consistency_tests::faults::history::Told;
use consistency_tests::faults::orders;
use consistency_tests::faults::plan::Plan;
use consistency_tests::faults::sessions::sever;
use consistency_tests::faults::setup::{Mode, Role, Setup, World};
use consistency_tests::faults::strike::Striker;

use crate::tasks::Ground;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the database's URL");
    let setup: Setup = serde_json::from_str(&arguments.next().expect("a setup")).expect("a setup as JSON");
    let backend = Backend::of_url(&url);
    let address = url.strip_prefix("sqlite://").unwrap_or(&url).to_owned();

    let (severed, spared) = (address.clone(), setup.spared.clone());
    let striker = Striker::new(Plan::new(setup.plan.clone()), move || sever(backend, &severed, &spared));
    let end = listen(&striker);
    striker.arm();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("a Tokio runtime");
    // The blocking world is one without Tokio.
    let inside = (setup.world == World::Async).then(|| runtime.enter());
    let outbox = start(&url, &setup, &striker);
    println!("started");
    drop(inside);

    if setup.role != Role::Node {
        let produced = Produced { backend, address: &address, outbox: &outbox, setup: &setup };
        produced.produce(&runtime);
        println!("produced");
    }
    end.recv().expect("the end of the standard input");
    outbox.shutdown_blocking();
    println!("stopped");
}

/// Hears the standard input; what is returned receives its end.
fn listen(striker: &Arc<Striker>) -> Receiver<()> {
    let (ended, end) = channel();
    let striker = Arc::clone(striker);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            assert_eq!(line, "go on", "nothing else is understood");
            striker.go_on.raise();
        }
        // Nobody waits any more where the process ends otherwise.
        let _ = ended.send(());
    });
    end
}

fn start(url: &str, setup: &Setup, striker: &Arc<Striker>) -> Outbox {
    let backend = Backend::of_url(url);
    let names = match setup.world {
        World::Sync => tasks::SYNC_NAMES,
        World::Async => tasks::ASYNC_NAMES,
    };
    let builder = Outbox::builder(url)
        .only(names)
        .inject(Ground {
            effects: Effects::beside(url),
            striker: Arc::clone(striker),
            stay: setup.stay,
            fail_first: setup.fail_first,
        })
        .concurrency(setup.slots)
        .transaction_connections(if backend == Backend::Sqlite { 1 } else { 2 })
        .poll_interval(Duration::from_millis(50))
        .lease(setup.lease)
        .heartbeat(setup.lease / 4)
        .busy_wait(Duration::from_secs(10))
        .listener(say);
    let builder = if setup.role == Role::Producer { builder.enqueue_only() } else { builder };
    builder.start_blocking().expect("the outbox starts")
}

/// Prints what tests listen for.
fn say(event: &Event) {
    match event {
        Event::StoreTrouble { doing, error } => println!("trouble: {doing}: {error}"),
        Event::SettleRefused { id, error } => println!("refused {id}: {error}"),
        Event::LeaseLost { attempt } => println!("lease lost {} {}", attempt.id, attempt.attempt),
        Event::Rescued { id, state, lost_times, .. } => println!("rescued {id} {state} {lost_times}"),
        Event::Released { id, reason } => println!("released {id}: {reason}"),
        Event::Settled { attempt, state, .. } => println!("settled {} {} {state}", attempt.id, attempt.attempt),
        _ => {}
    }
}

/// What the producer needs.
struct Produced<'a> {
    backend: Backend,
    address: &'a str,
    outbox: &'a Outbox,
    setup: &'a Setup,
}

impl Produced<'_> {
    fn produce(&self, runtime: &tokio::runtime::Runtime) {
        match (self.setup.world, self.backend) {
            #[cfg(feature = "sqlite")]
            (World::Sync, Backend::Sqlite) => self.on::<diesel::SqliteConnection>(tasks::sqlite::call),
            #[cfg(feature = "postgres")]
            (World::Sync, Backend::Postgres) => self.on::<diesel::PgConnection>(tasks::postgres::call),
            #[cfg(feature = "mysql")]
            (World::Sync, Backend::Mysql) => self.on::<diesel::MysqlConnection>(tasks::mysql::call),
            #[cfg(feature = "async-sqlite")]
            (World::Async, Backend::Sqlite) => {
                type Conn = diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>;
                runtime.block_on(self.on_async::<Conn>(tasks::async_sqlite::call));
            }
            #[cfg(feature = "async-postgres")]
            (World::Async, Backend::Postgres) => {
                runtime.block_on(self.on_async::<diesel_async::AsyncPgConnection>(tasks::async_postgres::call));
            }
            #[cfg(feature = "async-mysql")]
            (World::Async, Backend::Mysql) => {
                runtime.block_on(self.on_async::<diesel_async::AsyncMysqlConnection>(tasks::async_mysql::call));
            }
            #[allow(unreachable_patterns)]
            (world, backend) => panic!("built without {backend} in the {world:?} world ({runtime:?})"),
        }
    }

    fn calls(&self, number: i64, call: fn(Mode, i64) -> Call) -> Vec<Call> {
        let call = || {
            let call = call(self.setup.mode, number);
            match &self.setup.ordered_by {
                Some(key) => call.ordered_by(key),
                None => call,
            }
        };
        std::iter::repeat_with(call).take(self.setup.calls).collect()
    }

    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    fn on<C: consistency_diesel::blocking_connection::BlockingConnection>(&self, call: fn(Mode, i64) -> Call) {
        for number in self.setup.orders.clone() {
            let calls = self.calls(number, call);
            tell(number, orders::commit::<C>(self.backend, self.address, self.outbox, number, calls));
        }
    }

    #[cfg(feature = "async")]
    async fn on_async<C: orders::OrdersAsync>(&self, call: fn(Mode, i64) -> Call) {
        for number in self.setup.orders.clone() {
            let calls = self.calls(number, call);
            tell(number, C::commit_order(self.backend, self.address, self.outbox, number, calls).await);
        }
    }
}

fn tell(number: i64, told: Told) {
    println!("told {number} {told}");
}
