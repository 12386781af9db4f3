//! Places on a task's path where a test may let something go wrong. Without the feature `fault-points` nothing of it is
//! compiled in: every place is then a constant `Ok`.

use crate::error::StoreError;

/// A place on a task's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// In the caller's transaction, before the first row of ours is written.
    BeforeInsert,
    /// In the caller's transaction, when every row of ours is written: the last moment before COMMIT.
    AfterInsert,
    /// After COMMIT of the caller's transaction, before anything is handed over. An error here means that the answer was lost.
    AfterCommit,
    /// Before a claim is sent.
    BeforeClaim,
    /// After a claim is committed, before this process notes its rows. An error here means that the answer was lost.
    AfterClaim,
    /// Before a body.
    BeforeRun,
    /// After a body, before its outcome is noted.
    AfterRun,
    /// In the transaction of a `#[tx]` task, after its body, before the row is completed.
    BeforeComplete,
    /// In the transaction of a `#[tx]` task, when the row is completed: the last moment before COMMIT.
    AfterComplete,
    /// After COMMIT of the transaction of a `#[tx]` task. An error here means that the answer was lost.
    AfterCompleteCommit,
    /// Before outcomes are written.
    BeforeSettle,
    /// After outcomes are committed. An error here means that the answer was lost.
    AfterSettle,
    /// Before leases are renewed.
    BeforeHeartbeat,
    /// After leases are renewed. An error here means that the answer was lost.
    AfterHeartbeat,
    /// Before rows whose lease has ended are taken back.
    BeforeRescue,
    /// After rows are taken back. An error here means that the answer was lost.
    AfterRescue,
}

impl Point {
    /// Every point.
    pub const ALL: [Point; 16] = [
        Point::BeforeInsert,
        Point::AfterInsert,
        Point::AfterCommit,
        Point::BeforeClaim,
        Point::AfterClaim,
        Point::BeforeRun,
        Point::AfterRun,
        Point::BeforeComplete,
        Point::AfterComplete,
        Point::AfterCompleteCommit,
        Point::BeforeSettle,
        Point::AfterSettle,
        Point::BeforeHeartbeat,
        Point::AfterHeartbeat,
        Point::BeforeRescue,
        Point::AfterRescue,
    ];
}

/// Says that `point` is reached; a test may answer with an error, or never.
///
/// # Errors
/// The test's.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn reached(_point: Point) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(feature = "fault-points")]
pub use armed::{arm, reached};

#[cfg(feature = "fault-points")]
mod armed {
    use std::sync::OnceLock;

    use super::{Point, StoreError};

    type Hook = Box<dyn Fn(Point) -> Result<(), StoreError> + Send + Sync>;

    static HOOK: OnceLock<Hook> = OnceLock::new();

    /// Has `hook` called at every point of this process from now on, on the thread that reaches it. It may end the process,
    /// stop it, wait, cut connections, or answer with an error, which is then that of the step beside the point.
    ///
    /// # Panics
    /// When the process is armed already.
    pub fn arm(hook: impl Fn(Point) -> Result<(), StoreError> + Send + Sync + 'static) {
        assert!(HOOK.set(Box::new(hook)).is_ok(), "the process is armed already");
    }

    /// Says that `point` is reached.
    ///
    /// # Errors
    /// The hook's.
    pub fn reached(point: Point) -> Result<(), StoreError> {
        HOOK.get().map_or(Ok(()), |hook| hook(point))
    }
}

/// Does `step` between two points.
///
/// # Errors
/// The step's, or those of the points.
pub fn around<T>(before: Point, step: impl FnOnce() -> Result<T, StoreError>, after: Point) -> Result<T, StoreError> {
    reached(before)?;
    let value = step()?;
    reached(after)?;
    Ok(value)
}
