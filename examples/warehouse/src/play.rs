//! Plays the scene once: opens the database, starts the carrier and the outbox, stores the orders, waits for the end.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use consistency_diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};

use crate::args::{Driver, SceneArguments};
use crate::carrier_process::CarrierProcess;
use crate::delivery::Carrier;
use crate::orders::Order;
use crate::progress::{Progress, View};
use crate::report::{Report, Totals, sql_to_look_at};
use crate::tasks::{Scene, TASKS};

/// Between two looks at the counters.
const TICK: Duration = Duration::from_millis(50);
/// The counters may miss what another process did. When they have stood still for this long, the table is asked.
const QUIET: Duration = Duration::from_secs(2);

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    AllDelivered,
    SomeUndelivered,
}

/// Plays the scene on a database of kind `S`, from wherever a former run left it.
pub(crate) fn play<S: Scene>(arguments: &SceneArguments, driver: Driver, orders: Vec<Order>) -> Result<Ending> {
    let started = Instant::now();
    let mut database: S = open(arguments)?;
    let stored = database.order_numbers().context("cannot read the stored orders")?;
    let to_store: Vec<Order> = orders.into_iter().filter(|order| !stored.contains(&order.order_no)).collect();
    let known = known_so_far(&mut database, &stored)?;
    let total = (stored.len() + to_store.len()) as u64;
    if to_store.is_empty() && !database.has_unfinished_tasks(&TASKS)? {
        return Ok(nothing_to_do(&known, total, &sql_to_look_at(arguments, driver)));
    }
    if !stored.is_empty() {
        println!("Going on: {} orders are stored already, {} are delivered.", stored.len(), known.delivered);
    }

    let (carrier, mut process) = way_to_the_carrier(arguments, driver)?;
    let carrier = Arc::new(carrier);
    let progress =
        Arc::new(Progress::resume(stored.len() as u64, known.delivered.unsigned_abs(), known.dead.unsigned_abs()));
    let observer = Arc::clone(&progress);
    let outbox = Outbox::builder(arguments.database_url.as_str())
        .only(TASKS)
        .inject(Arc::clone(&carrier))
        .listener(move |event| observer.observe(event))
        .migrate()
        .start_blocking()?;
    println!("To look on from another terminal:\n{}\n", sql_to_look_at(arguments, driver));

    let mut view = View::new(total);
    let mut look = || {
        view.show(&progress);
        thread::sleep(TICK);
        process.as_mut().map_or(Ok(()), CarrierProcess::check)
    };
    store_all::<S>(arguments, &outbox, &to_store, &progress, &mut look)?;
    wait_for_the_end(&mut database, &progress, total, &mut look)?;
    outbox.shutdown_blocking();
    view.finish(&progress);

    let report = Report {
        orders: total,
        totals: Totals::read(&mut database).context("cannot count the tasks")?,
        slowest: carrier.slowest(),
        carrier: process.map(CarrierProcess::stop).transpose()?,
        elapsed: started.elapsed(),
    };
    println!("\n{report}\n\n{}", sql_to_look_at(arguments, driver));
    Ok(ending(&report.totals, total))
}

fn open<S: Scene>(arguments: &SceneArguments) -> Result<S> {
    let shown = arguments.shown_url();
    let mut database =
        S::establish(&arguments.database_url).with_context(|| format!("cannot open the database {shown}"))?;
    database.set_up().with_context(|| format!("cannot create the shop's tables in {shown}"))?;
    Ok(database)
}

/// The outbox's counts of former runs. Its table exists once an order is stored, for they are stored with their tasks.
fn known_so_far<S: Scene>(database: &mut S, stored: &HashSet<i64>) -> Result<Totals> {
    if stored.is_empty() {
        return Ok(Totals::default());
    }
    Totals::read(database).context("cannot count the tasks")
}

/// The carrier in a process of its own, or RabbitMQ.
fn way_to_the_carrier(arguments: &SceneArguments, driver: Driver) -> Result<(Carrier, Option<CarrierProcess>)> {
    if let Some(url) = &arguments.amqp {
        return Ok((Carrier::amqp(url)?, None));
    }
    let process = CarrierProcess::start(&arguments.carrier_directory(driver), arguments.calm)?;
    Ok((Carrier::http(process.address())?, Some(process)))
}

/// Stores the orders, each in a transaction of its own, over [`crate::shop::Shop::PRODUCERS`] connections.
fn store_all<S: Scene>(
    arguments: &SceneArguments,
    outbox: &Outbox,
    orders: &[Order],
    progress: &Progress,
    look: &mut impl FnMut() -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let produce = || -> Result<()> {
        let mut database: S = open(arguments)?;
        while let Some(order) = orders.get(next.fetch_add(1, Ordering::Relaxed)) {
            let stored = match database.store_order(outbox, order) {
                // A former run was killed while the database still had its COMMIT to do: the order is there now.
                Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(()),
                stored => stored,
            };
            if stored.is_err() {
                // The others stop at their next order.
                next.store(orders.len(), Ordering::Relaxed);
            }
            stored.with_context(|| format!("cannot store order {}", order.order_no))?;
            progress.order_stored();
        }
        Ok(())
    };
    thread::scope(|scope| {
        let producers: Vec<_> = (0..S::PRODUCERS).map(|_| scope.spawn(produce)).collect();
        while !producers.iter().all(|producer| producer.is_finished()) {
            look()?;
        }
        producers.into_iter().try_for_each(|producer| match producer.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Waits until no task of the scene has yet to run. The table decides; it is asked when the counters say it is worth it.
fn wait_for_the_end<S: Scene>(
    database: &mut S,
    progress: &Progress,
    total: u64,
    look: &mut impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut last = (progress.settled(), Instant::now());
    loop {
        look()?;
        let settled = progress.settled();
        if settled != last.0 {
            last = (settled, Instant::now());
        }
        if settled >= total || last.1.elapsed() >= QUIET {
            if !database.has_unfinished_tasks(&TASKS).context("cannot look for unfinished tasks")? {
                return Ok(());
            }
            last.1 = Instant::now();
        }
    }
}

fn nothing_to_do(totals: &Totals, orders: u64, sql: &str) -> Ending {
    let ending = ending(totals, orders);
    if ending == Ending::AllDelivered {
        println!("Everything is delivered already: {orders} orders.");
    }
    println!("{sql}");
    ending
}

/// Whether everything is delivered; says so when not.
fn ending(totals: &Totals, orders: u64) -> Ending {
    if totals.dead == 0 && totals.delivered.unsigned_abs() >= orders {
        return Ending::AllDelivered;
    }
    let missing = orders.saturating_sub(totals.delivered.unsigned_abs());
    eprintln!("{missing} of {orders} orders are not delivered; {} tasks are dead and need a person.", totals.dead);
    Ending::SomeUndelivered
}
