//! The tasks of a steady load, and who gets which.

use std::time::Duration;

use consistency_diesel::prelude::*;
use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;

use crate::book;

/// How late a delayed task is due.
pub(crate) const DELAY: Duration = Duration::from_millis(300);
/// How many ordering keys there are.
const KEYS: usize = 50;

#[consistency_task(name = "measure.plain")]
async fn plain(number: usize) {
    book::starts(number);
    book::ends(number);
}

#[consistency_task(name = "measure.blocking")]
fn blocking(number: usize) {
    book::starts(number);
    book::ends(number);
}

#[consistency_task(name = "measure.retried", retry_every = "100ms")]
async fn retried(number: usize, #[context] cx: &TaskContext) -> Result<(), String> {
    book::starts(number);
    if cx.attempt() == 1 {
        return Err("the first attempt fails".to_owned());
    }
    book::ends(number);
    Ok(())
}

/// A kind of task in the mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs at once, as a future or in a thread.
    Plain,
    /// Writes in its own transaction.
    Transactional,
    /// Fails once.
    Retried,
    /// In the order of one of some keys.
    Ordered,
    /// Due later.
    Delayed,
}

impl Kind {
    /// The kind of the task of this number: of ten, six are plain and one of each other.
    pub(crate) fn of(number: usize) -> Self {
        match number % 10 {
            6 => Kind::Transactional,
            7 => Kind::Retried,
            8 => Kind::Ordered,
            9 => Kind::Delayed,
            _ => Kind::Plain,
        }
    }

    /// How late it is due.
    pub(crate) fn delay(self) -> Duration {
        if self == Kind::Delayed { DELAY } else { Duration::ZERO }
    }
}

/// The call of the task of this number.
pub(crate) fn call<C: Booking>(number: usize) -> Call {
    match Kind::of(number) {
        Kind::Plain if number % 10 < 3 => plain(number),
        Kind::Plain => blocking(number),
        Kind::Transactional => C::book(number),
        Kind::Retried => retried(number),
        Kind::Ordered => plain(number).ordered_by(format!("key {}", number % KEYS)),
        Kind::Delayed => plain(number).delay(DELAY),
    }
}

/// A connection with a `#[tx]` task of its own.
pub(crate) trait Booking {
    /// The call of the task that books an effect.
    fn book(number: usize) -> Call;

    /// The number that `SELECT {expression} AS value` answers.
    fn number(&mut self, expression: &str) -> diesel::QueryResult<i64>;
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    value: i64,
}

fn write(tx: &mut impl SimpleConnection, number: usize) -> diesel::QueryResult<()> {
    book::starts(number);
    tx.batch_execute(&format!("INSERT INTO measure_effect (number) VALUES ({number})"))
}

macro_rules! booking {
    ($module:ident, $feature:literal, $connection:ty, $name:literal) => {
        #[cfg(feature = $feature)]
        mod $module {
            use super::*;

            #[consistency_task(name = $name)]
            fn booked(number: usize, #[tx] tx: &mut TaskTx<$connection>) -> diesel::QueryResult<()> {
                write(tx, number)?;
                book::ends(number);
                Ok(())
            }

            impl Booking for $connection {
                fn book(number: usize) -> Call {
                    booked(number)
                }

                fn number(&mut self, expression: &str) -> diesel::QueryResult<i64> {
                    let row = diesel::sql_query(format!("SELECT {expression}")).get_result::<Number>(self)?;
                    Ok(row.value)
                }
            }
        }
    };
}

booking!(sqlite, "sqlite", diesel::SqliteConnection, "measure.booked");
booking!(postgres, "postgres", diesel::PgConnection, "measure.booked");
booking!(mysql, "mysql", diesel::MysqlConnection, "measure.booked");
