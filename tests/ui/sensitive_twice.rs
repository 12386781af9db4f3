use consistency_diesel::prelude::*;

#[consistency_task]
fn charge(#[sensitive] #[default] #[sensitive] card: String) {
    let _ = card;
}

fn main() {}
