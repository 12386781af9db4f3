use consistency_diesel::prelude::*;

#[consistency_task]
async fn send(order_id: i64, text: &str) -> Result<(), TaskError> {
    let _ = (order_id, text);
    Ok(())
}

fn main() {
    drop(send("seven", "text"));
}

