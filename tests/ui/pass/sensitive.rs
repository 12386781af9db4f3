//! Sensitive parameters of every form: marked in the columns people read, and masked where the call is shown.
#![deny(missing_docs, unreachable_pub, rust_2018_idioms, warnings)]
#![forbid(unsafe_code)]

use consistency_diesel::prelude::*;

/// Charges a card.
#[consistency_task(name = "pay.charge")]
pub fn charge(
    order_id: i64,
    #[sensitive] card: &str,
    #[sensitive] r#type: Option<&str>,
    #[default]
    #[sensitive]
    codes: Vec<u32>,
    #[context] cx: &TaskContext,
) {
    let _ = (order_id, card, r#type, codes, cx);
}

struct Mail;

#[consistency_task]
impl Mail {
    /// Sends a code.
    #[consistency_task]
    async fn send(#[sensitive] code: String) {
        drop(code);
    }
}

fn main() {
    let definition = <charge as consistency_diesel::__private::Task>::DEFINITION;
    assert_eq!(
        definition.parameter_types,
        "order_id: i64, card: String (sensitive), type: Option<String> (sensitive), codes: Vec<u32> (sensitive)"
    );
    assert!(definition.signature.contains("#[sensitive] card: &str"), "{}", definition.signature);
    assert_eq!(definition.sensitive, ["card", "type", "codes"]);
    assert_eq!(Mail::send_task().sensitive, ["code"]);
    let call = charge(7, "4111-1111", Some("visa"), vec![1, 2]);
    assert_eq!(call.arguments().unwrap(), r#"{"order_id":7,"card":"4111-1111","type":"visa","codes":[1,2]}"#);
    let shown = format!("{call:?} {call:#?}");
    assert!(shown.contains("\"order_id\":7") && shown.contains("\"card\":***"), "{shown}");
    assert!(!shown.contains("4111") && !shown.contains("visa") && !shown.contains("[1"), "{shown}");
    drop(Mail::send("1".to_owned()));
}
