//! Processes on one PostgreSQL wake one another with NOTIFY instead of waiting for the next look at the table.
//!
//! A NOTIFY holds a lock of the whole database until its transaction ends, so it never goes with the caller's: a thread of the
//! outbox sends it afterwards on a connection of its own, one for all commits of the last moment. It is a hint and may be
//! lost; the poll finds what it should have told of.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use consistency_core::dispatch::Announce;
use consistency_core::pause::Pause;
use consistency_core::runtime::Runtime;
use diesel::result::{ConnectionError, Error, QueryResult};
use diesel_async::AsyncPgConnection;
use futures_util::StreamExt;
use futures_util::future::select;
use tokio::sync::Notify;

use crate::async_connection::AsyncTaskConnection;
use crate::connection::RunStatement;
use crate::statement::Statement;
use crate::waiting::Waiting;

/// The channel. Every database has its own of this name.
const CHANNEL: &str = "consistency_task";
const LISTEN: &str = "LISTEN consistency_task";
/// Least time between two notifications of one process: what is committed meanwhile goes with the next.
const QUIET: Duration = Duration::from_millis(5);
/// How long the end waits for the last notification.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The pauses between tries to connect.
fn trouble() -> Pause {
    Pause::new(Duration::from_millis(50), Duration::from_secs(5))
}

/// The thread that tells other processes and listens to them. It ends with this value.
pub(crate) struct Notifications {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    url: String,
    /// Longest wait for an answer, and longest silence of the one connection that only listens before it is asked whether it
    /// lives.
    limit: Duration,
    /// Who sends; a process need not hear itself.
    sender: String,
    committed: Notify,
    /// Whether something was committed that nobody has been told of.
    untold: AtomicBool,
    stop: Notify,
    /// Whom to wake. Never set in a process that only stores.
    listener: OnceLock<Weak<Runtime>>,
    listening: Notify,
}

impl Notifications {
    /// Starts the thread. It connects when there is something to tell or to hear.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(url: &str, limit: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            url: url.to_owned(),
            limit,
            sender: uuid::Uuid::now_v7().to_string(),
            committed: Notify::new(),
            untold: AtomicBool::new(false),
            stop: Notify::new(),
            listener: OnceLock::new(),
            listening: Notify::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let on_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("consistency-notify".to_owned()).spawn(move || {
            runtime.block_on(async {
                {
                    let work = std::pin::pin!(futures_util::future::join(on_thread.tell(), on_thread.listen()));
                    select(work, std::pin::pin!(on_thread.stop.notified())).await;
                }
                // A process that stores and ends at once.
                if on_thread.untold.load(Ordering::SeqCst) {
                    tokio::time::timeout(LAST_WORD, on_thread.tell_once(&mut None)).await.ok();
                }
            });
            // Without waiting for a name that is still being looked up.
            runtime.shutdown_background();
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What a commit calls.
    pub(crate) fn announce(&self) -> Announce {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || {
            shared.untold.store(true, Ordering::SeqCst);
            shared.committed.notify_one();
        })
    }

    /// Has `runtime` woken by what other processes commit.
    pub(crate) fn wake(&self, runtime: &Arc<Runtime>) {
        self.shared.listener.set(Arc::downgrade(runtime)).ok();
        self.shared.listening.notify_one();
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        // It stops at its next wait, of which every step is one, and takes `LAST_WORD` at most.
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    /// Tells others of commits, as they come.
    async fn tell(&self) {
        let mut connection = None;
        let mut trouble = trouble();
        loop {
            self.committed.notified().await;
            match self.tell_once(&mut connection).await {
                Ok(()) => {
                    trouble = self::trouble();
                    tokio::time::sleep(QUIET).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "other processes could not be notified; they find the rows at their next look");
                    connection = None;
                    tokio::time::sleep(trouble.next_length()).await;
                }
            }
        }
    }

    async fn tell_once(&self, connection: &mut Option<AsyncPgConnection>) -> QueryResult<()> {
        let conn = match connection {
            Some(conn) => conn,
            None => connection.insert(self.dial().await?),
        };
        let values = [("channel", CHANNEL.into()), ("sender", self.sender.as_str().into())];
        self.untold.store(false, Ordering::SeqCst);
        let notify = Statement::new("SELECT pg_notify({channel}, {sender})", values);
        let told = self.in_time("a notification", conn.run(notify)).await.map(drop);
        told.inspect_err(|_| self.untold.store(true, Ordering::SeqCst))
    }

    /// Wakes the runtime when others tell of commits. Connects anew for as long as it takes.
    async fn listen(&self) {
        self.listening.notified().await;
        let mut pause = trouble();
        loop {
            match self.listen_once().await {
                Ok(()) => pause = trouble(),
                Err(error) => {
                    tracing::warn!(%error, "notifications of other processes are not heard; their rows are found at the next look");
                }
            }
            tokio::time::sleep(pause.next_length()).await;
        }
    }

    /// Listens until the connection ends.
    async fn listen_once(&self) -> QueryResult<()> {
        let mut conn = self.dial().await?;
        self.in_time("LISTEN", conn.run_batch(LISTEN)).await?;
        // What was committed while nobody listened was told to nobody.
        self.look();
        loop {
            let heard = {
                let mut notifications = std::pin::pin!(conn.notifications_stream());
                tokio::time::timeout(self.limit, notifications.next()).await
            };
            match heard {
                Ok(Some(Ok(notification))) if notification.payload == self.sender => {}
                Ok(Some(Ok(_))) => {
                    self.look();
                    // Many processes may tell; what comes meanwhile is read at once afterwards.
                    tokio::time::sleep(QUIET).await;
                }
                Ok(Some(Err(_)) | None) => return Ok(()),
                // Nothing to hear, or nobody there any more: a connection that falls silent says neither.
                Err(_) => self.in_time("a ping of the listening connection", conn.run_batch("SELECT 1")).await?,
            }
        }
    }

    /// Waits for an answer only so long.
    async fn in_time<T>(&self, what: &'static str, asked: impl Future<Output = QueryResult<T>>) -> QueryResult<T> {
        let waiting = Waiting::begin(what, self.limit);
        tokio::time::timeout(self.limit, asked).await.unwrap_or_else(|_| Err(waiting.in_vain("")))
    }

    fn look(&self) {
        if let Some(runtime) = self.listener.get().and_then(Weak::upgrade) {
            runtime.look();
        }
    }

    async fn dial(&self) -> QueryResult<AsyncPgConnection> {
        let dialled = async { AsyncPgConnection::dial(&self.url).await.map_err(broken) };
        self.in_time("a new connection", dialled).await
    }
}

fn broken(error: ConnectionError) -> Error {
    Error::QueryBuilderError(error.into())
}
