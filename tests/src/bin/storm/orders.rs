//! The business of the storm: orders, each committed with its calls, by producers of both worlds of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use consistency_diesel::error::TransactionError;
use diesel::result::Error;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::ledger::{Ledger, Told};

diesel::table! {
    orders (number) {
        number -> BigInt,
        calls -> Integer,
    }
}
diesel::table! {
    bookings (task) {
        task -> BigInt,
    }
}

/// Creates both, without any key that would hide a doubled row.
pub(crate) const TABLES: [&str; 2] = [
    "CREATE TABLE orders (number BIGINT NOT NULL PRIMARY KEY, calls INTEGER NOT NULL)",
    "CREATE TABLE bookings (task BIGINT NOT NULL)",
];

/// Most calls of one order.
const CALLS_MAX: usize = 9;
/// Ordering keys in use.
const KEYS: u32 = 200;

/// A kind of call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Future,
    Thread,
    OnCaller,
    Flaky,
    Delayed { ms: u64 },
    Ordered { key: u32 },
    Books,
}

/// One order to be stored.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) number: i64,
    pub(crate) calls: Vec<Kind>,
    /// Whether its transaction is given up at the end.
    pub(crate) given_up: bool,
}

/// What the producers of a process share.
#[derive(Debug)]
pub(crate) struct Business {
    pub(crate) ledger: Arc<Ledger>,
    closed: AtomicBool,
    next: AtomicI64,
    dice: Mutex<StdRng>,
    /// Time from one order of a producer to the next.
    pace: Duration,
}

impl Business {
    /// `process` numbers its orders apart from all others; `rate` is in calls a second, of `producers` together.
    pub(crate) fn new(ledger: Arc<Ledger>, process: u32, rate: f64, producers: usize, seed: u64) -> Arc<Self> {
        let calls_per_order = (1 + CALLS_MAX) as f64 / 2.0;
        Arc::new(Self {
            ledger,
            closed: AtomicBool::new(false),
            next: AtomicI64::new(i64::from(process) * 10_000_000),
            dice: Mutex::new(StdRng::seed_from_u64(seed.wrapping_add(process.into()))),
            pace: Duration::from_secs_f64(calls_per_order * producers as f64 / rate),
        })
    }

    /// No more orders.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The moments of one producer's orders; who falls behind does not hurry.
    pub(crate) fn next_moment(&self, last: Instant) -> Instant {
        (last + self.pace).max(Instant::now())
    }

    pub(crate) fn draw(&self) -> Order {
        let mut draw = self.dice.lock();
        let calls = (0..draw.random_range(1..=CALLS_MAX)).map(|_| kind(&mut *draw)).collect();
        Order { number: self.next.fetch_add(1, Ordering::Relaxed), calls, given_up: draw.random_bool(0.03) }
    }

    /// Writes down how it went.
    pub(crate) fn told(&self, order: &Order, outcome: &Result<(), Error>) {
        let told = match outcome {
            Ok(()) => Told::Committed,
            Err(error) if matches!(TransactionError::of(error), Some(TransactionError::CommitUnknown(_))) => {
                Told::Unknown
            }
            Err(_) => Told::Failed,
        };
        self.ledger.told(order.number, told, order.calls.len());
    }
}

fn kind(draw: &mut impl RngExt) -> Kind {
    match draw.random_range(0..100) {
        0..45 => Kind::Future,
        45..65 => Kind::Thread,
        65..70 => Kind::OnCaller,
        70..75 => Kind::Flaky,
        75..83 => Kind::Delayed { ms: draw.random_range(0..3000) },
        83..91 => Kind::Ordered { key: draw.random_range(0..KEYS) },
        _ => Kind::Books,
    }
}
