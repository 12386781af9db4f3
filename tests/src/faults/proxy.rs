//! A network that can fail: a small TCP proxy between an outbox and its server, on a port of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::recorder::wait_until;

/// What the proxy does with what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes it on.
    Forward,
    /// Accepts, reads, and passes nothing on, neither way. A connection that has lost something never comes back to life:
    /// it stays silent for ever, as one whose packets a network swallows.
    Stall,
    /// Closes new connections at once; those that are open go on.
    Refuse,
}

/// A proxy under way. Everything is closed when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    target: String,
    mode: Mutex<State>,
    changed: Condvar,
    stalled: AtomicUsize,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    open: Vec<TcpStream>,
    ended: bool,
}

impl Proxy {
    /// A proxy to `target` (`host:port`) that forwards.
    ///
    /// # Panics
    /// When there is no port to listen on.
    pub fn to(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = State { mode: Mode::Forward, open: Vec::new(), ended: false };
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            mode: Mutex::new(state),
            changed: Condvar::new(),
            stalled: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accepting.accept(&listener));
        Proxy { shared, address }
    }

    /// A proxy to the server of `url`, and the URL that leads through it.
    ///
    /// # Panics
    /// When the URL names no host and port.
    pub fn before(url: &str) -> (Proxy, String) {
        let (head, rest) = url.split_once("://").expect("a URL");
        let (host, path) = rest.split_once('/').expect("a database");
        let (user, target) = host.rsplit_once('@').map_or((None, host), |(user, target)| (Some(user), target));
        let proxy = Proxy::to(target);
        let user = user.map_or(String::new(), |user| format!("{user}@"));
        // mysql_async would find the server's own socket on this machine, and go past the proxy.
        let past = if head == "mysql" { "?prefer_socket=false" } else { "" };
        let through = format!("{head}://{user}{}/{path}{past}", proxy.address);
        (proxy, through)
    }

    /// What happens to everything from now on.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.lock().mode = mode;
        self.shared.changed.notify_all();
    }

    /// Stalls, and waits until somebody has sent something in vain.
    ///
    /// # Panics
    /// After the deadline of the tests.
    #[track_caller]
    pub fn stall_somebody(&self) {
        let before = self.stalled();
        self.set(Mode::Stall);
        wait_until("somebody to send something in vain", || self.stalled() > before);
    }

    /// How many times something was swallowed.
    pub fn stalled(&self) -> usize {
        self.shared.stalled.load(Ordering::SeqCst)
    }

    /// Closes every connection, both ways.
    pub fn cut(&self) {
        self.shared.cut(&mut self.shared.mode.lock());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.mode.lock();
        state.ended = true;
        self.shared.cut(&mut state);
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).ok();
    }
}

impl Shared {
    fn cut(&self, state: &mut State) {
        for stream in state.open.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let Ok(client) = client else { continue };
            let mode = {
                let state = self.mode.lock();
                if state.ended {
                    return;
                }
                state.mode
            };
            if mode == Mode::Refuse {
                continue;
            }
            let Ok(server) = TcpStream::connect(&self.target) else { continue };
            client.set_nodelay(true).ok();
            server.set_nodelay(true).ok();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                let shared = Arc::clone(&self);
                std::thread::spawn(move || shared.pass_on(from, to));
            }
            self.mode.lock().open.extend([client, server]);
        }
    }

    /// Passes bytes on until one end closes. What is read while the network stalls is lost, and with it the connection: it
    /// stays open and silent.
    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 16 << 10];
        let mut silent = false;
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            silent |= self.mode.lock().mode == Mode::Stall;
            if silent {
                self.stalled.fetch_add(1, Ordering::SeqCst);
            } else if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        // While it stalls not even the end is passed on.
        let mut state = self.mode.lock();
        while state.mode == Mode::Stall && !state.ended {
            self.changed.wait(&mut state);
        }
        drop(state);
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    }
}
