//! One case of the crash matrix: a process that is struck at a place, another one that takes over, and the history of both.

use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use consistency_core::fault::Point;
use parking_lot::{Condvar, Mutex};
use rand::SeedableRng;
use rand::seq::SliceRandom;

use crate::database::Database;
use crate::faults::fault_node::FaultNode;
use crate::faults::history::{History, Micros};
use crate::faults::orders::prepare;
use crate::faults::plan::{Fault, Place, What};
use crate::faults::setup::{Mode, Role, Setup, World};
use crate::length::is_long;
use crate::recorder::{DEADLINE, wait_until};
use crate::scene::{micros, now};
use crate::seed::seed;

/// How long a doomed process's rows stay with it: short, so that the tests are.
pub const SHORT_LEASE: Duration = Duration::from_secs(1);

/// A process that dies, as to place, mode and world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Where it is struck.
    pub place: Place,
    /// The tasks it stores and runs.
    pub mode: Mode,
    /// In which world.
    pub world: World,
}

/// What a case left behind.
#[derive(Debug)]
pub struct Aftermath {
    /// The history when everything had ended.
    pub history: History,
    /// Since when the second process was there.
    pub served_since: Micros,
    /// What the struck process printed.
    pub said: Vec<String>,
    /// How it ended.
    pub status: ExitStatus,
}

impl Case {
    /// Whether a task of this mode ever passes the place: a completion belongs to `#[tx]`.
    pub fn makes_sense(self) -> bool {
        use Point::{AfterComplete, AfterCompleteCommit, BeforeComplete};
        self.mode.books() || !matches!(self.place, Place::At(BeforeComplete | AfterComplete | AfterCompleteCommit))
    }

    /// The process that is struck: it stores three orders and runs their tasks. Where the place lies beside the path of a
    /// first attempt that goes well, its attempts fail, or take long, or it finds rows whose owner is gone.
    pub fn doomed(self, what: What) -> Setup {
        use Point::{AfterClaim, AfterHeartbeat, AfterSettle, BeforeClaim, BeforeHeartbeat, BeforeSettle};
        let claims = matches!(self.place, Place::At(BeforeClaim | AfterClaim));
        let settles = matches!(self.place, Place::At(BeforeSettle | AfterSettle));
        let beats = matches!(self.place, Place::At(BeforeHeartbeat | AfterHeartbeat));
        Setup {
            mode: self.mode,
            world: self.world,
            lease: SHORT_LEASE,
            fail_first: claims && self.mode.is_immediate() || settles && self.mode.books(),
            stay: if beats { self.until_a_heartbeat(what) } else { Duration::ZERO },
            plan: vec![Fault::first(self.place, what)],
            ..Setup::default()
        }
    }

    /// How long bodies must take for a heartbeat to come meanwhile. On SQLite a long transaction would keep it out.
    fn until_a_heartbeat(self, what: What) -> Duration {
        match what {
            What::Kill | What::Abort if !self.mode.books() => SHORT_LEASE * 20,
            _ => SHORT_LEASE * 6 / 10,
        }
    }

    /// A process of the same world that stores nothing and runs what it finds.
    pub fn heir(self) -> Setup {
        Setup { role: Role::Node, world: self.world, mode: self.mode, ..Setup::default() }
    }

    /// Strikes a process in a way that ends it, lets another one take over on a fresh `database`, and waits until every task
    /// has ended. A process struck at a rescue finds the rows of one that died in the middle of their bodies.
    ///
    /// # Panics
    /// When the process was not struck, or the tasks do not end.
    pub fn crash(self, program: &str, database: &Database, what: What) -> Aftermath {
        self.crash_as(program, database, self.doomed(what), Place::MidRun)
    }

    /// As [`crash`](Self::crash), with a setup of the test's own; rows to be rescued are those of a process that died at
    /// `before`.
    ///
    /// # Panics
    /// As [`crash`](Self::crash).
    pub fn crash_as(self, program: &str, database: &Database, doomed: Setup, before: Place) -> Aftermath {
        prepare(database);
        self.give_something_to_rescue(program, database, &doomed, before);
        let (status, said, errors) = FaultNode::start(program, database, doomed).wait_for_end();
        let struck = format!("reached {}", self.place);
        assert!(said.contains(&struck), "{self:?} was not struck: {status}, {said:?}, {errors}");
        let served_since = database_now(database);
        let heir = FaultNode::start(program, database, self.heir());
        wait_until_ended_or(database, || format!("{self:?}; it said {said:?}, its heir {:?}", heir.lines()));
        heir.stop();
        let mut history = History::load(database);
        history.hear(&said);
        Aftermath { history, served_since, said, status }
    }

    /// Where a rescue is to be struck: lets a process die at `before`, and the leases of its rows end.
    ///
    /// # Panics
    /// When it leaves nothing behind.
    pub fn give_something_to_rescue(self, program: &str, database: &Database, doomed: &Setup, before: Place) {
        if matches!(self.place, Place::At(Point::BeforeRescue | Point::AfterRescue)) {
            let before = Case { place: before, ..self };
            before.leave_rows_behind(program, database, doomed);
        }
    }

    /// A process dies here, and the leases of its rows end: something to rescue. Its orders have numbers of their own.
    fn leave_rows_behind(self, program: &str, database: &Database, doomed: &Setup) {
        let orders = doomed.orders.start + 100..doomed.orders.end + 100;
        let setup = Setup { orders, ..self.doomed(What::Kill) };
        FaultNode::start(program, database, setup).wait_for_end();
        assert_ne!(database.count("consistency_task", "state = 1"), 0, "nothing is left behind");
        wait_until_leases_end(database);
    }
}

/// The database's clock.
pub fn database_now(database: &Database) -> Micros {
    database.number(&micros(database.backend(), now(database.backend())))
}

/// Waits until no row is under a lease that has not ended.
///
/// # Panics
/// When leases are renewed.
#[track_caller]
pub fn wait_until_leases_end(database: &Database) {
    let leased = format!("state = 1 AND lease_until > {}", now(database.backend()));
    wait_until("the leases to end", || database.count("consistency_task", &leased) == 0);
}

/// Cases under way at a time in one program of tests: they wait more than they work, but a server has only so many connections.
const AT_A_TIME: usize = 6;

static UNDER_WAY: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Runs every case, several at a time.
///
/// # Panics
/// When one does, after the others.
pub fn for_each_case<T: Sync>(cases: &[T], run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cases.len().min(AT_A_TIME) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _turn = Turn::wait();
                    run(case);
                }
            });
        }
    });
}

/// One of the cases under way.
struct Turn;

impl Turn {
    fn wait() -> Turn {
        let (under_way, changed) = &UNDER_WAY;
        let mut under_way = under_way.lock();
        while *under_way >= AT_A_TIME {
            changed.wait(&mut under_way);
        }
        *under_way += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (under_way, changed) = &UNDER_WAY;
        *under_way.lock() -= 1;
        changed.notify_one();
    }
}

/// All of `cases` in the long form, with `CONSISTENCY_TEST_LONG=1`; else those that `must` be, and `others` more, drawn by the
/// seed `CONSISTENCY_TEST_SEED`. The seed is printed.
pub fn some_of<T: Copy>(cases: Vec<T>, must: impl Fn(T) -> bool, others: usize) -> Vec<T> {
    if is_long() {
        return cases;
    }
    let (mut chosen, mut rest): (Vec<T>, Vec<T>) = cases.into_iter().partition(|case| must(*case));
    rest.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed("the drawn cases")));
    chosen.extend(rest.into_iter().take(others));
    chosen
}

/// Whether every task has ended.
pub fn has_ended(database: &Database) -> bool {
    database.count("consistency_task", "state NOT IN (2, 4, 6, 7)") == 0
}

/// Waits until every task has ended.
///
/// # Panics
/// When none ends for as long as a test waits.
#[track_caller]
pub fn wait_until_ended(database: &Database) {
    wait_until_ended_or(database, String::new);
}

/// As [`wait_until_ended`], with `what` in the panic's message, and the rows.
///
/// # Panics
/// As [`wait_until_ended`].
#[track_caller]
pub fn wait_until_ended_or(database: &Database, what: impl Fn() -> String) {
    let deadline = Instant::now() + DEADLINE;
    while !has_ended(database) {
        assert!(Instant::now() < deadline, "not every task ends: {}; {:#?}", what(), database.rows("true"));
        std::thread::sleep(Duration::from_millis(10));
    }
}
