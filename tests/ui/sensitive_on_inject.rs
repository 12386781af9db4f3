use consistency_diesel::prelude::*;

struct Client;

#[consistency_task]
fn send(#[inject] #[sensitive] client: &Client) {
    let _ = client;
}

fn main() {}
