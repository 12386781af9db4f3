//! Finds out at start whether PostgreSQL is reached through a pooler that gives its clients another session for each
//! transaction, and refuses it: the runtime's statements are prepared once for a session and used in later transactions.
//!
//! Such a pooler says nothing of itself, but it can be seen: two connections that are open at once then share a session, or
//! one connection has several. With a session each, neither can happen. See
//! `docs/decisions/0022-poolers-that-share-sessions-are-refused.md`.

use consistency_core::error::Problem;
use diesel::result::QueryResult;

use crate::connection::TaskConnection;
use crate::error::is_prepared_elsewhere;
use crate::operations::{close_transaction, open_transaction};
use crate::rows::StoredText;
use crate::statement::Statement;

/// Which session of which server answers.
const SESSION: &str =
    "SELECT pg_backend_pid()::text || ' of ' || EXTRACT(EPOCH FROM pg_postmaster_start_time())::text AS session";

/// Whom to ask, in turn. It shows a shared session whether the pooler gives the one used last or the one unused longest:
/// asked one after the other and again, two connections could meet the same two sessions each time.
const TURNS: [usize; 6] = [0, 1, 1, 0, 1, 0];

/// Refuses two connections that were given no sessions of their own; `ask` asks one of them, 0 or 1, for its [`session`].
/// `address` is what to call the place in the message.
///
/// # Errors
/// A [`Problem`] that names the pooler's fault and the mend, or the database's error.
pub(crate) fn refuse_shared_sessions(
    address: &str,
    mut ask: impl FnMut(usize) -> QueryResult<Vec<String>>,
) -> Result<(), Problem> {
    let mut asked = Vec::new();
    for turn in TURNS {
        match ask(turn).map_err(|error| error.to_string()) {
            Ok(answer) => asked.push((turn, answer)),
            Err(error) if is_prepared_elsewhere(&error) => return Err(refused(address)),
            Err(error) => return Err(Problem::Database(error)),
        }
    }
    if are_shared(&asked) { Err(refused(address)) } else { Ok(()) }
}

/// Which session answers a connection. Asked in a transaction, so that what was prepared is run by the session that prepared it.
pub(crate) async fn session<C: TaskConnection>(conn: &mut C) -> QueryResult<Vec<String>> {
    open_transaction(conn).await?;
    let answer = conn.load_texts(Statement::new(SESSION, []).uncached()).await;
    let answer = answer.map(|texts| texts.into_iter().map(StoredText::or_unreadable).collect());
    close_transaction(conn, answer).await
}

/// Whether two of those asked had one session, or one of them had two.
fn are_shared(asked: &[(usize, Vec<String>)]) -> bool {
    asked.iter().any(|(who, session)| asked.iter().any(|(other, theirs)| (who == other) != (session == theirs)))
}

/// The refusal of such a pooler at `address`.
pub(crate) fn refused(address: &str) -> Problem {
    Problem::Database(format!(
        "{address} leads through a pooler that shares the server's sessions among its clients, such as PgBouncer with \
         `pool_mode = transaction`; the outbox needs sessions of its own: give it the address of PostgreSQL itself, or of a \
         pool with `pool_mode = session`. Your own connections may stay where they are; the guide's page on pools says what \
         they need"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a pooler answers that takes the sessions of `idle` from the end and puts them back at the end, or at the front.
    fn asked(idle: &[u32], back_to_the_front: bool) -> Vec<(usize, Vec<String>)> {
        let mut idle = idle.to_vec();
        let answer = |turn| {
            let session = idle.pop().unwrap();
            if back_to_the_front {
                idle.insert(0, session)
            } else {
                idle.push(session)
            }
            (turn, vec![session.to_string()])
        };
        TURNS.into_iter().map(answer).collect()
    }

    #[test]
    fn shared_sessions_are_seen_however_many_there_are_and_in_whatever_order_they_are_given() {
        for sessions in 1..20 {
            let idle: Vec<u32> = (0..sessions).collect();
            assert!(are_shared(&asked(&idle, true)), "{sessions}, the longest unused first");
            assert!(are_shared(&asked(&idle, false)), "{sessions}, the last used first");
        }
    }

    #[test]
    fn sessions_of_ones_own_are_not_taken_for_shared_ones() {
        let own = |turn: usize| (turn, vec![turn.to_string()]);
        assert!(!are_shared(&TURNS.map(own)));
    }
}
