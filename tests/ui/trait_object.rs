use consistency_diesel::prelude::*;

trait Mailer {}

#[consistency_task]
fn send(mailer: &dyn Mailer) -> Result<(), TaskError> {
    let _ = mailer;
    Ok(())
}

fn main() {}
