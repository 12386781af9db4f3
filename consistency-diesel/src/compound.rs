//! Several statements as one, which MariaDB takes (`BEGIN NOT ATOMIC`, prepared since 10.6) and MySQL does not: whether the
//! servers met so far do.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel::result::Error;

/// Set by the first refusal, for the whole process: with a MySQL beside a MariaDB both are spoken to as MySQL is.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether it may be tried.
pub(crate) fn is_worth_a_try() -> bool {
    !REFUSED.load(Ordering::Relaxed)
}

/// Whether this is the answer of a server that has no compound statements, or prepares none; nothing of it was run then. It is
/// not tried again.
pub(crate) fn was_refused(error: &Error) -> bool {
    let Error::DatabaseError(_, information) = error else { return false };
    let message = information.message();
    // MySQL's parser quotes what it does not know. Older MariaDBs parse it, and refuse to prepare it.
    let refused = message.contains("NOT ATOMIC") || message.contains("prepared statement protocol");
    if refused {
        REFUSED.store(true, Ordering::Relaxed);
    }
    refused
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind::Unknown;

    use super::*;

    fn error(message: &str) -> Error {
        Error::DatabaseError(Unknown, Box::new(message.to_owned()))
    }

    #[test]
    fn only_a_refusal_of_the_form_is_one() {
        assert!(!was_refused(&error("SAVEPOINT consistency_proof_0 does not exist")));
        assert!(!was_refused(&error(
            "Transaction characteristics can't be changed while a transaction is in progress"
        )));
        assert!(!was_refused(&Error::NotFound));
        assert!(is_worth_a_try());
        assert!(was_refused(&error(
            "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the right \
             syntax to use near 'NOT ATOMIC RELEASE SAVEPOINT consistency_proof_0; INSERT INTO' at line 1"
        )));
        assert!(!is_worth_a_try());
        assert!(was_refused(&error("This command is not supported in the prepared statement protocol yet")));
    }
}
