//! Connections of Diesel's clients as the runtime's own: those to a server are connected and called on a thread of their own,
//! so that one which is never answered can be given up. SQLite is called where one is: it has no network to wait for, and
//! limits its waits for locks itself.

use std::sync::Arc;

use diesel::ConnectionResult;
use diesel::r2d2::R2D2Connection;
use diesel::result::{ConnectionError, Error, QueryResult};

use crate::blocking_connection::BlockingConnection;
use crate::carrier::Carrier;
use crate::dialect::Kind;
use crate::stand_in::{GivenUp, Missed, StandIn};
use crate::waiting::Waiting;
use crate::world::now;

/// A blocking connection, and the thread it is called on.
pub(crate) struct Apart<C> {
    /// Not here when a call took it along and was given up.
    conn: Option<C>,
    /// None for SQLite.
    stand_in: Option<StandIn>,
    given_up: Arc<GivenUp>,
}

impl<C: BlockingConnection> Carrier for Apart<C> {
    type Connection = C;

    fn connect(url: &str, waiting: Waiting, given_up: &Arc<GivenUp>) -> ConnectionResult<Self> {
        if C::DIALECT.kind == Kind::Sqlite {
            return Ok(Self { conn: Some(C::establish(url)?), stand_in: None, given_up: Arc::clone(given_up) });
        }
        given_up.may_open().map_err(ConnectionError::BadConnection)?;
        let no_thread = |error| ConnectionError::BadConnection(format!("no thread: {error}"));
        let mut stand_in = StandIn::start(given_up).map_err(no_thread)?;
        let url = match C::DIALECT.kind {
            Kind::Postgres => with_limits(url, waiting.left().as_secs()),
            Kind::Mysql | Kind::Sqlite => url.to_owned(),
        };
        match stand_in.call(waiting.left(), move || C::establish(&url)) {
            Ok(conn) => Ok(Self { conn: Some(conn?), stand_in: Some(stand_in), given_up: Arc::clone(given_up) }),
            Err(missed) => Err(ConnectionError::BadConnection(missed_error(missed, waiting, given_up).to_string())),
        }
    }

    fn run<T: Send + 'static>(
        &mut self,
        waiting: Waiting,
        work: impl AsyncFnOnce(&mut C) -> QueryResult<T> + Send + 'static,
    ) -> QueryResult<T> {
        let Some(mut conn) = self.conn.take() else { return Err(Error::BrokenTransactionManager) };
        let Some(stand_in) = &mut self.stand_in else {
            let worked = now(work(&mut conn));
            self.conn = Some(conn);
            return worked;
        };
        let called = stand_in.call(waiting.left_for_work(), move || {
            let worked = now(work(&mut conn));
            (conn, worked)
        });
        match called {
            Ok((conn, worked)) => {
                self.conn = Some(conn);
                worked
            }
            Err(missed) => Err(missed_error(missed, waiting, &self.given_up)),
        }
    }

    fn connection(&mut self) -> Option<&mut C> {
        self.conn.as_mut()
    }

    fn is_broken(&mut self) -> bool {
        self.conn.as_mut().is_none_or(R2D2Connection::is_broken)
    }
}

/// What a missed call means.
pub(crate) fn missed_error(missed: Missed, waiting: Waiting, given_up: &GivenUp) -> Error {
    match missed {
        Missed::TimeOver => waiting.in_vain(&format!(" ({} such calls have not returned)", given_up.count())),
        Missed::Broken => Error::QueryBuilderError("the database's client panicked".into()),
    }
}

/// The address with libpq's own limits, so that most of what is given up ends by itself: it stops connecting after `secs`, and
/// a server that is gone is noticed by keepalives. What the address says itself counts.
fn with_limits(url: &str, secs: u64) -> String {
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return url.to_owned();
    }
    let mut url = url.to_owned();
    // Below 2 s libpq does not go.
    let limits = [
        ("connect_timeout", secs.max(2)),
        ("keepalives_idle", secs.max(5)),
        ("keepalives_interval", secs.max(5)),
        ("keepalives_count", 3),
    ];
    for (name, value) in limits {
        let options = url.split_once('?').map_or("", |(_, options)| options);
        if !options.split('&').any(|option| option.split('=').next() == Some(name)) {
            let separator = if url.contains('?') { '&' } else { '?' };
            url.push_str(&format!("{separator}{name}={value}"));
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::with_limits;

    #[test]
    fn limits_are_added_where_the_address_says_nothing_of_them() {
        assert_eq!(
            with_limits("postgres://a@b/c?connect_timeout=30&sslmode=require", 10),
            "postgres://a@b/c?connect_timeout=30&sslmode=require&keepalives_idle=10&keepalives_interval=10&keepalives_count=3"
        );
        assert!(
            with_limits("postgresql://a@b/c", 1).starts_with("postgresql://a@b/c?connect_timeout=2&keepalives_idle=5")
        );
        assert_eq!(with_limits("host=b dbname=c", 10), "host=b dbname=c");
    }
}
