//! COMMIT under way: a future given up then, or a connection that is lost then, leaves all of the transaction or nothing; what
//! is committed runs, and what nobody knows is called unknown. The test stands between client and server and holds COMMIT.

#![cfg(feature = "async")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use consistency_diesel::async_prelude::*;
use consistency_diesel::error::TransactionError;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::{DEADLINE, Latch, wait_until};
use consistency_tests::stage::{Probe, Stage, business};
use diesel::ExpressionMethods;
use diesel::result::{Error, QueryResult};
use diesel_async::{AsyncConnection, RunQueryDsl};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// What becomes of the COMMIT that is held.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It reaches the server.
    Delivered,
    /// The connection is lost before it does.
    Lost,
    /// It reaches the server; the connection is lost before the answer arrives.
    Unanswered,
}

/// A wire to the database's server that holds every COMMIT.
struct Wire {
    /// Where to connect to.
    address: String,
    /// Raised by every COMMIT.
    held: Latch,
    decide: mpsc::Sender<Fate>,
}

impl Wire {
    /// For one connection.
    fn to(database: &Database) -> Wire {
        let (scheme, rest) = database.address().split_once("://").unwrap();
        let (authority, name) = rest.split_once('/').unwrap();
        let (user, server) = authority.rsplit_once('@').unwrap_or(("", authority));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        // mysql_async would go around us, through the server's own socket.
        let options = if database.backend() == Backend::Mysql { "?prefer_socket=false" } else { "" };
        let address = format!("{scheme}://{user}@{here}/{name}{options}");
        let server = server.to_owned();
        let (held, (decide, decided)) = (Latch::new(), mpsc::channel());
        let seen = held.clone();
        thread::spawn(move || {
            let client = listener.accept().unwrap().0;
            let server = TcpStream::connect(server).unwrap();
            let mute = Latch::new();
            let (answers, asker, muted) = (server.try_clone().unwrap(), client.try_clone().unwrap(), mute.clone());
            thread::spawn(move || copy(answers, asker, |_| muted.count() == 0));
            copy(client, server, |sent| {
                if !sent.windows(6).any(|part| part == b"COMMIT") {
                    return true;
                }
                seen.raise();
                let fate = decided.recv_timeout(DEADLINE).unwrap_or(Fate::Lost);
                if fate == Fate::Unanswered {
                    mute.raise();
                }
                fate != Fate::Lost
            });
        });
        Wire { address, held, decide }
    }

    fn decide(&self, fate: Fate) {
        self.decide.send(fate).unwrap();
    }
}

/// Passes on what comes, as long as `goes_on`; then nothing goes either way.
fn copy(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer)
        && goes_on(&buffer[..length])
        && to.write_all(&buffer[..length]).is_ok()
    {}
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// An outbox that soon takes back what a commit nobody waited for has leased.
fn stage(database: &Database) -> Stage<'_> {
    Stage::with(database, |builder| builder.lease(Duration::from_secs(1)).heartbeat(Duration::from_millis(300)))
}

for_each_async_database! {
    items {
        /// Begins to commit a business row and two tasks; comes back when the COMMIT is held.
        fn commit(stage: &Stage<'_>, wire: &Wire, conn: &Arc<Mutex<Conn>>) -> JoinHandle<QueryResult<()>> {
            let (outbox, conn) = (stage.outbox.clone(), Arc::clone(conn));
            let transaction = tokio::spawn(async move {
                let mut conn = conn.lock().await;
                outbox.transaction(&mut *conn, async |tx| {
                    diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("order"))).execute(tx).await?;
                    tx.enqueue(note("plain".to_owned())).await?;
                    tx.enqueue(note("keyed".to_owned()).key("key")).await.map(drop)
                }).await
            });
            wire.held.wait_for(1);
            assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
            transaction
        }

        /// Nobody takes the connection for more.
        async fn assert_refused(stage: &Stage<'_>, conn: &mut Conn) {
            let ours: QueryResult<()> = stage.outbox.transaction(conn, async |_| Ok(())).await;
            let found = ours.as_ref().map_err(TransactionError::of);
            assert!(matches!(found, Err(Some(TransactionError::BrokenConnection))), "{ours:?}");
            let own = conn.transaction(async |_| QueryResult::Ok(())).await;
            assert!(matches!(own, Err(Error::BrokenTransactionManager)), "{own:?}");
        }

        /// The row and the tasks are there and the tasks run, or there is nothing, and the key is free.
        async fn assert_end(stage: &Stage<'_>, fate: Fate) {
            if fate == Fate::Lost {
                // It waits for the server to give up the session that held the key.
                assert_eq!(stage.run_async::<Conn>(note("witness".to_owned()).key("key")).await, "key");
                assert_eq!((stage.probe.seen(), stage.names(), stage.tasks()), (vec!["witness".to_owned()], vec![], 1));
            } else {
                wait_until("the commit", || stage.tasks() == 2);
                stage.probe.wait_for(2);
                let tasks = vec!["keyed".to_owned(), "plain".to_owned()];
                assert_eq!((stage.probe.seen_sorted(), stage.names()), (tasks, vec!["order".to_owned()]));
            }
        }
    }

    /// SQLite has no wire.
    async fn a_commit_given_up_happens_as_a_whole_or_not_and_its_tasks_run_then(database: &Database) {
        for (fate, closes) in [(Fate::Delivered, false), (Fate::Delivered, true), (Fate::Unanswered, false), (Fate::Lost, false)] {
            if BACKEND == Backend::Sqlite {
                return;
            }
            let (stage, wire) = (stage(database), Wire::to(database));
            let conn = Arc::new(Mutex::new(Conn::establish(&wire.address).await.unwrap()));
            let transaction = commit(&stage, &wire, &conn);
            transaction.abort();
            assert!(transaction.await.unwrap_err().is_cancelled());
            assert_refused(&stage, &mut *conn.lock().await).await;
            let kept = if closes { None } else { Some(conn) };
            wire.decide(fate);
            assert_end(&stage, fate).await;
            drop((stage, kept));
            database.execute("DROP TABLE business");
            database.execute("DELETE FROM consistency_task");
        }
    }

    async fn a_connection_lost_during_commit_leaves_an_unknown_outcome_that_is_called_so(database: &Database) {
        for fate in [Fate::Lost, Fate::Unanswered] {
            if BACKEND == Backend::Sqlite {
                return;
            }
            let (stage, wire) = (stage(database), Wire::to(database));
            let conn = Arc::new(Mutex::new(Conn::establish(&wire.address).await.unwrap()));
            let transaction = commit(&stage, &wire, &conn);
            wire.decide(fate);
            let ended = transaction.await.unwrap();
            let found = ended.as_ref().map_err(TransactionError::of);
            assert!(matches!(found, Err(Some(TransactionError::CommitUnknown(_)))), "{ended:?}");
            assert_end(&stage, fate).await;
            drop(stage);
            database.execute("DROP TABLE business");
            database.execute("DELETE FROM consistency_task");
        }
    }

    /// PostgreSQL alone checks anything as late as that.
    async fn a_commit_the_database_refuses_is_an_error_and_leaves_nothing(database: &Database) {
        if BACKEND != Backend::Postgres {
            return;
        }
        let stage = stage(database);
        database.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not this one''; END'");
        database.execute(
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON business DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION refuse()",
        );
        let mut conn = database.async_connection::<Conn>().await;
        for enqueues in [true, false] {
            let ended: QueryResult<()> = stage.outbox.transaction(&mut conn, async |tx| {
                diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("order"))).execute(tx).await?;
                if enqueues {
                    tx.enqueue(note("plain".to_owned())).await?;
                }
                Ok(())
            }).await;
            assert!(ended.unwrap_err().to_string().contains("not this one"));
            assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        }
        let witness: QueryResult<Receipt> =
            stage.outbox.transaction(&mut conn, async |tx| tx.enqueue(note("witness".to_owned())).await).await;
        witness.unwrap();
        stage.probe.wait_for(1);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["witness".to_owned()], 1));
    }
}
