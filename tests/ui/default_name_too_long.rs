use consistency_diesel::prelude::*;

mod a_module_with_a_name_that_is_far_longer_than_anybody_would_want_to_read_or_to_write_in_a_program {
    pub mod another_module_with_a_name_that_is_longer_than_anybody_would_want_to_read_or_to_write_in_a_program {
        use consistency_diesel::prelude::*;

        #[consistency_task]
        fn send(text: String) -> Result<(), TaskError> {
            drop(text);
            Ok(())
        }
    }
}

fn main() {
    let _: Option<Call> = None;
}
