use consistency_diesel::prelude::*;

#[consistency_task]
trait Mailer {
    fn send(&self);
}

fn main() {}
