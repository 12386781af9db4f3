use consistency_diesel::prelude::*;

#[consistency_task]
struct Mail {
    text: String,
}

fn main() {}
