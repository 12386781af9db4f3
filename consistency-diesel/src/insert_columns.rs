//! Which columns an INSERT names: those its rows have values for. A plain call then binds a dozen values and not two dozen, and
//! what a database does for each column of a row it does for fewer.

use consistency_core::new_task::NewTask;

use crate::arrays::Array;
use crate::dialect::Sql;
use crate::insert::Lessor;
use crate::micros;
use crate::statement::{Bind, Statement};

/// Columns that go together, besides `state`.
struct Group {
    /// Whether a row has values for them; otherwise the table's defaults are what it would have.
    has_values: fn(&NewTask) -> bool,
    /// Those whose values rows of one statement share.
    shared: &'static str,
    /// Adds these values.
    add_shared: fn(Statement, &Sql, &NewTask, Lessor<'_>) -> Statement,
    /// Those whose values differ from row to row.
    own: &'static str,
    /// The same in the list `r` of many rows.
    listed: &'static str,
    /// Adds these values.
    add_own: fn(Statement, &NewTask) -> Statement,
    /// Adds an array of each, for PostgreSQL.
    add_arrays: fn(Statement, &[&NewTask]) -> Statement,
}

/// What a group has none of.
const NONE: Group = Group {
    has_values: |_| true,
    shared: "",
    add_shared: |statement, _, _, _| statement,
    own: "",
    listed: "",
    add_own: |statement, _| statement,
    add_arrays: |statement, _| statement,
};

/// Where among the groups are the columns every row has, those of a lease, and those of when a row is due.
const EVERY: usize = 0;
const LEASE: usize = 1;
const DUE: usize = 2;
/// And where the time.
const MADE_AND_DUE: usize = 7;
const MADE: usize = 8;

const GROUPS: [Group; 9] = [
    Group {
        shared: ", parameter_types, method_name, method_sign_name, execute_interval_second, execute_mode, thread_way, queue, priority",
        add_shared: |statement, _, row, _| {
            let text =
                ", {parameter_types}, {method_name}, {method_sign_name}, {every}, {mode}, {way}, {queue}, {priority}";
            statement.and(
                text,
                [
                    ("parameter_types", row.parameter_types.as_str().into()),
                    ("method_name", row.method_name.as_str().into()),
                    ("method_sign_name", row.method_sign_name.as_str().into()),
                    ("every", row.execute_interval_second.into()),
                    ("mode", i64::from(row.execute_mode).into()),
                    ("way", i64::from(row.thread_way).into()),
                    ("queue", row.queue.as_str().into()),
                    ("priority", i64::from(row.priority).into()),
                ],
            )
        },
        own: ", task_id, task_parameter",
        listed: ", r.task_id, r.task_parameter",
        add_own: |statement, row| {
            let arguments = Bind::from(row.task_parameter.as_str()).hidden();
            statement
                .and(", {task_id}, {arguments}", [("task_id", row.task_id.as_str().into()), ("arguments", arguments)])
        },
        ..NONE
    },
    Group {
        has_values: |row| row.leased,
        shared: ", execute_times, lease_owner, lease_until",
        add_shared: |statement, sql, row, lessor| {
            let values = [
                ("execute_times", i64::from(row.leased && row.max_execute_times.is_some()).into()),
                ("lease_owner", row.leased.then(|| lessor.node.to_owned()).into()),
                ("lease_us", row.leased.then(|| micros(lessor.lease)).into()),
            ];
            statement.and(", ", []).and(sql.insert_lease, values)
        },
        own: ", version",
        listed: ", r.version",
        add_own: |statement, row| statement.and(", {version}", [("version", version(row).into())]),
        add_arrays: |statement, rows| {
            let versions = Array::Numbers(rows.iter().map(|row| version(row)).collect());
            statement.and(", {versions}::bigint[]", [("versions", versions.into())])
        },
    },
    Group {
        has_values: |row| row.delay_us != 0 || row.delay_time != 0 || row.due_at_us.is_some(),
        shared: ", delay_time, next_execute_time",
        add_shared: |statement, sql, row, _| {
            let values = [
                ("delay_time", row.delay_time.into()),
                ("delay_us", row.delay_us.into()),
                ("due_at_us", row.due_at_us.into()),
            ];
            statement.and(", ", []).and(sql.insert_due, values)
        },
        ..NONE
    },
    Group {
        has_values: |row| row.max_execute_times.is_some(),
        shared: ", max_execute_times",
        add_shared: |statement, _, row, _| statement.and(", {most}", [("most", row.max_execute_times.into())]),
        ..NONE
    },
    Group {
        has_values: |row| row.order_key.is_some() || row.order_policy != 0,
        shared: ", order_key, order_policy",
        add_shared: |statement, _, row, _| {
            let values = [("key", row.order_key.clone().into()), ("policy", i64::from(row.order_policy).into())];
            statement.and(", {key}, {policy}", values)
        },
        ..NONE
    },
    Group {
        has_values: |row| row.biz_type.is_some() || row.biz_id.is_some(),
        shared: ", biz_type",
        add_shared: |statement, _, row, _| statement.and(", {biz_type}", [("biz_type", row.biz_type.clone().into())]),
        own: ", biz_id",
        listed: ", r.biz_id",
        add_own: |statement, row| statement.and(", {biz_id}", [("biz_id", row.biz_id.clone().into())]),
        add_arrays: |statement, rows| {
            let ids = Array::Texts(rows.iter().map(|row| row.biz_id.clone()).collect());
            statement.and(", {biz_ids}::text[]", [("biz_ids", ids.into())])
        },
    },
    Group {
        has_values: |row| row.meta.is_some(),
        own: ", meta",
        listed: ", r.meta",
        add_own: |statement, row| statement.and(", {meta}", [("meta", row.meta.clone().into())]),
        add_arrays: |statement, rows| {
            let metas = Array::Texts(rows.iter().map(|row| row.meta.clone()).collect());
            statement.and(", {metas}::text[]", [("metas", metas.into())])
        },
        ..NONE
    },
    Group {
        has_values: |_| false,
        shared: ", gmt_create, gmt_modified, next_execute_time",
        add_shared: |statement, _, _, _| statement.and(", {now}, {now}, {now}", [("now", sqlite_now().into())]),
        ..NONE
    },
    Group {
        has_values: |_| false,
        shared: ", gmt_create, gmt_modified",
        add_shared: |statement, _, _, _| statement.and(", {now}, {now}", [("now", sqlite_now().into())]),
        ..NONE
    },
];

/// The time in SQLite's notation. Each column's own default asks for it anew, which costs as much as a quarter of the INSERT.
#[cfg(feature = "sqlite")]
fn sqlite_now() -> String {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    // Until the end of the year 9999: what is written has four digits.
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let now = humantime::format_rfc3339_millis(SystemTime::now().clamp(UNIX_EPOCH, last)).to_string();
    now.replace('T', " ").replace('Z', "")
}

#[cfg(not(feature = "sqlite"))]
fn sqlite_now() -> String {
    String::new()
}

/// Whether the row has values only for what every row has, and perhaps for a lease.
pub(crate) fn is_plain(row: &NewTask) -> bool {
    !GROUPS[LEASE + 1..].iter().any(|group| (group.has_values)(row))
}

/// The first version of a row that is inserted leased.
pub(crate) fn version(row: &NewTask) -> i64 {
    if row.leased { row.first_version } else { 0 }
}

/// The columns that any row of a statement has values for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    groups: [bool; GROUPS.len()],
    /// Whether PostgreSQL shall insert only while the proof that the transaction is open holds; elsewhere it makes no difference here.
    is_guarded: bool,
}

impl Columns {
    pub(crate) fn of(rows: &[&NewTask], lessor: Lessor<'_>) -> Self {
        let has_values = |group: &Group| rows.iter().any(|row| (group.has_values)(row));
        Columns { groups: std::array::from_fn(|at| has_values(&GROUPS[at])), is_guarded: lessor.guarded }
    }

    /// The same, with the time as a value where it would be the table's default: for a statement of one row on SQLite.
    pub(crate) fn with_the_time(mut self) -> Self {
        let group = if self.groups[DUE] { MADE } else { MADE_AND_DUE };
        self.groups[group] = true;
        self
    }

    fn groups(&self) -> impl Iterator<Item = &'static Group> {
        GROUPS.iter().zip(self.groups).filter(|(_, named)| *named).map(|(group, _)| group)
    }

    /// The head of the statement, up to what is inserted.
    pub(crate) fn insert_into(&self) -> Statement {
        let head = Statement::new("INSERT INTO consistency_task (state", []);
        self.groups().fold(head, |head, group| head.and(group.shared, []).and(group.own, [])).and(") ", [])
    }

    /// Adds one row's values, all of them bound.
    pub(crate) fn add_values(&self, statement: Statement, sql: &Sql, row: &NewTask, lessor: Lessor<'_>) -> Statement {
        let opened = self.add_state(statement.and("(", []), sql, row);
        let added = |statement, group: &Group| (group.add_own)((group.add_shared)(statement, sql, row, lessor), row);
        self.groups().fold(opened, added).and(") ", [])
    }

    /// Adds what the list `r` of many rows is selected as: what they share is that of the first.
    pub(crate) fn add_selected(
        &self,
        statement: Statement,
        sql: &Sql,
        first: &NewTask,
        lessor: Lessor<'_>,
    ) -> Statement {
        let opened = self.add_state(statement.and("SELECT ", []), sql, first);
        let added = |statement, group: &Group| (group.add_shared)(statement, sql, first, lessor).and(group.listed, []);
        self.groups().fold(opened, added).and("\n", [])
    }

    /// Adds the list `r` of many rows as PostgreSQL takes it apart fastest: an array of each column.
    pub(crate) fn add_unnested(&self, statement: Statement, rows: &[&NewTask]) -> Statement {
        let task_ids = Array::Texts(rows.iter().map(|row| Some(row.task_id.clone())).collect());
        let arguments = Array::Hidden(rows.iter().map(|row| row.task_parameter.clone().into()).collect());
        let values = [("task_ids", task_ids.into()), ("arguments", arguments.into())];
        let opened = statement.and("FROM unnest({task_ids}::text[], {arguments}::text[]", values);
        let with_arrays = self.groups().fold(opened, |statement, group| (group.add_arrays)(statement, rows));
        let named = with_arrays.and(") AS r (task_id, task_parameter", []);
        let others = self.groups().skip(EVERY + 1).map(|group| group.own);
        others.fold(named, |statement, own| statement.and(own, [])).and(")", [])
    }

    fn add_state(&self, statement: Statement, sql: &Sql, row: &NewTask) -> Statement {
        let text = if self.is_guarded { sql.insert_state } else { "{state}" };
        statement.and(text, [("state", i64::from(row.leased).into())])
    }
}
