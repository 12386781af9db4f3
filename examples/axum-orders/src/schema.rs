//! The service's own tables. The outbox brings its own.

use diesel::result::QueryResult;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

diesel::table! {
    stock (sku) {
        sku -> Text,
        on_hand -> Integer,
    }
}

diesel::table! {
    orders (id) {
        id -> BigInt,
        idempotency_key -> Text,
        sku -> Text,
        quantity -> Integer,
        state -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(orders, stock);

/// Creates the tables that are missing. Of several processes that start at once one does, and the others wait for it.
///
/// # Errors
/// The database's.
pub(crate) async fn create_tables(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    conn.transaction(async |conn| {
        conn.batch_execute("SELECT pg_advisory_xact_lock(hashtextextended('axum-orders', 0))").await?;
        conn.batch_execute(include_str!("schema.sql")).await
    })
    .await
}
