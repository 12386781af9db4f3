//! Waiting without sleeping blindly: for events, for a condition in the database, for another thread. Each with a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use consistency_core::event::Event;
use consistency_core::state::State;
use parking_lot::{Condvar, Mutex};

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Records the events of one or more outboxes: give [`Recorder::listener`] to `OutboxBuilder::listener`.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    events: Mutex<Vec<Event>>,
    changed: Condvar,
}

impl Recorder {
    /// A recorder that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What hears the events.
    pub fn listener(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move |event| {
            shared.events.lock().push(event.clone());
            shared.changed.notify_all();
        }
    }

    /// Everything heard so far.
    pub fn events(&self) -> Vec<Event> {
        self.shared.events.lock().clone()
    }

    /// Waits until `condition` holds for everything heard so far.
    ///
    /// # Panics
    /// After [`DEADLINE`], with `what` and everything heard.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut condition: impl FnMut(&[Event]) -> bool) {
        self.wait_for_some(what, |events| condition(events).then_some(()));
    }

    /// Waits until `find` finds something in everything heard so far, and returns it.
    ///
    /// # Panics
    /// As [`Recorder::wait_for`].
    #[track_caller]
    pub fn wait_for_some<T>(&self, what: &str, mut find: impl FnMut(&[Event]) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut events = self.shared.events.lock();
        loop {
            if let Some(found) = find(&events) {
                return found;
            }
            if self.shared.changed.wait_until(&mut events, deadline).timed_out() {
                panic!("waited {DEADLINE:?} in vain for: {what}; heard: {events:#?}");
            }
        }
    }

    /// Waits until the task with this public handle is settled into `state`.
    ///
    /// # Panics
    /// As [`Recorder::wait_for`].
    #[track_caller]
    pub fn wait_for_settled(&self, task_id: &str, state: State) {
        self.wait_for(&format!("task {task_id} to be {state}"), |events| {
            settled(events, state).any(|settled| settled == task_id)
        });
    }

    /// Waits until `count` attempts of any task are settled into `state`.
    ///
    /// # Panics
    /// As [`Recorder::wait_for`].
    #[track_caller]
    pub fn wait_for_count(&self, count: usize, state: State) {
        self.wait_for(&format!("{count} attempts to be {state}"), |events| settled(events, state).count() >= count);
    }

    /// How many attempts have been settled into `state` so far.
    pub fn count(&self, state: State) -> usize {
        settled(&self.shared.events.lock(), state).count()
    }
}

/// The public handles of the attempts that were settled into `wanted`, in the order of the events.
pub fn settled(events: &[Event], wanted: State) -> impl Iterator<Item = &str> {
    events.iter().filter_map(move |event| match event {
        Event::Settled { attempt, state, .. } if *state == wanted => Some(attempt.task_id.as_str()),
        _ => None,
    })
}

/// Waits until `condition` holds, asking often at first and then less.
///
/// # Panics
/// After [`DEADLINE`], with `what`.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_until_some(what, || condition().then_some(()));
}

/// Waits until `find` finds something, and returns it.
///
/// # Panics
/// As [`wait_until`].
#[track_caller]
pub fn wait_until_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain for: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Raises a flag when it is dropped, also by a panic: what goes on until then in a scoped thread must end with the test.
#[derive(Debug)]
pub struct RaisedAtEnd<'f>(pub &'f AtomicBool);

impl Drop for RaisedAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A counter threads and bodies raise and wait for: tells a test that a body runs, or a body that it may go on.
#[derive(Debug, Clone, Default)]
pub struct Latch {
    shared: Arc<LatchShared>,
}

#[derive(Debug, Default)]
struct LatchShared {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Latch {
    /// A latch at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the count by one.
    pub fn raise(&self) {
        *self.shared.count.lock() += 1;
        self.shared.changed.notify_all();
    }

    /// The count.
    pub fn count(&self) -> usize {
        *self.shared.count.lock()
    }

    /// Waits on this thread until the count is at least `count`.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        let mut reached = self.shared.count.lock();
        while *reached < count {
            if self.shared.changed.wait_until(&mut reached, deadline).timed_out() {
                panic!("waited {DEADLINE:?} in vain for a latch to reach {count}; it is at {reached}");
            }
        }
    }
}
