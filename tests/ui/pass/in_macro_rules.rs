//! Tasks written by `macro_rules!`, with fragments of every kind.
#![deny(warnings)]

use consistency_diesel::prelude::*;

macro_rules! whole {
    ($name:ident) => {
        #[consistency_task]
        fn $name(order_id: i64, sku: &str) -> Result<(), String> {
            let text = format!("{order_id} {sku}");
            drop(text);
            Ok(())
        }
    };
}
whole!(first);
whole!(second);

macro_rules! named {
    ($title:literal, $visibility:vis fn $name:ident($parameter:ident: $ty:ty, $other:ident: &$target:ty) -> $output:ty $body:block) => {
        /// Documented.
        #[consistency_task(name = $title, retry_every = "5s")]
        $visibility async fn $name($parameter: $ty, $other: &$target, optional: Option<$ty>, #[context] cx: &TaskContext) -> $output {
            let _ = (cx.attempt(), optional);
            $body
        }
    };
}
named!("from.fragment", pub(crate) fn third(sku: &str, order: &Vec<i64>) -> Result<(), String> {
    let _ = (sku, order);
    Ok(())
});

fn main() {
    assert_eq!(first(1, "a").arguments().unwrap(), r#"{"order_id":1,"sku":"a"}"#);
    assert_eq!(second(1, "a").task_name(), concat!(module_path!(), "::second"));
    assert_eq!(third("a", &vec![1], Some("b")).task_name(), "from.fragment");
    assert!(first::body(1, "a").is_ok());
}
