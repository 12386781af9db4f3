//! A statement: a text from `sql/` with `{named}` values, bound in the way of whichever database runs it.
//!
//! The texts are constants and values are only ever bound, so prepared statements are cached by text, the plainest by a type
//! ([`Known`]), and no SQL is built from values. Both Diesel worlds can run the same statements.

use std::fmt;
use std::marker::PhantomData;

use consistency_core::store::LeaseId;
use diesel::RunQueryDsl;
use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::{Output, ToSql};
use diesel::sql_types::{BigInt, HasSqlType, Nullable, Text};

use crate::arrays::{Array, BindsArrays};

/// Most values of one text.
const NAMES: usize = 16;
/// Pieces and values that most statements have room in from the start.
const PIECES: usize = 40;
const BINDS: usize = 20;

/// A bound value.
#[derive(Debug, Clone)]
pub(crate) enum Bind {
    Int(Option<i64>),
    Text(Option<String>),
    /// A text with arguments of tasks in it.
    Hidden(Hidden),
    /// Keys of rows, each bound by itself. The text of the statement changes with their number.
    Ids(Vec<i64>),
    /// The same of keys and versions, each pair in brackets.
    Leases(Vec<LeaseId>),
    /// The values of many rows, for PostgreSQL.
    Array(Array),
}

/// A text of which `Debug` tells only the size, so that a connection's instrumentation does not log what may be sensitive.
#[derive(Clone)]
pub(crate) struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

impl<DB> ToSql<Nullable<Text>, DB> for Hidden
where
    DB: Backend,
    String: ToSql<Nullable<Text>, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> diesel::serialize::Result {
        ToSql::<Nullable<Text>, DB>::to_sql(&self.0, out)
    }
}

impl<DB: Backend> ToSql<Text, DB> for Hidden
where
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> diesel::serialize::Result {
        ToSql::<Text, DB>::to_sql(self.0.as_str(), out)
    }
}

impl Bind {
    /// The same value, hidden from whoever logs statements.
    pub(crate) fn hidden(self) -> Bind {
        match self {
            Bind::Text(Some(text)) => Bind::Hidden(Hidden(text)),
            other => other,
        }
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Hidden(text)
    }
}

impl From<Array> for Bind {
    fn from(array: Array) -> Self {
        Bind::Array(array)
    }
}

impl From<i64> for Bind {
    fn from(value: i64) -> Self {
        Bind::Int(Some(value))
    }
}

impl From<Option<i64>> for Bind {
    fn from(value: Option<i64>) -> Self {
        Bind::Int(value)
    }
}

impl From<&str> for Bind {
    fn from(value: &str) -> Self {
        Bind::Text(Some(value.to_owned()))
    }
}

impl From<String> for Bind {
    fn from(value: String) -> Self {
        Bind::Text(Some(value))
    }
}

impl From<Option<String>> for Bind {
    fn from(value: Option<String>) -> Self {
        Bind::Text(value)
    }
}

#[derive(Debug, Clone, Copy)]
enum Piece {
    Sql(&'static str),
    /// Where the value is among those of the statement.
    Bind(usize),
}

/// What a connection knows a prepared statement by.
pub(crate) trait Known: Send + 'static {
    /// Whether by this type: then every statement of it has the same text, which is not even written before it is looked for.
    const BY_TYPE: bool = true;
}

/// By its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByText;

impl Known for ByText {
    const BY_TYPE: bool = false;
}

/// A statement whose rows, if any, have the SQL types `ST`, and which stays prepared as `K`.
#[derive(Debug, Clone)]
pub(crate) struct Statement<ST = (), K = ByText> {
    pieces: Vec<Piece>,
    binds: Vec<Bind>,
    cached: bool,
    kind: PhantomData<(ST, K)>,
}

impl Statement {
    /// The statement of `text`, each `{name}` in it bound to the value of that name.
    pub(crate) fn new(text: &'static str, values: impl IntoIterator<Item = (&'static str, Bind)>) -> Self {
        let (pieces, binds) = (Vec::with_capacity(PIECES), Vec::with_capacity(BINDS));
        Statement { pieces, binds, cached: true, kind: PhantomData }.and(text, values)
    }

    /// Adds another text with its values.
    pub(crate) fn and(mut self, text: &'static str, values: impl IntoIterator<Item = (&'static str, Bind)>) -> Self {
        let first = self.binds.len();
        let mut names = [""; NAMES];
        for ((name, value), known) in values.into_iter().zip(&mut names) {
            *known = name;
            self.binds.push(value);
        }
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, behind)) = after.split_once('}') else { break };
            let value = names.iter().position(|known| *known == name);
            debug_assert!(value.is_some(), "the statement asks for a value `{name}` that nobody gives");
            self.pieces.push(Piece::Sql(before));
            self.pieces.extend(value.map(|at| Piece::Bind(first + at)));
            rest = behind;
        }
        self.pieces.push(Piece::Sql(rest));
        self
    }

    /// Adds another statement's text and values.
    pub(crate) fn followed_by(mut self, other: Statement) -> Self {
        let first = self.binds.len();
        self.binds.extend(other.binds);
        self.pieces.extend(other.pieces.into_iter().map(|piece| match piece {
            Piece::Bind(at) => Piece::Bind(first + at),
            text @ Piece::Sql(_) => text,
        }));
        self
    }

    /// Prepares it anew each time: for texts of many shapes that would fill the cache.
    pub(crate) fn uncached(mut self) -> Self {
        self.cached = false;
        self
    }

    /// The same statement, known by the type `K`, of which each has this text.
    pub(crate) fn known_as<K: Known>(self) -> Statement<(), K> {
        Statement { pieces: self.pieces, binds: self.binds, cached: self.cached, kind: PhantomData }
    }
}

impl<K> Statement<(), K> {
    /// The same statement with rows of the SQL types `ST`.
    pub(crate) fn returning<ST>(self) -> Statement<ST, K> {
        Statement { pieces: self.pieces, binds: self.binds, cached: self.cached, kind: PhantomData }
    }
}

impl<ST, K, DB> QueryFragment<DB> for Statement<ST, K>
where
    DB: BindsArrays + HasSqlType<BigInt> + HasSqlType<Text>,
    i64: ToSql<BigInt, DB>,
    Option<i64>: ToSql<Nullable<BigInt>, DB>,
    Option<String>: ToSql<Nullable<Text>, DB>,
    String: ToSql<Nullable<Text>, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        if !self.cached {
            out.unsafe_to_cache_prepared();
        }
        for piece in &self.pieces {
            let bind = match piece {
                Piece::Sql(text) => {
                    out.push_sql(text);
                    continue;
                }
                Piece::Bind(at) => &self.binds[*at],
            };
            match bind {
                Bind::Int(value) => out.push_bind_param::<Nullable<BigInt>, _>(value)?,
                Bind::Text(value) => out.push_bind_param::<Nullable<Text>, _>(value)?,
                Bind::Hidden(value) => out.push_bind_param::<Nullable<Text>, _>(value)?,
                Bind::Array(array) => DB::push(&mut out, array)?,
                Bind::Ids(ids) => {
                    for (at, id) in ids.iter().enumerate() {
                        out.push_sql(if at == 0 { "" } else { ", " });
                        out.push_bind_param::<BigInt, _>(id)?;
                    }
                }
                Bind::Leases(leases) => {
                    for (at, LeaseId { id, version }) in leases.iter().enumerate() {
                        out.push_sql(if at == 0 { "(" } else { ", (" });
                        out.push_bind_param::<BigInt, _>(id)?;
                        out.push_sql(", ");
                        out.push_bind_param::<BigInt, _>(version)?;
                        out.push_sql(")");
                    }
                }
            }
        }
        Ok(())
    }
}

impl<ST, K: Known> QueryId for Statement<ST, K> {
    type QueryId = K;
    const HAS_STATIC_QUERY_ID: bool = K::BY_TYPE;
}

impl<ST, K: Known> Query for Statement<ST, K> {
    type SqlType = ST;
}

impl<ST, K, C> RunQueryDsl<C> for Statement<ST, K> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and values apart, as they go to the database.
    fn sent(statement: &Statement) -> (String, Vec<String>) {
        let (mut text, mut values) = (String::new(), Vec::new());
        for piece in &statement.pieces {
            match piece {
                Piece::Sql(sql) => text.push_str(sql),
                Piece::Bind(at) => {
                    text.push('?');
                    values.push(format!("{:?}", statement.binds[*at]));
                }
            }
        }
        (text, values)
    }

    #[test]
    fn a_value_that_looks_like_a_placeholder_stays_a_value() {
        let hostile = "{b} {a} {rows} {} } { '; -- ? $1";
        let statement = Statement::new("SELECT {a}, {b}, {a}", [("a", hostile.into()), ("b", 7.into())]);
        let (text, values) = sent(&statement.and(" WHERE {c} = 'x'", [("c", "{a}".into())]));
        assert_eq!(text, "SELECT ?, ?, ? WHERE ? = 'x'");
        let shown = format!("Text(Some({hostile:?}))");
        assert_eq!(values, [shown.as_str(), "Int(Some(7))", &shown, "Text(Some(\"{a}\"))"]);
    }

    #[test]
    fn arguments_are_hidden_from_whoever_logs_statements() {
        let statement = Statement::new("SELECT {a}", [("a", Bind::from("4111").hidden())]);
        assert_eq!(sent(&statement), ("SELECT ?".to_owned(), vec!["Hidden(<4 bytes>)".to_owned()]));
    }
}
