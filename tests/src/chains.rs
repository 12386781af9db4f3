//! Rows of ordering keys as an application sees them: in which order their transactions committed, what ran, and a checker that
//! compares the two.

use std::collections::BTreeMap;

use diesel::connection::{Connection, SimpleConnection};
use diesel::result::QueryResult;
use parking_lot::Mutex;

use crate::backend::Backend;
use crate::database::Database;

/// What a body says of its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It begins.
    Begin,
    /// It fails and wants to be tried again.
    Fail,
    /// It is through: it succeeds, or fails for good.
    End,
}

impl Said {
    const ALL: [(Said, &'static str); 3] = [(Said::Begin, "begin"), (Said::Fail, "fail"), (Said::End, "end")];

    fn word(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Creates the tables: each chain with the number of its commits, the order of the commits, and what bodies say.
pub fn create_tables(database: &Database, chains: &[String]) {
    let counted = match database.backend() {
        Backend::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Backend::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        Backend::Mysql => "BIGINT AUTO_INCREMENT PRIMARY KEY",
    };
    database.execute("CREATE TABLE chains (chain VARCHAR(50) NOT NULL PRIMARY KEY, commits BIGINT NOT NULL)");
    database
        .execute("CREATE TABLE committed (chain VARCHAR(50) NOT NULL, place BIGINT NOT NULL, number BIGINT NOT NULL)");
    database.execute(&format!(
        "CREATE TABLE said (place {counted}, chain VARCHAR(50) NOT NULL, number BIGINT NOT NULL, word VARCHAR(5) NOT NULL)"
    ));
    for chain in chains {
        database.execute(&format!("INSERT INTO chains (chain, commits) VALUES ('{chain}', 0)"));
    }
}

/// The statements of a transaction that has enqueued row `number`: they note its place among the commits of its chain. The
/// row lock of the first one is held until COMMIT, so the places are those of the commits whatever the outbox does.
pub fn note_commit(chain: &str, number: i64) -> [String; 2] {
    [
        format!("UPDATE chains SET commits = commits + 1 WHERE chain = '{chain}'"),
        format!(
            "INSERT INTO committed (chain, place, number) SELECT chain, commits, {number} FROM chains WHERE chain = '{chain}'"
        ),
    ]
}

/// Where bodies of a process speak, each time committed by itself; injected into the tasks of `ordered_worker`.
pub struct Journal {
    open: Box<dyn Fn() -> Box<dyn SimpleConnection + Send> + Send + Sync>,
    idle: Mutex<Vec<Box<dyn SimpleConnection + Send>>>,
}

impl Journal {
    /// Speaks on connections of its own to the database at `address`, each told `set_up` first.
    pub fn new<C: Connection + Send + 'static>(address: &str, set_up: &'static str) -> Self {
        let address = address.to_owned();
        let open = move || -> Box<dyn SimpleConnection + Send> {
            let mut conn = C::establish(&address).expect("a connection");
            conn.batch_execute(set_up).expect("a set up connection");
            Box::new(conn)
        };
        Self { open: Box::new(open), idle: Mutex::default() }
    }

    /// Writes down what the body of row `number` says.
    ///
    /// # Errors
    /// The database's.
    pub fn say(&self, chain: &str, number: i64, said: Said) -> QueryResult<()> {
        let idle = self.idle.lock().pop();
        let mut conn = idle.unwrap_or_else(|| (self.open)());
        let word = said.word();
        conn.batch_execute(&format!("INSERT INTO said (chain, number, word) VALUES ('{chain}', {number}, '{word}')"))?;
        self.idle.lock().push(conn);
        Ok(())
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

/// The rows of a chain in the order of their commits, and what their bodies said.
type Chain = (Vec<i64>, Vec<(i64, Said)>);

/// Compares what ran with the order of the commits, chain by chain.
///
/// # Errors
/// What is wrong in the first chain where something is.
pub fn check(database: &Database) -> Result<(), String> {
    let committed = database.texts("SELECT CONCAT(chain, ' ', number) AS value FROM committed ORDER BY chain, place");
    let said = database.texts("SELECT CONCAT(chain, ' ', number, ' ', word) AS value FROM said ORDER BY chain, place");
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    for line in committed {
        let (chain, number) = line.split_once(' ').ok_or("a line without a number")?;
        chains.entry(chain.to_owned()).or_default().0.push(number.parse().map_err(|_| "no number")?);
    }
    for line in said {
        let mut words = line.split(' ');
        let mut next = || words.next().ok_or_else(|| format!("`{line}` is too short"));
        let (chain, number, word) = (next()?, next()?, next()?);
        let said = Said::ALL.into_iter().find(|(_, known)| *known == word).ok_or("an unknown word")?.0;
        chains.entry(chain.to_owned()).or_default().1.push((number.parse().map_err(|_| "no number")?, said));
    }
    for (chain, (committed, said)) in chains {
        check_chain(&committed, &said).map_err(|wrong| format!("chain {chain}: {wrong}; it said {said:?}"))?;
    }
    Ok(())
}

/// Compares one chain: its rows in the order of their commits, and what their bodies said in the order they said it.
///
/// A row begins only after the one before it is through, and no row begins again once the next one has begun. A row may begin
/// again after it failed, and also after it was through: its process may have died before the outcome was written.
///
/// # Errors
/// What is wrong.
pub fn check_chain(committed: &[i64], said: &[(i64, Said)]) -> Result<(), String> {
    let mut current: Option<usize> = None;
    let mut through = true;
    for (position, (number, word)) in said.iter().enumerate() {
        let at = format!("at {position}, row {number} says {word:?}");
        let is_current = current.is_some_and(|place| committed[place] == *number);
        match word {
            Said::Begin if is_current => through = false,
            Said::Begin => {
                let next = current.map_or(0, |place| place + 1);
                if !through {
                    return Err(format!("{at} before the one before it is through"));
                }
                if committed.get(next) != Some(number) {
                    return Err(format!("{at}, but the turn is that of {:?}", committed.get(next)));
                }
                (current, through) = (Some(next), false);
            }
            _ if !is_current || through => return Err(format!("{at} out of turn")),
            Said::Fail => {}
            Said::End => through = true,
        }
    }
    let last = current.map_or(0, |place| place + 1);
    if last != committed.len() || !through {
        return Err(format!("{last} of {} rows ran, the last one through: {through}", committed.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Said::{Begin, End, Fail};
    use super::*;

    #[test]
    fn retries_and_repetitions_in_place_are_in_order() {
        let said =
            [(7, Begin), (7, Fail), (7, Begin), (7, Begin), (7, End), (7, Begin), (7, End), (3, Begin), (3, End)];
        assert_eq!(check_chain(&[7, 3], &said), Ok(()));
        assert_eq!(check_chain(&[], &[]), Ok(()));
    }

    #[test]
    fn every_breach_is_seen() {
        for (what, said) in [
            ("swapped", vec![(3, Begin), (3, End), (7, Begin), (7, End)]),
            ("overlapping", vec![(7, Begin), (3, Begin), (7, End), (3, End)]),
            ("after a failure", vec![(7, Begin), (7, Fail), (3, Begin), (3, End), (7, Begin), (7, End)]),
            ("again later", vec![(7, Begin), (7, End), (3, Begin), (3, End), (7, Begin), (7, End)]),
            ("an end too late", vec![(7, Begin), (7, End), (3, Begin), (7, End), (3, End)]),
            ("lost", vec![(7, Begin), (7, End)]),
            ("unfinished", vec![(7, Begin), (7, End), (3, Begin)]),
            ("never committed", vec![(7, Begin), (7, End), (3, Begin), (3, End), (9, Begin), (9, End)]),
        ] {
            assert!(check_chain(&[7, 3], &said).is_err(), "{what} is not seen");
        }
    }
}
