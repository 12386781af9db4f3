//! Associated functions, with `Self` in types and bodies.
#![deny(missing_docs, unreachable_pub, rust_2018_idioms, warnings)]
#![forbid(unsafe_code)]

use consistency_diesel::prelude::*;
use serde::{Deserialize, Serialize};

/// A warehouse.
#[derive(Debug, Serialize, Deserialize)]
pub struct Warehouse {
    /// Its number.
    pub id: i64,
}

#[consistency_task]
impl Warehouse {
    /// The first one.
    pub const FIRST: i64 = 1;

    /// Ships.
    #[consistency_task(name = "warehouse.ship", max_attempts = 3)]
    pub async fn ship(order_id: i64, from: &Self, #[context] cx: &TaskContext) -> Result<(), TaskError> {
        let _ = (Self::plain(order_id), from.id, cx.attempt(), Self::FIRST);
        Ok(())
    }

    /// Counts.
    #[consistency_task]
    pub fn count(#[inject] all: &Vec<Self>) -> Result<(), String> {
        let _ = all.len();
        Ok(())
    }

    #[consistency_task]
    fn private(self_id: i64) {
        let _ = self_id;
    }

    #[cfg(any())]
    #[consistency_task]
    fn left_out(missing: Missing) {}

    /// Not a task.
    pub fn plain(id: i64) -> i64 {
        id
    }

    /// Not a task either.
    pub fn method(&self) -> i64 {
        self.id
    }
}

fn main() {
    let warehouse = Warehouse { id: 7 };
    assert_eq!(Warehouse::ship(1, &warehouse).arguments().unwrap(), r#"{"order_id":1,"from":{"id":7}}"#);
    assert_eq!(Warehouse::ship_task().name, "warehouse.ship");
    assert_eq!(Warehouse::ship_task().parameter_types, "order_id: i64, from: Self");
    assert_eq!(Warehouse::count().task_name(), concat!(module_path!(), "::Warehouse::count"));
    assert!(Warehouse::count_body(&vec![]).is_ok());
    Warehouse::private_body(1);
    drop(Warehouse::private(1));
    assert_eq!(warehouse.method(), 7);
}
