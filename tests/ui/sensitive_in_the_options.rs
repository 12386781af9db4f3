use consistency_diesel::prelude::*;

#[consistency_task(sensitive = "card")]
fn charge(card: &str) {
    let _ = card;
}

fn main() {}
