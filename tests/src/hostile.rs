//! Rows nobody in his senses would store, as SQL: extremes of every column, bytes of every kind, and mixtures of both.

use std::collections::BTreeMap;
use std::fmt;

use proptest::prelude::*;

use crate::backend::Backend;
use crate::scene::now;

/// A row that is about to be stored with SQL: column by column an expression.
#[derive(Clone, PartialEq, Eq)]
pub struct HostileRow {
    columns: BTreeMap<&'static str, String>,
}

impl HostileRow {
    /// A good row of the task `name` with the argument `number`, due long since. It has an id of its own from `id` on.
    pub fn good(name: &str, id: i64) -> Self {
        let columns = [
            ("id", id.to_string()),
            ("task_id", format!("'row-{id}'")),
            ("method_name", format!("'{name}'")),
            ("method_sign_name", "''".to_owned()),
            ("parameter_types", "'number: i64'".to_owned()),
            ("task_parameter", format!("'{{\"number\":{id}}}'")),
            ("next_execute_time", "'2020-01-01 00:00:00'".to_owned()),
        ];
        Self { columns: BTreeMap::from(columns) }
    }

    /// The same with another value of a column.
    pub fn with(mut self, column: &'static str, value: impl Into<String>) -> Self {
        self.columns.insert(column, value.into());
        self
    }

    /// The same, held by a node that lost its lease long ago.
    pub fn lost(self) -> Self {
        self.with("state", "1").with("lease_owner", "'node-x'").with("lease_until", "'2020-01-01 00:00:00'")
    }

    /// The statement that stores it. The database may refuse it.
    pub fn insert(&self) -> String {
        let columns: Vec<&str> = self.columns.keys().copied().collect();
        let values: Vec<&str> = self.columns.values().map(String::as_str).collect();
        format!("INSERT INTO consistency_task ({}) VALUES ({})", columns.join(", "), values.join(", "))
    }

    /// Whether it was stored as a dead one, which only a person moves.
    pub fn was_dead(&self) -> bool {
        self.columns.get("state").is_some_and(|state| state == "4")
    }

    /// Its id.
    pub fn id(&self) -> i64 {
        self.columns["id"].parse().expect("a number")
    }
}

impl fmt::Debug for HostileRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.insert();
        if let Some((end, _)) = text.char_indices().nth(2000) {
            text.truncate(end);
        }
        f.write_str(&text)
    }
}

/// A text of these bytes, as far as the database takes it.
pub fn text(backend: Backend, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match backend {
        Backend::Sqlite => format!("CAST(X'{hex}' AS TEXT)"),
        Backend::Postgres => format!("convert_from('\\x{hex}'::bytea, 'UTF8')"),
        Backend::Mysql => format!("CONVERT(X'{hex}' USING utf8mb4)"),
    }
}

/// Columns that hold texts, and whether they may be NULL.
const TEXTS: [&str; 11] = [
    "task_parameter",
    "meta",
    "method_name",
    "parameter_types",
    "task_id",
    "order_key",
    "queue",
    "error_message",
    "method_sign_name",
    "biz_type",
    "lease_owner",
];
const NUMBERS: [&str; 7] = [
    "execute_times",
    "lost_times",
    "version",
    "priority",
    "execute_interval_second",
    "max_execute_times",
    "delay_time",
];
const CODES: [&str; 4] = ["state", "execute_mode", "thread_way", "cancel_requested"];
const TIMES: [&str; 4] = ["next_execute_time", "lease_until", "gmt_create", "gmt_modified"];

/// Texts that are hard on whoever reads them as JSON.
pub fn documents() -> Vec<String> {
    let mut all: Vec<String> = [
        "", "null", "[]", "0", "\"x\"", "{", "{}", "{\"number\":null}", "{\"number\":1,\"number\":2}", "{\"number\":1e999}",
        "{\"number\":99999999999999999999999999999999}", "{\"number\":-0.0}", "{\"number\":1,\"other\":2}",
        "{\"number\":1,\"\\ud800\":2}", "{\"number\":\"\\ud800\"}", "{\"number\":1}{}", "{\"number\":1,}", "{\"number\":1}\u{0}",
        "{\"backoff\":null}", "{\"backoff\":{}}", "{\"retry_every_ms\":-1}", "{\"retry_every_ms\":18446744073709551615}",
        "{\"title\":1}", "{\"title\":\"a\",\"title\":\"b\"}", "{\"unknown\":{\"a\":[]}}",
        "{\"backoff\":{\"shape\":\"exponential\",\"cap\":{\"secs\":18446744073709551615,\"nanos\":999999999},\"jitter_percent\":255}}",
        "{\"backoff\":{\"shape\":\"linear\",\"cap\":{\"secs\":18446744073709551615,\"nanos\":4294967295},\"jitter_percent\":100}}",
        "{\"backoff\":{\"shape\":\"fixed\",\"cap\":{\"secs\":0,\"nanos\":0},\"jitter_percent\":100}}",
    ]
    .map(str::to_owned)
    .into();
    for depth in [100, 127, 128, 200, 20_000] {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        all.push(format!("{{\"number\":{open}{close}}}"));
        all.push(format!("{{\"number\":{open}"));
        all.push("{\"number\":".repeat(depth));
        all.push(format!("{{\"value\":{open}{close}}}"));
    }
    all
}

/// Expressions for a column of numbers: the ends of every type, and their neighbours.
fn numbers(backend: Backend) -> Vec<String> {
    let ends = [i64::MAX, i64::MAX - 1, 1 << 62, (1 << 62) - 1, 1 << 53, i64::from(u32::MAX), i64::from(i32::MAX)];
    let mut all: Vec<String> = ends.iter().flat_map(|end| [end.to_string(), (-end).to_string()]).collect();
    all.extend(["0", "1", "-1", "2147483646", "32767", "9", "10"].map(str::to_owned));
    if backend == Backend::Sqlite {
        all.extend(["'abc'", "1.5", "1e300", "9e999", "X'00'", "''", "'1'"].map(str::to_owned));
    }
    all
}

fn codes(backend: Backend) -> Vec<String> {
    let mut all: Vec<String> = (-1..9).map(|code| code.to_string()).collect();
    if backend == Backend::Sqlite {
        all.extend(["'0'", "0.5", "1.5", "3.9", "X'30'"].map(str::to_owned));
    }
    all
}

/// Expressions for a column of times.
fn times(backend: Backend) -> Vec<String> {
    let common = [
        "'9999-12-31 23:59:59.999'",
        "'9999-12-31 00:00:00'",
        "'1969-12-31 23:59:59'",
        "'1900-01-01 00:00:00'",
        "'1000-01-01 00:00:00'",
        "'0001-01-01 00:00:00'",
        "'1582-10-10 00:00:00'",
        "'2038-01-19 03:14:08'",
    ];
    let special: &[&str] = match backend {
        Backend::Postgres => &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 00:00:00 BC'",
            "'294276-12-31 23:59:59+00'",
            "'0044-03-15 00:00:00 BC'",
        ],
        Backend::Mysql => &[
            "'0000-00-00'",
            "'0000-00-00 00:00:00.000001'",
            "'2020-00-00 00:00:00'",
            "'2020-01-00 00:00:00'",
            "'0000-01-01 00:00:00'",
            "'2020-02-31 00:00:00'",
            "0",
        ],
        Backend::Sqlite => &[
            "''",
            "'abc'",
            "'zzz'",
            "'now'",
            "'12:00'",
            "'2020-01-01'",
            "'2020-01-01T00:00:00Z'",
            "'2020-01-01 00:00'",
            "0",
            "1e308",
            "2458849.5",
            "'2458849.5'",
            "X'ff'",
            "'-4713-11-24 12:00:00'",
            "'2020-99-99 00:00:00'",
            "'2020-02-31 00:00:00'",
            "'10000-01-01 00:00:00'",
            "'9999-12-31 23:59:60'",
            "'2020-01-01 00:00:00x'",
        ],
    };
    let mut all: Vec<String> = common.iter().chain(special).map(|time| (*time).to_owned()).collect();
    all.push(now(backend).to_owned());
    all
}

/// Texts of bytes as they come.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        ".{0,40}".prop_map(String::into_bytes),
        "[\\x00-\\x1f'\"\\\\%_;{}]{0,20}".prop_map(String::into_bytes),
        Just("default ".into()),
        Just("😀\u{202e}\u{feff}\u{fffe}".into()),
        Just(vec![b'x'; 90]),
        Just(vec![b'x'; 300_000]),
    ]
}

fn one_of(column: &'static str, values: Vec<String>) -> BoxedStrategy<(&'static str, String)> {
    prop::sample::select(values).prop_map(move |value| (column, value)).boxed()
}

/// One column and what it is set to.
fn mutation(backend: Backend) -> impl Strategy<Value = (&'static str, String)> {
    let text_column = prop::sample::select(TEXTS.to_vec());
    let any_text = (text_column, bytes()).prop_map(move |(column, bytes)| (column, text(backend, &bytes)));
    let documents = || documents().iter().map(|document| text(backend, document.as_bytes())).collect::<Vec<_>>();
    let number = prop::sample::select(NUMBERS.to_vec()).prop_flat_map(move |column| one_of(column, numbers(backend)));
    let code = prop::sample::select(CODES.to_vec()).prop_flat_map(move |column| one_of(column, codes(backend)));
    let time = prop::sample::select(TIMES.to_vec()).prop_flat_map(move |column| one_of(column, times(backend)));
    let null =
        prop::sample::select([&TEXTS[..], &NUMBERS, &TIMES].concat()).prop_map(|column| (column, "NULL".to_owned()));
    let key = prop::sample::select(vec!["'one'", "'two'"]).prop_map(|key| ("order_key", key.to_owned()));
    prop_oneof![
        3 => any_text,
        2 => one_of("task_parameter", documents()),
        2 => one_of("meta", documents()),
        4 => number,
        2 => code,
        3 => time,
        1 => null,
        1 => key,
    ]
}

/// Mixtures: up to four columns of a row that is good otherwise, of one of these tasks, and perhaps lost by its node.
pub fn rows(backend: Backend, names: &'static [&'static str]) -> impl Strategy<Value = Vec<HostileRow>> {
    let row = (prop::sample::select(names), any::<bool>(), prop::collection::vec(mutation(backend), 1..5));
    prop::collection::vec(row, 1..16).prop_map(|rows| {
        let numbered = rows.into_iter().zip(1_000..);
        let made = numbered.map(|((name, lost, mutations), id)| {
            let row = HostileRow::good(name, id);
            let row = if lost { row.lost() } else { row };
            mutations.into_iter().fold(row, |row, (column, value)| row.with(column, value))
        });
        made.collect()
    })
}

/// Every extreme of every number and time by itself, of a waiting row and of a lost one.
pub fn extremes(backend: Backend, name: &str) -> Vec<HostileRow> {
    let of = |columns: &[&'static str], values: Vec<String>| -> Vec<(&'static str, String)> {
        columns.iter().flat_map(|column| values.iter().map(|value| (*column, value.clone()))).collect()
    };
    let mut all = of(&NUMBERS, numbers(backend));
    all.extend(of(&TIMES, times(backend)));
    all.extend(of(&CODES, codes(backend)));
    let rows = all.into_iter().flat_map(|(column, value)| [(column, value.clone(), false), (column, value, true)]);
    rows.zip(1_000..)
        .map(|((column, value, lost), id)| {
            let row = HostileRow::good(name, id);
            if lost { row.lost().with(column, value) } else { row.with(column, value) }
        })
        .collect()
}
