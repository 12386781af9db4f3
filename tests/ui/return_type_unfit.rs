use consistency_diesel::prelude::*;

#[consistency_task]
fn send(text: String) -> Option<i64> {
    drop(text);
    None
}

fn main() {}
