//! Arrays as bound values: PostgreSQL takes a whole column of rows as one, and the other databases have none.

use diesel::backend::Backend;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;

use crate::statement::Hidden;

/// The values of a column, one for each row.
#[derive(Debug, Clone)]
#[cfg_attr(not(any(feature = "postgres", feature = "async-postgres")), allow(dead_code))]
pub(crate) enum Array {
    Numbers(Vec<i64>),
    Texts(Vec<Option<String>>),
    /// Texts that no log shows.
    Hidden(Vec<Hidden>),
}

/// A database, and how it binds arrays.
pub(crate) trait BindsArrays: Backend {
    /// Binds one.
    ///
    /// # Errors
    /// Where the database has none.
    fn push<'b>(out: &mut AstPass<'_, 'b, Self>, array: &'b Array) -> QueryResult<()>;
}

#[cfg(any(feature = "postgres", feature = "async-postgres"))]
impl BindsArrays for diesel::pg::Pg {
    fn push<'b>(out: &mut AstPass<'_, 'b, Self>, array: &'b Array) -> QueryResult<()> {
        use diesel::sql_types::{self, BigInt, Nullable, Text};
        match array {
            Array::Numbers(numbers) => out.push_bind_param::<sql_types::Array<BigInt>, _>(numbers),
            Array::Texts(texts) => out.push_bind_param::<sql_types::Array<Nullable<Text>>, _>(texts),
            Array::Hidden(texts) => out.push_bind_param::<sql_types::Array<Text>, _>(texts),
        }
    }
}

/// For a database whose statements bind no arrays.
#[cfg(any(feature = "sqlite", feature = "async-sqlite", feature = "mysql", feature = "async-mysql"))]
macro_rules! no_arrays {
    ($backend:ty) => {
        impl BindsArrays for $backend {
            fn push<'b>(_: &mut AstPass<'_, 'b, Self>, _: &'b Array) -> QueryResult<()> {
                Err(diesel::result::Error::QueryBuilderError("only PostgreSQL binds arrays".into()))
            }
        }
    };
}

#[cfg(any(feature = "sqlite", feature = "async-sqlite"))]
no_arrays!(diesel::sqlite::Sqlite);
#[cfg(any(feature = "mysql", feature = "async-mysql"))]
no_arrays!(diesel::mysql::Mysql);
