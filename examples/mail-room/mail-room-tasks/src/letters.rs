//! The table of letters, as ordinary Diesel code that knows nothing of tasks.

use consistency_diesel::blocking_connection::BlockingConnection;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

diesel::table! {
    letter (id) {
        id -> Text,
        recipient -> Text,
    }
}

/// A letter that was handed in.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = letter)]
pub struct Letter {
    /// A UUID: producers need not agree on numbers.
    pub id: String,
    /// Who gets it.
    pub recipient: String,
}

/// What the mail room does with letters on a connection, whatever the database.
pub trait Letters: BlockingConnection {
    /// Creates the table where it is missing, and readies the connection. A real application would use migrations.
    ///
    /// # Errors
    /// The database's.
    fn set_up_letters(&mut self) -> QueryResult<()>;

    /// Stores a letter.
    ///
    /// # Errors
    /// The database's.
    fn insert_letter(&mut self, letter: &Letter) -> QueryResult<()>;
}

// One text, stamped out per connection: Diesel code that is generic over the database needs bounds nobody can read.
macro_rules! letters_on {
    ($Connection:ident, first: $first:literal) => {
        impl Letters for diesel::$Connection {
            fn set_up_letters(&mut self) -> QueryResult<()> {
                self.batch_execute(concat!(
                    $first,
                    "CREATE TABLE IF NOT EXISTS letter (id VARCHAR(36) PRIMARY KEY NOT NULL, recipient VARCHAR(80) NOT NULL)"
                ))
            }

            fn insert_letter(&mut self, letter: &Letter) -> QueryResult<()> {
                diesel::insert_into(letter::table).values(letter).execute(self).map(drop)
            }
        }
    };
}

// Patience while the worker writes.
#[cfg(feature = "sqlite")]
letters_on!(SqliteConnection, first: "PRAGMA busy_timeout = 10000;");

#[cfg(feature = "postgres")]
letters_on!(PgConnection, first: "");

#[cfg(feature = "mysql")]
letters_on!(MysqlConnection, first: "");
