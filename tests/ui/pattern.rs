use consistency_diesel::prelude::*;

#[consistency_task]
fn send((to, text): (String, String)) -> Result<(), TaskError> {
    drop((to, text));
    Ok(())
}

fn main() {}
