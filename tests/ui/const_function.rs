use consistency_diesel::prelude::*;

#[consistency_task]
const fn send(number: i64) {
    let _ = number;
}

fn main() {}
