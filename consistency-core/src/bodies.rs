//! Where bodies run: `async` ones on the caller's Tokio runtime or one of our own, blocking ones on threads of our own.

use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

/// How long a stop waits for the threads of bodies that have ended.
const THREADS_END_WITHIN: Duration = Duration::from_millis(500);

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

    /// Ends our own runtime and waits a moment for its threads, but not for bodies that never end.
    ///
    /// A process that exits right after the stop must not still have threads about to end: client libraries clean up at
    /// the end of each thread and at the end of the process (OpenSSL under libpq does), and crash when both happen at once.
    pub(crate) fn close_and_wait(&self) {
        let own = Arc::new(Mutex::new(self.own.lock().take()));
        let wait = {
            let own = Arc::clone(&own);
            move || {
                if let Some(own) = own.lock().take() {
                    own.shutdown_timeout(THREADS_END_WITHIN);
                }
            }
        };
        // On a thread outside any Tokio runtime, where waiting for one is always allowed.
        match std::thread::Builder::new().name("consistency-close".into()).spawn(wait).map(JoinHandle::join) {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => tracing::error!("the end of the bodies' threads could not be waited for"),
        }
        // Left over only where there was no thread to wait in; dropped as it is, it would wait for bodies that never end.
        if let Some(own) = own.lock().take() {
            own.shutdown_background();
        }
    }

    /// Lets go of our own runtime without waiting.
    fn close(&self) {
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
