//! Tasks in a crate that forbids unsafe code register themselves, with inventory and with the feature `linkme`.
#![deny(warnings)]
#![forbid(unsafe_code)]

use consistency_diesel::prelude::*;

#[consistency_task(name = "forbid.function")]
fn function(order_id: i64) {
    let _ = order_id;
}

struct Desk;

#[consistency_task]
impl Desk {
    #[consistency_task(name = "forbid.associated")]
    fn associated() {}
}

// The lint is silent about what macros of other crates write; a macro of this crate around it changes nothing.
macro_rules! stamp {
    ($function:ident) => {
        #[consistency_task(name = "forbid.stamped")]
        fn $function() {}
    };
}
stamp!(stamped);

fn main() {
    let names = ["forbid.function", "forbid.associated", "forbid.stamped"];
    Outbox::builder("sqlite://forbid.db").expect_tasks(names).check().unwrap();
}
