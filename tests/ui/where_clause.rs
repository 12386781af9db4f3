use consistency_diesel::prelude::*;

#[consistency_task]
fn send(message: String) -> Result<(), TaskError>
where
    String: Clone,
{
    drop(message);
    Ok(())
}

fn main() {}
