//! What a test has happen at the fault points of its own process: a state of the test's choice, changed as the test goes on.

use std::sync::Once;

use consistency_core::error::StoreError;
use consistency_core::fault::{self, Point};
use parking_lot::{Mutex, MutexGuard};

/// The state, which belongs to one test of the process at a time.
#[derive(Debug)]
pub struct AtPoints<T> {
    meet: fn(Point) -> Result<(), StoreError>,
    armed: Once,
    turn: Mutex<()>,
    state: Mutex<Option<T>>,
}

impl<T: Default> AtPoints<T> {
    /// A static of the tests that have every thread `meet` a point.
    pub const fn new(meet: fn(Point) -> Result<(), StoreError>) -> Self {
        Self { meet, armed: Once::new(), turn: Mutex::new(()), state: Mutex::new(None) }
    }

    /// Waits for this test's turn, which lasts until the guard is dropped; its state is the default one.
    pub fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.armed.call_once(|| fault::arm(self.meet));
        let turn = self.turn.lock();
        *self.state.lock() = Some(T::default());
        turn
    }

    /// Reads or changes the state. No thread is at a point meanwhile that does the same.
    pub fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(self.state.lock().get_or_insert_default())
    }
}
