//! Sits in a phase of the outbox's work: one thread is held at a fault point until the test lets it go.

use std::sync::{LazyLock, OnceLock};

use consistency_core::error::StoreError;
use consistency_core::fault::{self, Point};
use parking_lot::{Mutex, MutexGuard};

use crate::recorder::Latch;

/// The points belong to the process, so its tests take turns.
static TURN: Mutex<()> = Mutex::new(());
static SEATS: LazyLock<Mutex<Vec<Seat>>> = LazyLock::new(Mutex::default);

struct Seat {
    point: Point,
    answer_is_lost: bool,
    taken: Latch,
    left: Latch,
}

/// The turn of one test. Kept until its end.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

/// Waits for this test's turn, and arms the process if nobody has.
pub fn take_turn() -> Turn {
    static ARMED: OnceLock<()> = OnceLock::new();
    let turn = TURN.lock();
    SEATS.lock().clear();
    ARMED.get_or_init(|| fault::arm(hold));
    Turn(turn)
}

/// The one thread, and the step it is held at.
#[derive(Debug)]
pub struct Sitting {
    taken: Latch,
    left: Latch,
}

impl Turn {
    /// Has the next thread that comes to `point` held there. With `answer_is_lost` its step then fails as if the connection
    /// had gone with the answer on it.
    pub fn hold_next(&self, point: Point, answer_is_lost: bool) -> Sitting {
        let (taken, left) = (Latch::new(), Latch::new());
        SEATS.lock().push(Seat { point, answer_is_lost, taken: taken.clone(), left: left.clone() });
        Sitting { taken, left }
    }
}

impl Sitting {
    /// Waits until a thread has come.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn wait(&self) {
        self.taken.wait_for(1);
    }

    /// Whether a thread has come.
    pub fn is_taken(&self) -> bool {
        self.taken.count() > 0
    }

    /// Lets it go on.
    pub fn leave(self) {
        // Said when the value is dropped.
    }
}

impl Drop for Sitting {
    fn drop(&mut self) {
        self.left.raise();
    }
}

fn hold(point: Point) -> Result<(), StoreError> {
    let seat = {
        let mut seats = SEATS.lock();
        let found = seats.iter().position(|seat| seat.point == point);
        found.map(|at| seats.swap_remove(at))
    };
    let Some(seat) = seat else { return Ok(()) };
    seat.taken.raise();
    seat.left.wait_for(1);
    if seat.answer_is_lost {
        return Err(StoreError::Transient("connection closed: the answer was lost".into()));
    }
    Ok(())
}
