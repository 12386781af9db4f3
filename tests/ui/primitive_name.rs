use consistency_diesel::prelude::*;

#[consistency_task]
fn str(text: String) {
    drop(text);
}

fn main() {}
