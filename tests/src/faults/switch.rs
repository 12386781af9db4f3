//! A TCP switch before several servers: each new connection goes to the first of them that lives.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// A switch on a port of its own. It goes on until the process ends.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    port: u16,
}

impl Switch {
    /// Before servers on these ports of 127.0.0.1, the preferred one first.
    ///
    /// # Panics
    /// When the system gives no port.
    pub fn before(servers: Vec<u16>) -> Switch {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = servers.iter().find_map(|&port| TcpStream::connect(("127.0.0.1", port)).ok());
                // Otherwise the client is hung up on.
                if let Some(server) = server {
                    connect(client, server).expect("two more handles");
                }
            }
        });
        Switch { port }
    }

    /// Where clients connect to.
    pub fn port(self) -> u16 {
        self.port
    }
}

fn connect(client: TcpStream, server: TcpStream) -> io::Result<()> {
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    let (asker, answers) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || pass_on(client, server));
    thread::spawn(move || pass_on(answers, asker));
    Ok(())
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    // However it ends, both are told.
    let _ = io::copy(&mut from, &mut to);
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}
