//! Whatever people write into arguments, names and errors comes back as it was.

use std::time::Duration;

use consistency_core::new_task::NewTask;
use consistency_core::retry::Decision;
use consistency_core::store::Settled;

use super::steps::{Claim, claim_one, insert, row, settle, status};
use crate::store_under_test::StoreUnderTest;

/// Texts that have broken somebody's storage before.
fn hard_texts() -> Vec<String> {
    vec![
        String::new(),
        "\u{1f680} \u{20000} e\u{301} \u{200f}\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{10ffff}".to_owned(),
        r#"'single' "double" `back` ''twice'' \'; DROP TABLE consistency_task; --"#.to_owned(),
        r"\ \\ \\\ \n \u0041 \x00 \0 %s %1$s ?1 $1 :name @p".to_owned(),
        "{braces} {id} {rows} {} {{}} ${x} #{y}".to_owned(),
        "line\nfeed\r\ntab\tbell\u{7}escape\u{1b}delete\u{7f}\u{85}\u{2028}\u{feff}".to_owned(),
        "  white space at both ends \t".to_owned(),
        "null NULL true 1e5 007 0x1F [1] {\"a\":1}".to_owned(),
        "\u{e4}".repeat(300_000),
    ]
}

/// Arguments come back byte for byte, and so do titles and keys. A NUL is an escape in the stored JSON.
pub fn every_text_comes_back_as_it_was_stored(on: &dyn StoreUnderTest) {
    let mut texts = hard_texts();
    texts.push("before\0after".to_owned());
    for (number, text) in texts.iter().enumerate() {
        let arguments = serde_json::json!({ "text": text, text.clone(): [text] }).to_string();
        let key: String = text.chars().filter(|character| *character != '\0').take(400).collect();
        let key = format!("{number}:{}", key.trim());
        let meta = serde_json::json!({ "title": text.chars().take(1000).collect::<String>() }).to_string();
        let new = NewTask {
            task_parameter: arguments.clone(),
            parameter_types: text.replace('\0', ""),
            method_sign_name: text.replace('\0', "").chars().take(1000).collect(),
            biz_type: Some("{order}".to_owned()),
            biz_id: Some("\u{1f680}'\\".to_owned()),
            meta: Some(meta.clone()),
            ..row(&key)
        };
        let new = NewTask { parameter_types: new.parameter_types.chars().take(1000).collect(), ..new };
        insert(on, &[new]);
        assert!(status(on, &key).task_id == key);
        let task = claim_one(on);
        assert!(task.task_parameter == arguments, "text {number}: {:.200}", task.task_parameter);
        assert!(task.task_id == key && task.meta.as_ref() == Some(&meta), "text {number}: {:.200}", task.task_id);
        let decoded: serde_json::Value = serde_json::from_str(&task.task_parameter).unwrap();
        assert!(decoded["text"] == **text, "text {number}");
    }
}

/// Numbers in arguments are stored as text, so that none loses a digit.
pub fn extreme_numbers_come_back_exactly(on: &dyn StoreUnderTest) {
    let numbers = format!(
        r#"{{"a":{},"b":{},"c":{},"d":{},"e":-0.0,"f":{},"g":0.1,"h":1E400,"i":123456789012345678901234567890.00}}"#,
        i64::MIN,
        u64::MAX,
        f64::MAX,
        f64::MIN_POSITIVE,
        i128::MAX
    );
    let limit = i64::from(i32::MAX);
    let new = NewTask {
        task_parameter: numbers.clone(),
        execute_interval_second: limit,
        max_execute_times: Some(limit),
        delay_time: limit,
        ..row("numbers")
    };
    insert(on, &[new]);
    let task = claim_one(on);
    assert_eq!(task.task_parameter, numbers);
    assert_eq!((task.execute_interval_second, task.max_execute_times), (limit, Some(limit)));
}

/// Error texts come back as they were settled.
pub fn error_texts_come_back_as_they_were_settled(on: &dyn StoreUnderTest) {
    insert(on, &[row("one")]);
    for text in hard_texts() {
        let retry = claim_one(on).settled(Decision::Retry(Duration::ZERO), Some(text.clone()), Vec::new());
        assert_eq!(settle(on, retry), Settled::Written);
        assert!(status(on, "one").error_message.as_ref() == Some(&text), "{text:.200}");
    }
}

/// Function names may be of any script, and names are compared exactly on every database.
pub fn names_and_queues_may_be_of_any_script(on: &dyn StoreUnderTest) {
    let names =
        ["auftr\u{e4}ge::gr\u{f6}\u{df}e", "\u{8ba2}\u{5355}::\u{53d1}\u{8d27}", "a\"b\\c'd{e}::f", "\u{1f680}"];
    let queue = "\u{90ae}\u{4ef6} 'q' {q}";
    for (number, name) in names.iter().enumerate() {
        let new = NewTask { method_name: (*name).to_owned(), queue: queue.to_owned(), ..row(&format!("row-{number}")) };
        insert(on, &[new]);
    }
    let mut unknown = on.store().unknown_names(&[queue.to_owned()], &[names[0].to_owned()], 10).unwrap();
    unknown.sort_unstable();
    let mut others = names[1..].to_vec();
    others.sort_unstable();
    assert_eq!(unknown, others);
    let heads = on.store().look(&[queue.to_owned()]).unwrap().heads;
    assert_eq!(heads.len(), 1);
    assert_eq!(heads[0].queue, queue);
    for (number, name) in names.iter().enumerate() {
        let taken = Claim { queue, names: vec![(*name).to_owned()], ..Claim::default() }.take(on);
        assert_eq!(taken.len(), 1, "{name}");
        assert_eq!(
            (taken[0].task_id.as_str(), taken[0].method_name.as_str()),
            (format!("row-{number}").as_str(), *name)
        );
        assert_eq!(taken[0].queue, queue);
    }
}
