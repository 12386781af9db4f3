use consistency_diesel::prelude::*;

struct Client;

#[consistency_task]
fn send(#[inject] client: Client) -> Result<(), TaskError> {
    drop(client);
    Ok(())
}

fn main() {}
