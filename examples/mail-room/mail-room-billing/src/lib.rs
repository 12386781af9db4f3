//! Postage, and the task that charges it: a second library with tasks, which the worker never calls and must name all the same.

use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::prelude::*;
use diesel::prelude::*;

diesel::table! {
    /// What was charged.
    postage (letter_id) {
        /// For which letter.
        letter_id -> Text,
        /// How much.
        pence -> Integer,
    }
}

/// What the mail room does with postage on a connection, whatever the database.
pub trait Billing: BlockingConnection {
    /// Creates the table where it is missing. A real application would use migrations.
    ///
    /// # Errors
    /// The database's.
    fn set_up_billing(&mut self) -> QueryResult<()> {
        // Without a key on the letter on purpose: nothing but the outbox keeps a letter from being charged twice.
        self.batch_execute(
            "CREATE TABLE IF NOT EXISTS postage (letter_id VARCHAR(36) NOT NULL, pence INTEGER NOT NULL)",
        )
    }

    /// The call that charges for a letter; enqueue it with the letter.
    fn charge(letter_id: &str, pence: i32) -> Call;
}

// A `#[tx]` task names its connection type: so a library for three databases has three `charge`, one text stamped out three
// times. They share the name; an outbox takes the one for its own connection.
macro_rules! billing_on {
    ($database:ident, $Connection:ident) => {
        mod $database {
            use diesel::$Connection;

            use super::*;

            /// Charges for a letter. The charge and the task's completion commit together: exactly once.
            #[consistency_task(name = "letter.charge", retry_every = "1s")]
            fn charge(letter_id: &str, pence: i32, #[tx] tx: &mut TaskTx<$Connection>) -> QueryResult<()> {
                diesel::insert_into(postage::table)
                    .values((postage::letter_id.eq(letter_id), postage::pence.eq(pence)))
                    .execute(tx)
                    .map(drop)
            }

            impl Billing for $Connection {
                fn charge(letter_id: &str, pence: i32) -> Call {
                    charge(letter_id, pence)
                }
            }
        }
    };
}

#[cfg(feature = "sqlite")]
billing_on!(sqlite, SqliteConnection);

#[cfg(feature = "postgres")]
billing_on!(postgres, PgConnection);

#[cfg(feature = "mysql")]
billing_on!(mysql, MysqlConnection);
