//! A fresh PostgreSQL database per test, removed afterwards, and plain questions to it: through diesel-async, without libpq.

use diesel::QueryableByName;
use diesel::pg::Pg;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::until;

/// A database of one test's own, empty at first, dropped with this value.
pub(crate) struct Database {
    admin_url: String,
    name: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl Database {
    /// A fresh database on the server of `CONSISTENCY_TEST_POSTGRES_URL`. Without a server it says so and gives none, unless
    /// `CONSISTENCY_TEST_REQUIRE` (a comma list, or `all`) names `postgres`.
    pub(crate) async fn fresh(test: &str) -> Option<Self> {
        let url = std::env::var("CONSISTENCY_TEST_POSTGRES_URL");
        let admin_url = url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
        let name = format!("axum_orders_test_{}_{:08x}", std::process::id(), rand::random::<u32>());
        if let Err(reason) = AsyncPgConnection::establish(&admin_url).await {
            let required = std::env::var("CONSISTENCY_TEST_REQUIRE").unwrap_or_default();
            let is_required = required.split(',').map(str::trim).any(|name| name == "all" || name == "postgres");
            assert!(!is_required, "{test}: no PostgreSQL: {reason}, and CONSISTENCY_TEST_REQUIRE asks for it");
            // Written to the descriptor itself, because the harness keeps the output of tests that pass.
            use std::io::Write;
            writeln!(std::io::stderr(), "SKIPPED: {test}: no PostgreSQL: {reason}").ok();
            return None;
        }
        let database = Self { admin_url, name };
        database.administer(&format!("CREATE DATABASE {}", database.name)).await;
        Some(database)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        let (address, options) = self.admin_url.split_once('?').unwrap_or((&self.admin_url, ""));
        let host = address.find("://").map_or(0, |scheme| scheme + 3);
        let end = address[host..].find('/').map_or(address.len(), |slash| host + slash);
        let mark = if options.is_empty() { "" } else { "?" };
        format!("{}/{}{mark}{options}", &address[..end], self.name)
    }

    /// Runs a statement beside the database.
    pub(crate) async fn administer(&self, sql: &str) {
        let mut admin = AsyncPgConnection::establish(&self.admin_url).await.unwrap();
        admin.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Runs statements in the database.
    pub(crate) async fn execute(&self, sql: &str) {
        self.connection().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The rows of a query.
    pub(crate) async fn rows<T: QueryableByName<Pg> + Send + 'static>(&self, sql: &str) -> Vec<T> {
        let rows = diesel::sql_query(sql).load(&mut self.connection().await).await;
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The number that `SELECT {expression}` answers.
    pub(crate) async fn number(&self, expression: &str) -> i64 {
        self.rows::<Number>(&format!("SELECT (SELECT {expression})::bigint AS value")).await[0].value
    }

    /// How many rows of `table` meet `condition`.
    pub(crate) async fn count(&self, table: &str, condition: &str) -> i64 {
        self.number(&format!("COUNT(*) FROM {table} WHERE {condition}")).await
    }

    /// Waits until `count` rows of `table` meet `condition`.
    pub(crate) async fn wait_for_count(&self, count: i64, table: &str, condition: &str) {
        until(
            &format!("{count} rows of {table} with {condition}"),
            || self.count(table, condition),
            |now| *now == count,
        )
        .await;
    }

    async fn connection(&self) -> AsyncPgConnection {
        AsyncPgConnection::establish(&self.url()).await.expect("a connection")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // WITH FORCE: connections of a test that failed may still be open.
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // On a thread of its own: the test's runtime cannot be blocked on from within.
        let drop_it = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(self.administer(&sql));
        };
        if std::thread::scope(|scope| scope.spawn(drop_it).join()).is_err() {
            eprintln!("the database {} is left behind", self.name);
        }
    }
}
