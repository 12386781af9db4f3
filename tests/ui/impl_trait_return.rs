use consistency_diesel::prelude::*;

#[consistency_task]
fn send(message: String) -> impl Sized {
    drop(message);
}

fn main() {}
