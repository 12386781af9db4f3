//! Many values as one bound value, in the notation that each database takes apart fastest.

use consistency_core::store::LeaseId;
use diesel::result::{Error, QueryResult};

use crate::dialect::Kind;
use crate::statement::Bind;

/// As one JSON document.
pub(crate) fn json<T: serde::Serialize + ?Sized>(rows: &T) -> QueryResult<Bind> {
    serde_json::to_string(rows).map(Bind::from).map_err(|error| Error::SerializationError(Box::new(error)))
}

/// An array in PostgreSQL's own notation.
pub(crate) fn text_array<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> String {
    let mut array = String::from("{");
    for text in texts {
        if array.len() > 1 {
            array.push(',');
        }
        let Some(text) = text else {
            array.push_str("NULL");
            continue;
        };
        array.push('"');
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                array.push('\\');
            }
            array.push(character);
        }
        array.push('"');
    }
    array.push('}');
    array
}

/// As [`text_array`], of numbers.
pub(crate) fn number_array(numbers: impl Iterator<Item = i64>) -> String {
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    format!("{{{}}}", numbers.join(","))
}

/// Leases, by the names the statements of a database have for them.
pub(crate) fn lease_list(kind: Kind, leases: &[LeaseId]) -> QueryResult<Vec<(&'static str, Bind)>> {
    Ok(match kind {
        Kind::Postgres => vec![
            ("id_array", number_array(leases.iter().map(|lease| lease.id)).into()),
            ("version_array", number_array(leases.iter().map(|lease| lease.version)).into()),
        ],
        Kind::Sqlite => {
            let pairs: Vec<String> =
                leases.iter().map(|LeaseId { id, version }| format!("\"{id}\":{version}")).collect();
            vec![("versions_by_id", format!("{{{}}}", pairs.join(",")).into())]
        }
        Kind::Mysql => {
            let pairs: Vec<_> = leases.iter().map(|lease| (lease.id, lease.version)).collect();
            vec![("pairs", json(&pairs)?)]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_an_array_cannot_end_it() {
        let texts = [Some("plain"), None, Some("NULL"), Some("\"}"), Some("\\"), Some(",{'"), Some("")];
        assert_eq!(text_array(texts.into_iter()), r#"{"plain",NULL,"NULL","\"}","\\",",{'",""}"#);
        assert_eq!(text_array(std::iter::empty()), "{}");
    }

    #[test]
    fn leases_are_written_as_each_database_reads_them() {
        let leases = [LeaseId { id: 1, version: 65_537 }, LeaseId { id: i64::MAX, version: 0 }];
        let written = |kind| lease_list(kind, &leases).unwrap();
        let shown = |kind| written(kind).iter().map(|(name, value)| format!("{name} {value:?}")).collect::<Vec<_>>();
        let postgres =
            [r#"id_array Text(Some("{1,9223372036854775807}"))"#, r#"version_array Text(Some("{65537,0}"))"#]
                .map(str::to_owned);
        assert_eq!(shown(Kind::Postgres), postgres);
        let sqlite = r#"{"1":65537,"9223372036854775807":0}"#.to_owned();
        assert_eq!(shown(Kind::Sqlite), [format!("versions_by_id Text(Some({sqlite:?}))")]);
        assert_eq!(shown(Kind::Mysql), [r#"pairs Text(Some("[[1,65537],[9223372036854775807,0]]"))"#]);
    }
}
