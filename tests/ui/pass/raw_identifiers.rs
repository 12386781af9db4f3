//! Raw identifiers: the stored names go without `r#`.
#![deny(warnings)]

use consistency_diesel::prelude::*;

#[consistency_task]
fn r#type(r#match: i64, r#in: &str) -> Result<(), String> {
    let _ = (r#match, r#in);
    Ok(())
}

struct Warehouse;

#[consistency_task]
impl Warehouse {
    #[consistency_task]
    fn r#move(r#fn: i64) -> Result<(), String> {
        let _ = r#fn;
        Ok(())
    }
}

fn main() {
    let call = r#type(1, "x");
    assert_eq!(call.arguments().unwrap(), r#"{"match":1,"in":"x"}"#);
    assert_eq!(call.task_name(), concat!(module_path!(), "::type"));
    assert!(r#type::body(1, "x").is_ok());
    assert_eq!(Warehouse::r#move(1).task_name(), concat!(module_path!(), "::Warehouse::move"));
    assert!(Warehouse::move_body(1).is_ok());
}
