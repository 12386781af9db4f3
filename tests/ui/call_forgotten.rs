#![deny(unused_must_use)]

use consistency_diesel::prelude::*;

#[consistency_task]
async fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {
    send(String::new());
}

