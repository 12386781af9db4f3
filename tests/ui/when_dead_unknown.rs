use consistency_diesel::prelude::*;

#[consistency_task(when_dead = parc)]
fn book(account: i64) {
    let _ = account;
}

fn main() {}
