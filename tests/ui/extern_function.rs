use consistency_diesel::prelude::*;

#[consistency_task]
extern "C" fn send(number: i64) {
    let _ = number;
}

fn main() {}
