use consistency_diesel::prelude::*;

struct Mailer;

impl Mailer {
    #[consistency_task]
    fn send(text: String, #[inject] mailer: &Self) -> Result<(), TaskError> {
        let _ = (text, mailer);
        Ok(())
    }
}

fn main() {}
