use consistency_diesel::prelude::*;

struct Silent;

#[consistency_task]
async fn send(text: String) -> Result<(), Silent> {
    drop(text);
    Err(Silent)
}

fn main() {}
