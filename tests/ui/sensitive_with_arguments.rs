use consistency_diesel::prelude::*;

#[consistency_task]
fn charge(#[sensitive(mask = "x")] card: &str) {
    let _ = card;
}

fn main() {}
