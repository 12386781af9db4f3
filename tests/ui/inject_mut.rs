use consistency_diesel::prelude::*;

struct Client;

#[consistency_task]
fn send(#[inject] client: &mut Client) -> Result<(), TaskError> {
    let _ = client;
    Ok(())
}

fn main() {}
