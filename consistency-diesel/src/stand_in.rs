//! A thread that calls the database in the place of one that must not hang: Diesel's blocking clients know no time limits.
//!
//! Whoever waits for it waits only so long. A call that has not returned by then is given up with its thread: both are counted
//! and end by themselves when the call returns, for nothing can interrupt it from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Calls given up and still under way from which on new connections are opened only now and then.
const FREELY_UP_TO: usize = 16;
/// How often one is opened beyond that: not never, for the database may be well again while the old calls never return.
const THEN_EVERY: Duration = Duration::from_secs(60);

/// How many calls were given up and have not returned.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    count: AtomicUsize,
    last_opened: Mutex<Option<Instant>>,
}

impl GivenUp {
    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether another connection may be opened now.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_open(&self) -> Result<(), String> {
        let count = self.count();
        if count < FREELY_UP_TO {
            return Ok(());
        }
        let mut last = self.last_opened.lock();
        if last.is_some_and(|last| last.elapsed() < THEN_EVERY) {
            return Err(format!(
                "{count} calls to the database were given up and have not returned; until some do, a connection is opened only \
                 once in {THEN_EVERY:?}"
            ));
        }
        *last = Some(Instant::now());
        Ok(())
    }
}

/// Why a call gave no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    /// It has not returned in time, and was given up.
    TimeOver,
    /// It panicked, or the stand-in was used up before.
    Broken,
}

type Call = Box<dyn FnOnce() + Send>;

/// A thread that makes one call after the other.
#[derive(Debug)]
pub(crate) struct StandIn {
    calls: Option<Sender<Call>>,
    thread: Option<JoinHandle<()>>,
    given_up: Arc<GivenUp>,
}

/// Nobody has said how the call ended.
const UNDER_WAY: u8 = 0;
/// It returned.
const RETURNED: u8 = 1;
/// Nobody waits for it any more.
const LEFT: u8 = 2;

impl StandIn {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub(crate) fn start(given_up: &Arc<GivenUp>) -> std::io::Result<Self> {
        let (calls, received): (Sender<Call>, Receiver<Call>) = channel();
        let thread = std::thread::Builder::new().name("consistency-database".to_owned()).spawn(move || {
            while let Ok(call) = received.recv() {
                call();
            }
        })?;
        Ok(Self { calls: Some(calls), thread: Some(thread), given_up: Arc::clone(given_up) })
    }

    /// Has the thread make a call, and waits for it at most `limit`. What comes later is dropped where it comes.
    ///
    /// # Errors
    /// When nothing came. The stand-in is used up then.
    pub(crate) fn call<T: Send + 'static>(
        &mut self,
        limit: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Missed> {
        let (reply, answer) = sync_channel(1);
        let standing = Arc::new(AtomicU8::new(UNDER_WAY));
        let leaves = Leaves { standing: Arc::clone(&standing), given_up: Arc::clone(&self.given_up) };
        let sent = self.calls.as_ref().is_some_and(|calls| {
            let call = move || {
                let _leaves = leaves;
                // Who waited may have gone.
                reply.send(call()).ok();
            };
            calls.send(Box::new(call)).is_ok()
        });
        if !sent {
            return Err(Missed::Broken);
        }
        match answer.recv_timeout(limit) {
            Ok(value) => Ok(value),
            Err(RecvTimeoutError::Disconnected) => {
                self.use_up();
                Err(Missed::Broken)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.given_up.count.fetch_add(1, Ordering::AcqRel);
                if standing.swap(LEFT, Ordering::AcqRel) == RETURNED {
                    self.given_up.count.fetch_sub(1, Ordering::AcqRel);
                }
                self.use_up();
                Err(Missed::TimeOver)
            }
        }
    }

    /// Lets go of the thread; it ends after what it is at.
    fn use_up(&mut self) {
        self.calls = None;
        self.thread = None;
    }
}

impl Drop for StandIn {
    /// Ends the thread, which is idle, and waits for that: a process that exits next must not have threads about to end, at
    /// which client libraries clean up.
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            thread.join().ok();
        }
    }
}

/// Says at its end, also that of a panic, that the call has returned.
struct Leaves {
    standing: Arc<AtomicU8>,
    given_up: Arc<GivenUp>,
}

impl Drop for Leaves {
    fn drop(&mut self) {
        if self.standing.swap(RETURNED, Ordering::AcqRel) == LEFT {
            self.given_up.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_answered_in_turn_on_one_thread() {
        let mut stand_in = StandIn::start(&Arc::default()).unwrap();
        let mut thread = || stand_in.call(Duration::from_secs(20), || std::thread::current().id()).unwrap();
        let (first, second) = (thread(), thread());
        assert_eq!(first, second);
        assert_ne!(first, std::thread::current().id());
    }

    #[test]
    fn a_call_given_up_is_counted_until_it_returns() {
        let given_up = Arc::new(GivenUp::default());
        let mut stand_in = StandIn::start(&given_up).unwrap();
        let (go, going) = channel::<()>();
        assert_eq!(stand_in.call(Duration::from_millis(10), move || going.recv()).unwrap_err(), Missed::TimeOver);
        assert_eq!(given_up.count(), 1);
        assert_eq!(stand_in.call(Duration::from_secs(20), || ()).unwrap_err(), Missed::Broken);
        go.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while given_up.count() > 0 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_panic_uses_the_stand_in_up_and_is_not_counted() {
        let given_up = Arc::new(GivenUp::default());
        let mut stand_in = StandIn::start(&given_up).unwrap();
        let called: Result<(), Missed> = stand_in.call(Duration::from_secs(20), || panic!("the client panics"));
        assert_eq!((called, given_up.count()), (Err(Missed::Broken), 0));
    }

    #[test]
    fn beyond_the_bound_one_connection_is_opened_now_and_then() {
        let given_up = GivenUp::default();
        given_up.count.store(FREELY_UP_TO - 1, Ordering::Release);
        assert_eq!((given_up.may_open(), given_up.may_open()), (Ok(()), Ok(())));
        given_up.count.store(FREELY_UP_TO, Ordering::Release);
        assert_eq!(given_up.may_open(), Ok(()));
        assert!(given_up.may_open().unwrap_err().starts_with("16 calls"));
    }
}
