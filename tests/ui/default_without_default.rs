use consistency_diesel::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct Order;

#[consistency_task]
fn send(#[default] order: Order) -> Result<(), TaskError> {
    let _ = order;
    Ok(())
}

fn main() {}
