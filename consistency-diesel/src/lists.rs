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

/// Leases, each with what its attempt adds to the count, by the names the statements of a database have for them.
pub(crate) fn charged_leases(kind: Kind, leases: &[(LeaseId, i64)]) -> QueryResult<Vec<(&'static str, Bind)>> {
    Ok(match kind {
        Kind::Postgres => vec![
            ("id_array", number_array(leases.iter().map(|(lease, _)| lease.id)).into()),
            ("version_array", number_array(leases.iter().map(|(lease, _)| lease.version)).into()),
            ("charge_array", number_array(leases.iter().map(|(_, charge)| *charge)).into()),
        ],
        Kind::Sqlite => {
            let versions = leases.iter().map(|(LeaseId { id, version }, _)| format!("\"{id}\":{version}"));
            let charged: Vec<i64> =
                leases.iter().filter(|(_, charge)| *charge == 1).map(|(lease, _)| lease.id).collect();
            vec![
                ("versions_by_id", format!("{{{}}}", versions.collect::<Vec<_>>().join(",")).into()),
                ("charged", json(&charged)?),
            ]
        }
        Kind::Mysql => {
            let rows: Vec<_> = leases.iter().map(|(lease, charge)| (lease.id, lease.version, charge)).collect();
            vec![("charged_leases", json(&rows)?)]
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
        let leases = [(LeaseId { id: 1, version: 65_537 }, 1), (LeaseId { id: i64::MAX, version: 0 }, 0)];
        let shown = |kind| {
            let written = charged_leases(kind, &leases).unwrap();
            written.iter().map(|(name, value)| format!("{name} {value:?}")).collect::<Vec<_>>().join("; ")
        };
        let text = |text: &str| format!("Text(Some({text:?}))");
        let (ids, versions, charges) = (text("{1,9223372036854775807}"), text("{65537,0}"), text("{1,0}"));
        assert_eq!(shown(Kind::Postgres), format!("id_array {ids}; version_array {versions}; charge_array {charges}"));
        let versions = text(r#"{"1":65537,"9223372036854775807":0}"#);
        assert_eq!(shown(Kind::Sqlite), format!("versions_by_id {versions}; charged {}", text("[1]")));
        assert_eq!(shown(Kind::Mysql), format!("charged_leases {}", text("[[1,65537,1],[9223372036854775807,0,0]]")));
    }
}
