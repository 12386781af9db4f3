use consistency_diesel::prelude::*;

trait Mailer {}

#[consistency_task]
fn send(#[inject] mailer: &dyn Mailer) -> Result<(), TaskError> {
    let _ = mailer;
    Ok(())
}

fn main() {}
