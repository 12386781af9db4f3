//! A process of the storm: a node with default settings, and producers in both worlds of connections beside it.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consistency_core::event::Event;
use consistency_diesel::prelude::Outbox;

use crate::ledger::Ledger;
use crate::orders::Business;

/// A database's tasks that take its connection, and its producers.
macro_rules! blocking_world {
    ($module:ident, $feature:literal, $connection:ty, $set_up:expr) => {
        #[cfg(feature = $feature)]
        mod $module {
            use std::sync::Arc;
            use std::time::Instant;

            use consistency_diesel::prelude::*;
            use diesel::connection::SimpleConnection;
            use diesel::prelude::*;
            use diesel::result::Error;

            use crate::ledger::Ledger;
            use crate::orders::{Business, bookings, orders};
            use crate::tasks::call;

            #[consistency_task(name = "storm.book", retry_every = "1s")]
            fn book(
                order: i64,
                #[tx] tx: &mut TaskTx<$connection>,
                #[inject] ledger: &Arc<Ledger>,
                #[context] cx: &TaskContext,
            ) -> QueryResult<()> {
                let _ = order;
                let run = ledger.begin(cx);
                diesel::insert_into(bookings::table).values(bookings::task.eq(cx.id())).execute(tx)?;
                run.succeeded();
                Ok(())
            }

            /// Stores orders until the business is closed.
            pub(super) fn produce(outbox: &Outbox, address: &str, business: &Business) {
                let mut moment = Instant::now();
                while !business.is_closed() {
                    let mut conn = <$connection>::establish(address).expect("a connection");
                    conn.batch_execute($set_up).expect("a set up connection");
                    let mut well = true;
                    while well && !business.is_closed() {
                        moment = business.next_moment(moment);
                        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
                        let order = business.draw();
                        let outcome = outbox.transaction(&mut conn, |tx| {
                            let row = (orders::number.eq(order.number), orders::calls.eq(order.calls.len() as i32));
                            diesel::insert_into(orders::table).values(row).execute(tx)?;
                            for kind in &order.calls {
                                let books = || book(order.number).biz("order", order.number);
                                tx.enqueue(call(*kind, order.number).unwrap_or_else(books))?;
                            }
                            if order.given_up { Err(Error::RollbackTransaction) } else { Ok(()) }
                        });
                        business.told(&order, &outcome);
                        well = outcome.is_ok() || order.given_up;
                    }
                }
            }
        }
    };
}

/// As [`blocking_world`], with connections of diesel-async.
macro_rules! async_world {
    ($module:ident, $feature:literal, $connection:ty, $set_up:expr) => {
        #[cfg(feature = $feature)]
        mod $module {
            use std::sync::Arc;
            use std::time::Instant;

            use consistency_diesel::async_prelude::*;
            use diesel::prelude::{ExpressionMethods, QueryResult};
            use diesel::result::Error;
            use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

            use crate::ledger::Ledger;
            use crate::orders::{Business, bookings, orders};
            use crate::tasks::call;

            #[consistency_task(name = "storm.book_async", retry_every = "1s")]
            async fn book(
                order: i64,
                #[tx] tx: &mut TaskTx<'_, $connection>,
                #[inject] ledger: &Arc<Ledger>,
                #[context] cx: &TaskContext,
            ) -> QueryResult<()> {
                let _ = order;
                let run = ledger.begin(cx);
                diesel::insert_into(bookings::table).values(bookings::task.eq(cx.id())).execute(tx).await?;
                run.succeeded();
                Ok(())
            }

            /// Stores orders until the business is closed.
            pub(super) async fn produce(outbox: &Outbox, address: &str, business: &Business) {
                let mut moment = Instant::now();
                while !business.is_closed() {
                    let mut conn = <$connection>::establish(address).await.expect("a connection");
                    conn.batch_execute($set_up).await.expect("a set up connection");
                    let mut well = true;
                    while well && !business.is_closed() {
                        moment = business.next_moment(moment);
                        tokio::time::sleep_until(moment.into()).await;
                        let order = business.draw();
                        let outcome = outbox
                            .transaction(&mut conn, async |tx| {
                                let row = (orders::number.eq(order.number), orders::calls.eq(order.calls.len() as i32));
                                diesel::insert_into(orders::table).values(row).execute(tx).await?;
                                for kind in &order.calls {
                                    let books = || book(order.number).biz("order", order.number);
                                    tx.enqueue(call(*kind, order.number).unwrap_or_else(books)).await?;
                                }
                                if order.given_up { Err(Error::RollbackTransaction) } else { Ok(()) }
                            })
                            .await;
                        business.told(&order, &outcome);
                        well = outcome.is_ok() || order.given_up;
                    }
                }
            }
        }
    };
}

const SQLITE: &str = "PRAGMA busy_timeout = 60000; PRAGMA synchronous = NORMAL";
blocking_world!(sqlite, "sqlite", diesel::SqliteConnection, super::SQLITE);
blocking_world!(postgres, "postgres", diesel::PgConnection, "SELECT 1");
blocking_world!(mysql, "mysql", diesel::MysqlConnection, "SELECT 1");
async_world!(
    async_sqlite,
    "async-sqlite",
    diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>,
    super::SQLITE
);
async_world!(async_postgres, "async-postgres", diesel_async::AsyncPgConnection, "SELECT 1");
async_world!(async_mysql, "async-mysql", diesel_async::AsyncMysqlConnection, "SELECT 1");

/// Producers of each world in one process.
const PRODUCERS: usize = 2;

/// Stores and runs until its standard input says `close`, then runs until it ends.
pub(crate) fn run(url: &str, folder: &Path, process: u32, rate: f64, seed: u64) {
    let ledger = Arc::new(Ledger::create(folder, process));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a Tokio runtime");
    let heard = Arc::clone(&ledger);
    let builder = Outbox::builder(url).inject(Arc::clone(&ledger)).listener(move |event: &Event| heard.hear(event));
    let outbox = runtime.block_on(builder.start()).expect("the outbox starts");
    println!("node {}", std::process::id());
    let worlds = 1 + usize::from(cfg!(feature = "async"));
    let business = Business::new(Arc::clone(&ledger), process, rate, worlds * PRODUCERS, seed);
    let address = url.strip_prefix("sqlite://").unwrap_or(url).to_owned();
    for _ in 0..PRODUCERS {
        let (outbox, address, business) = (outbox.clone(), address.clone(), Arc::clone(&business));
        std::thread::spawn(move || produce_blocking(&outbox, &address, &business));
    }
    #[cfg(feature = "async")]
    for _ in 0..PRODUCERS {
        let (outbox, address, business) = (outbox.clone(), address.clone(), Arc::clone(&business));
        runtime.spawn(async move { produce_async(&outbox, &address, &business).await });
    }
    let (reported, business_of_reports) = (Arc::clone(&ledger), Arc::clone(&business));
    std::thread::spawn(move || {
        let mut moment = Instant::now();
        while !business_of_reports.is_closed() {
            println!("committed {}", reported.committed());
            moment += Duration::from_millis(500);
            std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        }
    });
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == "close" {
            business.close();
        }
    }
    business.close();
    outbox.shutdown_blocking();
    println!("committed {}", ledger.committed());
    println!("stopped");
}

fn produce_blocking(outbox: &Outbox, address: &str, business: &Business) {
    match address.split(':').next() {
        #[cfg(feature = "postgres")]
        Some("postgres") => postgres::produce(outbox, address, business),
        #[cfg(feature = "mysql")]
        Some("mysql") => mysql::produce(outbox, address, business),
        #[cfg(feature = "sqlite")]
        _ => sqlite::produce(outbox, address, business),
        #[cfg(not(feature = "sqlite"))]
        _ => drop((outbox, business)),
    }
}

#[cfg(feature = "async")]
async fn produce_async(outbox: &Outbox, address: &str, business: &Business) {
    match address.split(':').next() {
        #[cfg(feature = "async-postgres")]
        Some("postgres") => async_postgres::produce(outbox, address, business).await,
        #[cfg(feature = "async-mysql")]
        Some("mysql") => async_mysql::produce(outbox, address, business).await,
        #[cfg(feature = "async-sqlite")]
        _ => async_sqlite::produce(outbox, address, business).await,
        #[cfg(not(feature = "async-sqlite"))]
        _ => drop((outbox, business)),
    }
}
