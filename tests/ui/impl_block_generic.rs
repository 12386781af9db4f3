use consistency_diesel::prelude::*;

struct Mailer<T>(T);

#[consistency_task]
impl<T> Mailer<T> {
    #[consistency_task]
    fn send(text: String) {
        drop(text);
    }
}

fn main() {}
