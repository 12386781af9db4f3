use consistency_diesel::prelude::*;

#[consistency_task]
mod mail {
    pub fn send() {}
}

fn main() {}
