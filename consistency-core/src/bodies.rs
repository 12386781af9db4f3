//! Where bodies run: `async` ones on the caller's Tokio runtime or one of our own, blocking ones on threads of our own.

use std::future::Future;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

/// The executors of one runtime.
#[derive(Debug)]
pub(crate) struct Bodies {
    futures: Handle,
    threads: Handle,
    own: Mutex<Option<Runtime>>,
}

impl Bodies {
    /// Uses the Tokio runtime this is called in for `async` bodies, or starts one.
    ///
    /// Blocking bodies always get threads of our own, at most `threads`: an abandoned one must not hold up the end of the
    /// application's runtime, nor use up its threads.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let outer = Handle::try_current().ok();
        let mut builder = match outer {
            Some(_) => Builder::new_current_thread(),
            None => Builder::new_multi_thread(),
        };
        let own = builder.enable_all().thread_name("consistency-body").max_blocking_threads(threads.max(1)).build()?;
        let threads = own.handle().clone();
        Ok(Self { futures: outer.unwrap_or_else(|| threads.clone()), threads, own: Mutex::new(Some(own)) })
    }

    /// Runs a future to its end in the background.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.futures.spawn(future));
    }

    /// Runs a function on a thread of its own, inside the context of the Tokio runtime that `async` bodies use.
    pub(crate) fn spawn_blocking(&self, body: impl FnOnce() + Send + 'static) {
        let futures = self.futures.clone();
        drop(self.threads.spawn_blocking(move || {
            let _context = futures.enter();
            body();
        }));
    }

    /// Runs a future to its end on this thread, which must be outside any Tokio runtime.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.futures.block_on(future)
    }

    /// Lets go of our own runtime without waiting for bodies that never end.
    pub(crate) fn close(&self) {
        if let Some(own) = self.own.lock().take() {
            own.shutdown_background();
        }
    }
}

impl Drop for Bodies {
    fn drop(&mut self) {
        self.close();
    }
}
