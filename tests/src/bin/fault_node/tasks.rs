//! The tasks of the program `fault_node`: one for each mode, in both worlds. Each writes its begin and its end into the
//! ledger of effects; those with `#[tx]` book through their transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use consistency_diesel::consistency_task;
use consistency_diesel::prelude::{Call, TaskContext, TaskError, TaskTx};
use consistency_tests::effects::{Effects, OpenRun};
use consistency_tests::faults::orders::insert_booking;
use consistency_tests::faults::plan::Place;
use consistency_tests::faults::setup::Mode;
use consistency_tests::faults::strike::Striker;

/// How often a body that takes long notes that its lease is renewed.
const STEP: Duration = Duration::from_millis(100);

/// What bodies need; injected.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) effects: Effects,
    pub(crate) striker: Arc<Striker>,
    pub(crate) stay: Duration,
    pub(crate) fail_first: bool,
}

impl Ground {
    fn begin(&self, cx: &TaskContext) -> Result<OpenRun<'_>, TaskError> {
        self.effects.begin(cx).map_err(TaskError::new)
    }

    /// What happens in the middle.
    fn middle(&self, cx: &TaskContext) -> Result<(), TaskError> {
        self.striker.reach(Place::MidRun).map_err(TaskError::message)?;
        if self.fail_first && cx.attempt() == 1 { Err(TaskError::message("the first attempt fails")) } else { Ok(()) }
    }

    fn end(&self, run: OpenRun<'_>) -> Result<(), TaskError> {
        run.succeeded().map_err(TaskError::new)
    }

    fn stay(&self, run: &OpenRun<'_>) -> Result<(), TaskError> {
        let until = Instant::now() + self.stay;
        while Instant::now() < until {
            std::thread::sleep(STEP);
            run.still_runs().map_err(TaskError::new)?;
        }
        Ok(())
    }

    fn run(&self, cx: &TaskContext) -> Result<(), TaskError> {
        let run = self.begin(cx)?;
        self.middle(cx)?;
        self.stay(&run)?;
        self.end(run)
    }

    #[cfg(feature = "async")]
    async fn stay_async(&self, run: &OpenRun<'_>) -> Result<(), TaskError> {
        let until = Instant::now() + self.stay;
        while Instant::now() < until {
            tokio::time::sleep(STEP).await;
            run.still_runs().map_err(TaskError::new)?;
        }
        Ok(())
    }

    #[cfg(feature = "async")]
    async fn run_async(&self, cx: &TaskContext) -> Result<(), TaskError> {
        let run = self.begin(cx)?;
        self.middle(cx)?;
        self.stay_async(&run).await?;
        self.end(run)
    }
}

/// The names of the tasks of the sync world.
pub(crate) const SYNC_NAMES: [&str; 6] =
    ["fault.worker", "fault.caller", "fault.scheduled", "fault.limited", "fault.tx", "fault.tx_caller"];

/// The names of the tasks of the async world.
pub(crate) const ASYNC_NAMES: [&str; 6] = [
    "fault.async_worker",
    "fault.async_caller",
    "fault.async_scheduled",
    "fault.async_limited",
    "fault.async_tx",
    "fault.async_tx_caller",
];

#[consistency_task(name = "fault.worker", retry_every = "50ms")]
fn worker(number: i64, #[inject] ground: &Ground, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    let _ = number;
    ground.run(cx)
}

#[consistency_task(name = "fault.caller", run_on = caller, retry_every = "50ms")]
fn caller(number: i64, #[inject] ground: &Ground, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    let _ = number;
    ground.run(cx)
}

#[consistency_task(name = "fault.scheduled", mode = scheduled, delay = "1ms", retry_every = "50ms")]
fn scheduled(number: i64, #[inject] ground: &Ground, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    let _ = number;
    ground.run(cx)
}

#[consistency_task(name = "fault.limited", max_attempts = 2, retry_every = "50ms")]
fn limited(number: i64, #[inject] ground: &Ground, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    let _ = number;
    ground.run(cx)
}

#[cfg(feature = "async")]
#[consistency_task(name = "fault.async_worker", retry_every = "50ms")]
async fn async_worker(number: i64, #[inject] ground: &Ground, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    let _ = number;
    ground.run_async(cx).await
}

#[cfg(feature = "async")]
#[consistency_task(name = "fault.async_caller", run_on = caller, retry_every = "50ms")]
async fn async_caller(number: i64, #[inject] ground: &Ground, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    let _ = number;
    ground.run_async(cx).await
}

#[cfg(feature = "async")]
#[consistency_task(name = "fault.async_scheduled", mode = scheduled, delay = "1ms", retry_every = "50ms")]
async fn async_scheduled(number: i64, #[inject] ground: &Ground, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    let _ = number;
    ground.run_async(cx).await
}

#[cfg(feature = "async")]
#[consistency_task(name = "fault.async_limited", max_attempts = 2, retry_every = "50ms")]
async fn async_limited(number: i64, #[inject] ground: &Ground, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    let _ = number;
    ground.run_async(cx).await
}

/// The tasks with `#[tx]` on Diesel's own connection of one database.
macro_rules! booking {
    ($module:ident, $feature:literal, $connection:ty) => {
        #[cfg(feature = $feature)]
        pub(crate) mod $module {
            use diesel::connection::SimpleConnection;

            use super::*;

            type Conn = $connection;

            fn book(tx: &mut TaskTx<Conn>, ground: &Ground, cx: &TaskContext) -> Result<(), TaskError> {
                let run = ground.begin(cx)?;
                tx.batch_execute(&insert_booking(cx.id())).map_err(TaskError::new)?;
                ground.middle(cx)?;
                ground.stay(&run)?;
                ground.end(run)
            }

            #[consistency_task(name = "fault.tx", retry_every = "50ms")]
            fn tx(
                number: i64,
                #[tx] tx: &mut TaskTx<Conn>,
                #[inject] ground: &Ground,
                #[context] cx: &TaskContext,
            ) -> Result<(), TaskError> {
                let _ = number;
                book(tx, ground, cx)
            }

            #[consistency_task(name = "fault.tx_caller", run_on = caller, retry_every = "50ms")]
            fn tx_caller(
                number: i64,
                #[tx] tx: &mut TaskTx<Conn>,
                #[inject] ground: &Ground,
                #[context] cx: &TaskContext,
            ) -> Result<(), TaskError> {
                let _ = number;
                book(tx, ground, cx)
            }

            /// A call of the task of `mode`.
            pub(crate) fn call(mode: Mode, number: i64) -> Call {
                match mode {
                    Mode::Worker => worker(number),
                    Mode::Caller => caller(number),
                    Mode::Scheduled => scheduled(number),
                    Mode::Limited => limited(number),
                    Mode::Tx => tx(number),
                    Mode::TxCaller => tx_caller(number),
                }
            }
        }
    };
}

booking!(sqlite, "sqlite", diesel::SqliteConnection);
booking!(postgres, "postgres", diesel::PgConnection);
booking!(mysql, "mysql", diesel::MysqlConnection);

/// The same on a connection of diesel-async.
macro_rules! async_booking {
    ($module:ident, $feature:literal, $connection:ty) => {
        #[cfg(feature = $feature)]
        pub(crate) mod $module {
            use diesel_async::SimpleAsyncConnection;

            use super::*;

            type Conn = $connection;

            async fn book(tx: &mut TaskTx<'_, Conn>, ground: &Ground, cx: &TaskContext) -> Result<(), TaskError> {
                let run = ground.begin(cx)?;
                tx.batch_execute(&insert_booking(cx.id())).await.map_err(TaskError::new)?;
                ground.middle(cx)?;
                ground.stay_async(&run).await?;
                ground.end(run)
            }

            #[consistency_task(name = "fault.async_tx", retry_every = "50ms")]
            async fn async_tx(
                number: i64,
                #[tx] tx: &mut TaskTx<'_, Conn>,
                #[inject] ground: &Ground,
                #[context] cx: &TaskContext,
            ) -> Result<(), TaskError> {
                let _ = number;
                book(tx, ground, cx).await
            }

            #[consistency_task(name = "fault.async_tx_caller", run_on = caller, retry_every = "50ms")]
            async fn async_tx_caller(
                number: i64,
                #[tx] tx: &mut TaskTx<'_, Conn>,
                #[inject] ground: &Ground,
                #[context] cx: &TaskContext,
            ) -> Result<(), TaskError> {
                let _ = number;
                book(tx, ground, cx).await
            }

            /// A call of the task of `mode`.
            pub(crate) fn call(mode: Mode, number: i64) -> Call {
                match mode {
                    Mode::Worker => async_worker(number),
                    Mode::Caller => async_caller(number),
                    Mode::Scheduled => async_scheduled(number),
                    Mode::Limited => async_limited(number),
                    Mode::Tx => async_tx(number),
                    Mode::TxCaller => async_tx_caller(number),
                }
            }
        }
    };
}

async_booking!(
    async_sqlite,
    "async-sqlite",
    diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>
);
async_booking!(async_postgres, "async-postgres", diesel_async::AsyncPgConnection);
async_booking!(async_mysql, "async-mysql", diesel_async::AsyncMysqlConnection);
