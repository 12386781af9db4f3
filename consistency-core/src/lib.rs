//! The database-free heart of `consistency`: calls, states, retries, and the runtime that drives them. Users depend on
//! `consistency-diesel`, which re-exports what they need.

pub mod arguments;
mod bodies;
pub mod call;
mod call_is_no_future;
pub mod caught;
mod clock;
mod concluding;
pub mod context;
pub mod dispatch;
mod dispatcher;
mod doubt;
pub mod enqueue;
pub mod error;
pub mod error_text;
pub mod event;
pub mod executor;
#[doc(hidden)]
pub mod fault;
mod hand_over;
pub mod health;
mod heartbeat;
pub mod inject;
pub mod lane;
pub mod ledger;
pub mod new_task;
pub mod outcome;
pub mod pause;
mod polling;
pub mod registry;
pub mod rescue;
pub mod retry;
pub mod runtime;
pub mod sensitive;
pub mod settings;
mod settlement;
mod settler;
mod signal;
mod starting;
pub mod state;
pub mod storage_probe;
pub mod store;
pub mod task;
pub mod transaction_probe;
mod undecided;
pub mod when_dead;
mod writer;

/// What generated code reaches; not covered by semantic versioning.
#[doc(hidden)]
pub mod __private {
    pub use crate::__register as register;
    pub use crate::arguments::{ArgumentDecoder, ArgumentEncoder, Storable};
    pub use crate::call::Call;
    pub use crate::error::TaskError;
    pub use crate::outcome::{Boxed, LocalBoxed, Plain, Returned, Shown, TaskReturn, Unfit};
    #[cfg(feature = "linkme")]
    pub use crate::registry::CONSISTENCY_REGISTRATIONS;
    pub use crate::registry::Registration;
    pub use crate::retry::{Backoff, BackoffShape};
    pub use crate::storage_probe::{DecodeStorable, DecodeUnstorable, EncodeStorable, EncodeUnstorable, Given, Wanted};
    pub use crate::task::{
        Asynchronous, Attempt, Blocking, Body, BoxFuture, ExecuteMode, NeededType, RunOn, Task, TaskDefinition,
        TaskOptions, TransactionParameter, TxFuture, TxParts,
    };
    pub use crate::transaction_probe::{BindOther, BindTransaction, WantedTransaction};
    pub use crate::when_dead::WhenDead;
    #[cfg(not(feature = "linkme"))]
    pub use inventory;
    #[cfg(feature = "linkme")]
    pub use linkme;

    /// Asks the compiler for its message when `T` cannot be stored.
    pub fn storable<T: Storable>() {}
}
