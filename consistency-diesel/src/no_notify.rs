//! Builds without `async-postgres` cannot notify: nothing here can be made.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::dispatch::Announce;
use consistency_core::runtime::Runtime;

/// Never made: the builder has no way to ask for it.
pub(crate) enum Notifications {}

impl Notifications {
    pub(crate) fn start(_: &str, _: Duration) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn announce(&self) -> Announce {
        match *self {}
    }

    pub(crate) fn wake(&self, _: &Arc<Runtime>) {
        match *self {}
    }
}
