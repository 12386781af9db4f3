//! Many values for one statement, in the notation that each database takes apart fastest: one bound value, or on MySQL a list.

use consistency_core::store::LeaseId;
use diesel::result::{Error, QueryResult};

use crate::arrays::Array;
use crate::dialect::Kind;
use crate::statement::Bind;

/// As one JSON document.
pub(crate) fn json<T: serde::Serialize + ?Sized>(rows: &T) -> QueryResult<Bind> {
    serde_json::to_string(rows).map(Bind::from).map_err(|error| Error::SerializationError(Box::new(error)))
}

/// Leases, each with what its attempt adds to the count, by the names the statements of a database have for them.
pub(crate) fn charged_leases(kind: Kind, leases: &[(LeaseId, i64)]) -> QueryResult<Vec<(&'static str, Bind)>> {
    Ok(match kind {
        Kind::Postgres => vec![
            ("id_array", Array::Numbers(leases.iter().map(|(lease, _)| lease.id).collect()).into()),
            ("version_array", Array::Numbers(leases.iter().map(|(lease, _)| lease.version).collect()).into()),
            ("charge_array", Array::Numbers(leases.iter().map(|(_, charge)| *charge).collect()).into()),
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
        // All of one charge: see `batches`.
        Kind::Mysql => {
            let charge = leases.first().map_or(0, |(_, charge)| *charge);
            let leases = padded(leases.iter().map(|(lease, _)| *lease));
            let ids = leases.iter().map(|lease| lease.id).collect();
            vec![("charge", charge.into()), ("id_list", Bind::Ids(ids)), ("lease_list", Bind::Leases(leases))]
        }
    })
}

/// How many values a list of MySQL's has, which names each: few such texts can stay prepared.
const MYSQL_LENGTHS: [usize; 3] = [1, 10, 100];
/// The longest of them.
pub(crate) const MYSQL_LONGEST: usize = MYSQL_LENGTHS[MYSQL_LENGTHS.len() - 1];

/// The values, up to [`MYSQL_LONGEST`], and the last of them again until the list has one of the lengths.
pub(crate) fn padded<T: Clone>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    let length = MYSQL_LENGTHS.into_iter().find(|length| *length >= values.len()).unwrap_or(values.len());
    if let Some(last) = values.last().cloned() {
        values.resize(length, last);
    }
    values
}

/// The leases that one statement takes: all of them, but on MySQL up to [`MYSQL_LONGEST`] of one charge.
pub(crate) fn batches(kind: Kind, leases: Vec<(LeaseId, i64)>) -> Vec<Vec<(LeaseId, i64)>> {
    if kind != Kind::Mysql {
        return if leases.is_empty() { Vec::new() } else { vec![leases] };
    }
    let (charged, free): (Vec<_>, Vec<_>) = leases.into_iter().partition(|(_, charge)| *charge != 0);
    charged.chunks(MYSQL_LONGEST).chain(free.chunks(MYSQL_LONGEST)).map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_written_as_each_database_reads_them() {
        let leases = [(LeaseId { id: 1, version: 65_537 }, 1), (LeaseId { id: i64::MAX, version: 0 }, 0)];
        let shown = |kind| {
            let written = charged_leases(kind, &leases).unwrap();
            written.iter().map(|(name, value)| format!("{name} {value:?}")).collect::<Vec<_>>().join("; ")
        };
        let text = |text: &str| format!("Text(Some({text:?}))");
        let arrays = "id_array Array(Numbers([1, 9223372036854775807])); version_array Array(Numbers([65537, 0])); \
                      charge_array Array(Numbers([1, 0]))";
        assert_eq!(shown(Kind::Postgres), arrays);
        let versions = text(r#"{"1":65537,"9223372036854775807":0}"#);
        assert_eq!(shown(Kind::Sqlite), format!("versions_by_id {versions}; charged {}", text("[1]")));
    }

    #[test]
    fn a_list_of_mysqls_has_one_of_three_lengths_and_all_of_its_values() {
        for (values, length) in [(1, 1), (2, 10), (10, 10), (11, 100), (100, 100)] {
            let list = padded(0..values);
            assert_eq!(list.len(), length);
            assert!((0..values).all(|value| list.contains(&value)) && list.iter().all(|value| *value < values));
        }
        assert_eq!(padded(0..0), Vec::<i32>::new());
    }

    #[test]
    fn mysqls_batches_have_one_charge_each_and_every_lease() {
        let leases: Vec<_> = (0..350).map(|id| (LeaseId { id, version: id }, i64::from(id % 3 == 0))).collect();
        let made = batches(Kind::Mysql, leases.clone());
        assert!(
            made.iter()
                .all(|batch| batch.len() <= MYSQL_LONGEST && batch.iter().all(|(_, charge)| *charge == batch[0].1))
        );
        let mut all = made.concat();
        all.sort_by_key(|(lease, _)| lease.id);
        assert_eq!(all, leases);
        assert_eq!(batches(Kind::Postgres, leases.clone()), [leases]);
        assert!(batches(Kind::Sqlite, Vec::new()).is_empty());
    }
}
