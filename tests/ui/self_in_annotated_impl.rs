use consistency_diesel::prelude::*;

struct Mailer;

#[consistency_task]
impl Mailer {
    #[consistency_task]
    fn send(&self, text: String) -> Result<(), TaskError> {
        drop(text);
        Ok(())
    }
}

fn main() {}
