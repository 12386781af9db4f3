use consistency_diesel::prelude::*;

#[consistency_task]
fn send(#[context] one: &TaskContext, #[context] two: &TaskContext) -> Result<(), TaskError> {
    let _ = (one, two);
    Ok(())
}

fn main() {}
