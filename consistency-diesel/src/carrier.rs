//! The runtime's own connections: whichever client carries them, its threads call them as if they blocked, and never longer
//! than a time limit.
//!
//! A connection of diesel-async is driven by a small Tokio runtime of its own on the thread that calls it, so that a statement
//! needs no change of threads, and neither a blocked nor an ended runtime of the application can hold up a heartbeat. One of
//! Diesel's clients is called on a thread of its own (`apart.rs`).

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use diesel::ConnectionResult;
use diesel::r2d2::ManageConnection;
use diesel::result::QueryResult;

use crate::connection::{RunStatement, TaskConnection};
use crate::error::is_disconnected;
use crate::set_up::SetUp;
use crate::stand_in::GivenUp;
use crate::waiting::Waiting;

/// A connection that a thread of the runtime can call.
pub(crate) trait Carrier: Send + Sized + 'static {
    /// The connection inside.
    type Connection: TaskConnection;

    /// Connects.
    fn connect(url: &str, waiting: Waiting, given_up: &Arc<GivenUp>) -> ConnectionResult<Self>;

    /// Runs `work` on the connection, to its end or that of the wait; then the connection is broken.
    fn run<T: Send + 'static>(
        &mut self,
        waiting: Waiting,
        work: impl AsyncFnOnce(&mut Self::Connection) -> QueryResult<T> + Send + 'static,
    ) -> QueryResult<T>;

    /// The connection, to be called without a limit; `None` when it was given up.
    fn connection(&mut self) -> Option<&mut Self::Connection>;

    /// Asks the server whether the connection lives.
    fn ping(&mut self, waiting: Waiting) -> QueryResult<()> {
        self.run(waiting, async |conn| conn.run_batch("SELECT 1").await)
    }

    /// Whether it is known to be useless.
    fn is_broken(&mut self) -> bool;
}

/// A connection that has answered within this time is taken for alive.
const FRESH: Duration = Duration::from_secs(10);

/// A carrier in a pool.
pub(crate) struct Pooled<K> {
    carrier: K,
    /// When it answered the last time; `None` once it has met an error, or was lent to somebody who may have. Not every driver
    /// knows that its connection is broken.
    answered: Option<Answered>,
    losses: Arc<AtomicU64>,
}

/// By both clocks, of which one stands still while the machine is suspended; and how many connections of the pool were lost then.
struct Answered {
    at: Instant,
    time: SystemTime,
    losses: u64,
}

impl Answered {
    fn now(losses: &AtomicU64) -> Self {
        Self { at: Instant::now(), time: SystemTime::now(), losses: losses.load(Ordering::SeqCst) }
    }

    /// Where one connection is lost, others may be.
    fn is_fresh(&self, losses: &AtomicU64) -> bool {
        self.at.elapsed() < FRESH
            && self.time.elapsed().is_ok_and(|since| since < FRESH)
            && self.losses == losses.load(Ordering::SeqCst)
    }
}

impl<K: Carrier> Pooled<K> {
    /// As [`Carrier::run`].
    pub(crate) fn run<T: Send + 'static>(
        &mut self,
        waiting: Waiting,
        work: impl AsyncFnOnce(&mut K::Connection) -> QueryResult<T> + Send + 'static,
    ) -> QueryResult<T> {
        let answer = self.carrier.run(waiting, work);
        if answer.as_ref().is_err_and(is_disconnected) {
            self.losses.fetch_add(1, Ordering::SeqCst);
        }
        self.answered = answer.is_ok().then(|| Answered::now(&self.losses));
        answer
    }

    /// As [`Carrier::connection`].
    pub(crate) fn connection(&mut self) -> Option<&mut K::Connection> {
        self.answered = None;
        self.carrier.connection()
    }
}

/// Opens carriers for a pool, set up for the runtime.
#[derive(Debug)]
pub(crate) struct CarrierManager<K> {
    url: String,
    set_up: SetUp,
    limit: Duration,
    given_up: Arc<GivenUp>,
    /// How many of the pool's connections were lost.
    losses: Arc<AtomicU64>,
    carrier: PhantomData<fn() -> K>,
}

impl<K: Carrier> CarrierManager<K> {
    /// For connections to `url`, each of which is there within `limit`.
    pub(crate) fn new(url: &str, set_up: SetUp, limit: Duration) -> Self {
        Self {
            url: url.to_owned(),
            set_up,
            limit,
            given_up: Arc::default(),
            losses: Arc::default(),
            carrier: PhantomData,
        }
    }
}

impl<K: Carrier> ManageConnection for CarrierManager<K> {
    type Connection = Pooled<K>;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Pooled<K>, Self::Error> {
        let waiting = Waiting::begin("a new connection", self.limit);
        let connected = K::connect(&self.url, waiting, &self.given_up);
        let mut carrier = connected.map_err(diesel::r2d2::Error::ConnectionError)?;
        let set_up = self.set_up;
        carrier.run(waiting, async move |conn| set_up.apply(conn).await).map_err(diesel::r2d2::Error::QueryError)?;
        let losses = Arc::clone(&self.losses);
        Ok(Pooled { carrier, answered: Some(Answered::now(&losses)), losses })
    }

    fn is_valid(&self, pooled: &mut Pooled<K>) -> Result<(), Self::Error> {
        if pooled.answered.as_ref().is_some_and(|answered| answered.is_fresh(&self.losses)) {
            return Ok(());
        }
        pooled.carrier.ping(Waiting::for_ping(self.limit)).map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, pooled: &mut Pooled<K>) -> bool {
        std::thread::panicking() || pooled.carrier.is_broken()
    }
}
