//! Carries a plan out in this process: errors, panics, signals to itself, sleeps, cut connections.

use std::sync::Arc;

use consistency_core::error::StoreError;
use consistency_core::fault;
use rustix::process::{Signal, getpid, kill_process};

use crate::faults::plan::{Place, Plan, What};
use crate::recorder::Latch;

/// What strikes this process.
pub struct Striker {
    plan: Plan,
    sever: Box<dyn Fn() + Send + Sync>,
    /// Raised by whoever has continued the stopped process.
    pub go_on: Latch,
}

impl Striker {
    /// Strikes by `plan`; `sever` ends every session of this process on its server.
    pub fn new(plan: Plan, sever: impl Fn() + Send + Sync + 'static) -> Arc<Striker> {
        Arc::new(Striker { plan, sever: Box::new(sever), go_on: Latch::new() })
    }

    /// Strikes at the library's points from now on.
    ///
    /// # Panics
    /// When the process is armed already.
    pub fn arm(self: &Arc<Self>) {
        let striker = Arc::clone(self);
        fault::arm(move |point| striker.reach(Place::At(point)).map_err(|text| StoreError::Transient(text.into())));
    }

    /// Says that `place` is reached. Where the plan strikes, standard output says so first: `reached {place}`.
    ///
    /// # Errors
    /// The planned one.
    ///
    /// # Panics
    /// Where it is planned.
    pub fn reach(&self, place: Place) -> Result<(), String> {
        let Some(what) = self.plan.reach(place) else { return Ok(()) };
        println!("reached {place}");
        match what {
            What::Error => return Err(format!("an error at {place}")),
            What::Panic => panic!("a panic at {place}"),
            What::Abort => std::process::abort(),
            What::Kill => {
                kill_process(getpid(), Signal::KILL).expect("SIGKILL");
                never();
            }
            What::Stop => {
                kill_process(getpid(), Signal::STOP).expect("SIGSTOP");
                // Another thread of the process may have taken the signal: this one must not run on meanwhile.
                self.go_on.wait_for(1);
            }
            What::Sleep(time) => std::thread::sleep(time),
            What::Sever => (self.sever)(),
        }
        Ok(())
    }
}

/// The signal is on its way.
fn never() -> ! {
    loop {
        std::thread::park();
    }
}

impl std::fmt::Debug for Striker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Striker({:?})", self.plan)
    }
}
