use consistency_diesel::prelude::*;

struct Connection;

#[consistency_task]
async fn send(#[tx] tx: &mut TaskTx<'_, Connection>) -> Result<(), TaskError> {
    let _ = tx;
    Ok(())
}

fn main() {}
