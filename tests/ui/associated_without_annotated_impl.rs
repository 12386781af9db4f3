use consistency_diesel::prelude::*;

struct Mailer;

impl Mailer {
    #[consistency_task]
    fn send(text: String) -> Result<(), TaskError> {
        drop(text);
        Ok(())
    }
}

fn main() {}
