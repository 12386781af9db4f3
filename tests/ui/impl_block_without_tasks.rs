use consistency_diesel::prelude::*;

struct Mailer;

#[consistency_task]
impl Mailer {
    fn send(text: String) {
        drop(text);
    }
}

fn main() {}
