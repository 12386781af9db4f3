//! What work costs the server, by the server's own counters. They count everything it does meanwhile.

use diesel::result::QueryResult;
use serde_json::{Map, Value};

use crate::hand_written::{Counter, HandWritten};

/// The counters at one moment.
#[derive(Debug)]
pub(crate) struct Costs(Vec<Counter>);

/// What is left after the work, and not spent by it.
const LEFT: &str = "dead_rows";

impl Costs {
    /// The counters now.
    pub(crate) fn of<C: HandWritten>(conn: &mut C) -> QueryResult<Self> {
        conn.counters().map(Costs)
    }

    /// What was spent since `before`, for each of so many tasks, and what is left.
    pub(crate) fn since(&self, before: &Costs, tasks: usize) -> Value {
        let mut costs = Map::new();
        for (after, before) in self.0.iter().zip(&before.0) {
            let (name, value) = if after.name == LEFT {
                (after.name.clone(), after.value as f64)
            } else {
                (format!("{}_per_task", after.name), (after.value - before.value) as f64 / tasks.max(1) as f64)
            };
            costs.insert(name, ((value * 1000.0).round() / 1000.0).into());
        }
        Value::Object(costs)
    }
}
