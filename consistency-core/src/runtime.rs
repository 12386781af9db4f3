//! Wires the parts together: starts the threads, and stops in good order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::bodies::Bodies;
use crate::clock::Clock;
use crate::context::CancelReason;
use crate::dispatch::{Announce, HandOff};
use crate::dispatcher::Dispatcher;
use crate::enqueue::EnqueueRules;
use crate::event::{Event, Events, Listener};
use crate::executor::Executor;
use crate::health::{Health, Trouble};
use crate::heartbeat::Heartbeat;
use crate::inject::InjectedState;
use crate::lane::{Held, Lane};
use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::settler::Settler;
use crate::signal::Signal;
use crate::store::Store;
use crate::task::RunOn;
use crate::undecided::Undecided;

/// How often a shutdown looks whether the last attempt has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(2);
/// How often a thread that makes progress is given its time anew.
const PATIENCES: u32 = 5;

/// What a runtime is made of.
pub struct Parts {
    /// Checked settings.
    pub settings: Settings,
    /// The tasks it serves.
    pub registry: Registry,
    /// The injected values.
    pub state: InjectedState,
    /// Tells other processes of rows left to whoever comes first.
    pub announce: Option<Announce>,
    /// What calls are checked against.
    pub rules: Arc<EnqueueRules>,
    /// Who hears of events; the node is filled in at start.
    pub listeners: Vec<Listener>,
}

/// A body under way, for people who ask.
#[derive(Debug, Clone)]
pub struct RunningTask {
    /// The row's primary key.
    pub id: i64,
    /// Public handle.
    pub task_id: String,
    /// The task's name.
    pub name: &'static str,
    /// The number of the attempt.
    pub attempt: u32,
    /// How long it has been running.
    pub running_for: Duration,
    /// What the body last said through `cx.progress`, as `(done, total)`.
    pub progress: (u64, u64),
}

/// A running node.
pub struct Runtime {
    pub(crate) me: Weak<Runtime>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) lanes: Vec<Arc<Lane>>,
    serial_lanes: Vec<Arc<Lane>>,
    pub(crate) wake: Arc<Signal>,
    pub(crate) announce: Option<Announce>,
    pub(crate) stopping: Arc<AtomicBool>,
    settled: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Runtime {
    /// Starts the node's threads on `store`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(parts: Parts, store: Arc<dyn Store>) -> std::io::Result<Arc<Runtime>> {
        let Parts { settings, registry, state, announce, rules, listeners } = parts;
        // New at every start: a restarted process must not be taken for the one whose leases it left behind.
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let node: Arc<str> = Arc::from(format!("{}-{}", settings.node, &unique[20..]));
        let wake = Arc::new(Signal::default());
        let abandoned = Arc::new(AtomicUsize::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let queues = settings.served_queues(registry.definitions().map(|definition| definition.options.queue));
        let new_lane = |queue: &String, slots| {
            Lane::new(queue.clone(), slots, settings.claim_batch, Arc::clone(&wake), Arc::clone(&abandoned))
        };
        let lanes: Vec<_> = queues.iter().map(|queue| new_lane(queue, settings.slots(queue))).collect();
        let runs_serial = registry.definitions().any(|definition| definition.options.run_on == RunOn::Caller);
        let serial_lanes: Vec<_> = queues.iter().filter(|_| runs_serial).map(|queue| new_lane(queue, 1)).collect();
        let threads =
            lanes.iter().map(|lane| settings.slots(lane.queue())).sum::<usize>() + settings.max_abandoned_threads;

        let executor = Arc::new(Executor {
            node: Arc::clone(&node),
            events: Events::new(&node, listeners),
            settings: Arc::new(settings),
            registry,
            state,
            rules,
            store,
            ledger: Ledger::default(),
            undecided: Undecided::default(),
            settler: Settler::default(),
            bodies: Bodies::new(threads)?,
            callers: Lane::new(String::new(), usize::MAX, 1, Arc::clone(&wake), Arc::clone(&abandoned)),
            watchdog: Signal::default(),
            wake: Arc::clone(&wake),
            stopping: Arc::clone(&stopping),
            passed_over: AtomicBool::new(false),
            at_work: AtomicBool::new(false),
            may_rest: AtomicBool::new(false),
            passed_over_woke: Mutex::new(Instant::now()),
            health: Health::default(),
        });
        let runtime = Arc::new_cyclic(|me| Runtime {
            me: me.clone(),
            executor,
            lanes,
            serial_lanes,
            wake,
            announce,
            stopping,
            settled: Arc::new(AtomicBool::new(false)),
            threads: Mutex::new(Vec::new()),
        });
        runtime.start_threads(abandoned)?;
        let tasks = runtime.executor.registry.definitions().count();
        runtime.executor.events.emit(Event::Started { tasks });
        Ok(runtime)
    }

    fn start_threads(self: &Arc<Self>, abandoned: Arc<AtomicUsize>) -> std::io::Result<()> {
        let mut threads = self.threads.lock();
        let mut spawn = |name: &str, body: Box<dyn FnOnce() + Send>| -> std::io::Result<()> {
            threads.push(std::thread::Builder::new().name(format!("consistency-{name}")).spawn(body)?);
            Ok(())
        };
        let executor = Arc::clone(&self.executor);
        spawn("settle", Box::new(move || executor.settler.run(&executor)))?;
        let heartbeat = Heartbeat {
            executor: Arc::clone(&self.executor),
            lanes: self.lanes.clone(),
            abandoned,
            stopped: Arc::clone(&self.settled),
        };
        spawn("heartbeat", Box::new(move || heartbeat.run()))?;
        for lane in &self.serial_lanes {
            let (lane, executor) = (Arc::clone(lane), Arc::clone(&self.executor));
            let hand_off: Arc<dyn HandOff> = Arc::clone(self) as _;
            spawn(
                "scheduling",
                Box::new(move || {
                    while let Some((held, _slot)) = lane.wait_for_next() {
                        // A driver may panic outside of any body; the thread must go on for the rows behind.
                        if catch_unwind(AssertUnwindSafe(|| executor.run_inline(held, &*hand_off))).is_err() {
                            tracing::error!("the scheduling thread met a panic outside of a body");
                        }
                    }
                }),
            )?;
        }
        let dispatcher = Dispatcher {
            executor: Arc::clone(&self.executor),
            hand_off: Arc::clone(self) as _,
            lanes: self.lanes.clone(),
            serial_lanes: self.serial_lanes.clone(),
            wake: Arc::clone(&self.wake),
            stopping: Arc::clone(&self.stopping),
            clock: Clock::new(self.executor.settings.lease),
        };
        spawn("dispatch", Box::new(move || dispatcher.run()))
    }

    /// Looks at the table at once: another process says that it holds something new.
    pub fn look(&self) {
        self.wake.raise();
    }

    /// The executor, for runs on the caller's own connection.
    pub fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    /// The bodies under way in this process.
    pub fn running(&self) -> Vec<RunningTask> {
        let running = self.executor.ledger.running();
        let describe = |running: crate::ledger::RunningAttempt| RunningTask {
            id: running.task.lease.id,
            task_id: running.task.task_id.clone(),
            name: running.context.name(),
            attempt: running.context.attempt(),
            running_for: running.begun.elapsed(),
            progress: running.context.last_progress(),
        };
        running.into_iter().map(describe).collect()
    }

    /// What of the runtime's own work with its store has been failing longest.
    pub fn trouble(&self) -> Option<Trouble> {
        self.executor.health.trouble()
    }

    /// Stops: claims nothing more, puts back what waits, gives running attempts the grace, puts back the rest without an
    /// attempt, writes every outcome. Each thread then has the time of one operation for its end, the settling one as long as it
    /// makes progress (up to a bound); [`Event::Stopped`] says what is left unwritten. A second call returns at once.
    pub fn shutdown(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return;
        }
        let settings = &self.executor.settings;
        self.stopping.store(true, Ordering::SeqCst);
        self.wake.raise();
        let mut released = self.release_waiting();
        let at_stop = self.executor.ledger.running();
        for running in &at_stop {
            running.context.cancel(CancelReason::Shutdown);
        }
        let deadline = Instant::now() + settings.shutdown_grace;
        while !self.executor.ledger.running().is_empty() && Instant::now() < deadline {
            std::thread::sleep(DRAIN_LOOK);
        }
        // The dispatcher may have claimed a last batch while it was told to stop.
        released += self.release_waiting();
        let left = self.executor.ledger.running();
        let drained = at_stop.len().saturating_sub(left.len());
        for running in left {
            if running.gate.take() {
                running.context.cancel(CancelReason::Shutdown);
                if let Some(abort) = &running.abort {
                    abort.abort();
                }
                self.executor.release(&running.task, "still running at the end of the shutdown's grace");
                self.executor.ledger.end(running.task.lease);
                released += 1;
            }
        }
        released += self.finish(threads);
        let unwritten = self.executor.settler.waiting();
        // What was put back is due: others need not wait for their next look.
        if let Some(announce) = &self.announce {
            announce();
        }
        self.executor.events.emit(Event::Stopped { drained, released, unwritten });
    }

    fn release_waiting(&self) -> usize {
        let waiting: Vec<Held> = self.lanes.iter().chain(&self.serial_lanes).flat_map(|lane| lane.close()).collect();
        for held in &waiting {
            self.executor.release(&held.task, "the runtime stops");
        }
        waiting.len()
    }

    /// Ends the threads: the dispatcher first, then the settler with all outcomes written, the heartbeat last: it keeps the leases
    /// of what is still to be written. How many rows were put back.
    fn finish(&self, mut threads: Vec<JoinHandle<()>>) -> usize {
        let (settings, settler) = (&self.executor.settings, &self.executor.settler);
        // One operation, which may exceed its limit by a quarter.
        let patience = settings.busy_wait.max(settings.store_timeout) * 5 / 4;
        let unwritten = || settler.waiting();
        join(&mut threads, "consistency-dispatch", patience, &unwritten);
        let released = self.release_waiting();
        settler.close();
        join(&mut threads, "consistency-settle", patience, &unwritten);
        settler.give_up();
        join(&mut threads, "consistency-settle", patience, &unwritten);
        self.settled.store(true, Ordering::Release);
        self.executor.watchdog.raise();
        join(&mut threads, "consistency-heartbeat", patience, &unwritten);
        // A body on the scheduling thread that outlives the grace was put back; its thread ends with it.
        self.executor.bodies.close_and_wait();
        released
    }

    /// Asks the node to stop without waiting: for handles dropped without a shutdown.
    pub fn stop_in_background(self: &Arc<Self>) {
        if self.threads.lock().is_empty() {
            // Stopped already. A thread of its own would only drop the connections while the process may be exiting.
            return;
        }
        let runtime = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("consistency-stop".into()).spawn(move || runtime.shutdown());
        if spawned.is_err() {
            tracing::error!("no thread to stop the outbox in; its leases run out instead");
        }
    }
}

/// Waits for the end of a thread for `patience`, and anew whenever less is left to do, but not for ever.
fn join(threads: &mut Vec<JoinHandle<()>>, name: &str, patience: Duration, left: &dyn Fn() -> usize) {
    let Some(at) = threads.iter().position(|thread| thread.thread().name() == Some(name)) else { return };
    let thread = threads.swap_remove(at);
    let last = Instant::now() + patience * PATIENCES;
    let (mut until, mut least) = (Instant::now() + patience, left());
    while !thread.is_finished() && Instant::now() < until.min(last) {
        std::thread::sleep(DRAIN_LOOK);
        if left() < least {
            (until, least) = (Instant::now() + patience, left());
        }
    }
    if !thread.is_finished() {
        tracing::warn!(name, "a thread of the outbox has not ended in time");
        threads.push(thread);
    } else if thread.join().is_err() {
        tracing::error!(name, "a thread of the outbox panicked");
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runtime({})", self.executor.node)
    }
}
