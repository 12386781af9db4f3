//! What goes wrong, where, and at which occurrence: a plan as plain data that crosses into another process.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use consistency_core::fault::Point;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A place on a task's path where a plan may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// One of the library's own points.
    At(Point),
    /// In the middle of a body, between the begin of its effect and its end; the test's own tasks reach it.
    MidRun,
}

impl Place {
    /// Every place.
    pub fn all() -> impl Iterator<Item = Place> {
        Point::ALL.into_iter().map(Place::At).chain([Place::MidRun])
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::At(point) => write!(f, "{point:?}"),
            Place::MidRun => f.write_str("MidRun"),
        }
    }
}

impl From<Place> for String {
    fn from(place: Place) -> String {
        place.to_string()
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(name: String) -> Result<Place, String> {
        Place::all().find(|place| place.to_string() == name).ok_or(format!("there is no place `{name}`"))
    }
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The step beside the place fails.
    Error,
    /// It panics. At `BeforeRun`, `MidRun` and `AfterRun` alone, where bodies are guarded.
    Panic,
    /// The process aborts.
    Abort,
    /// The process gets SIGKILL.
    Kill,
    /// The process gets SIGSTOP; after a SIGCONT it waits to be told to go on.
    Stop,
    /// The thread sleeps.
    Sleep(Duration),
    /// The server ends every session of the process. Nothing happens on SQLite.
    Sever,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// How often the place must have been reached, from 1; `None` for every time.
    pub occurrence: Option<u32>,
    /// What.
    pub what: What,
}

impl Fault {
    /// `what` when `place` is reached for the first time.
    pub fn first(place: Place, what: What) -> Fault {
        Fault { place, occurrence: Some(1), what }
    }

    /// `what` whenever `place` is reached.
    pub fn every(place: Place, what: What) -> Fault {
        Fault { place, occurrence: None, what }
    }
}

/// A plan under way: it counts how often each place was reached.
#[derive(Debug)]
pub struct Plan {
    faults: Vec<Fault>,
    reached: Mutex<HashMap<Place, u32>>,
}

impl Plan {
    /// A plan of which nothing has happened yet.
    pub fn new(faults: Vec<Fault>) -> Plan {
        Plan { faults, reached: Mutex::default() }
    }

    /// Notes that `place` is reached; returns what is to happen there now.
    pub fn reach(&self, place: Place) -> Option<What> {
        let mut reached = self.reached.lock();
        let count = reached.entry(place).or_default();
        *count += 1;
        let due =
            |fault: &&Fault| fault.place == place && fault.occurrence.is_none_or(|occurrence| occurrence == *count);
        self.faults.iter().find(due).map(|fault| fault.what)
    }
}
