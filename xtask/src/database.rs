//! The databases the tests know, and whether this machine can test on them.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::library::Library;

/// A server that does not answer within this time counts as absent.
const PATIENCE: Duration = Duration::from_secs(3);

/// One database, with what its tests need.
pub(crate) struct Database {
    /// The Cargo feature of Diesel's own connection, and its name in `--require`.
    pub(crate) feature: &'static str,
    /// The Cargo feature of diesel-async's, which needs no client library.
    pub(crate) async_feature: &'static str,
    /// Its name for people.
    pub(crate) title: &'static str,
    needs: Needs,
}

enum Needs {
    Compiler,
    Server {
        library: Library,
        package: &'static str,
        variable: &'static str,
        default_url: &'static str,
        port: u16,
        start: &'static str,
    },
}

/// What was found on this machine.
pub(crate) struct Found {
    /// The client library.
    pub(crate) library: String,
    /// The server.
    pub(crate) server: String,
    /// The features it can be tested with.
    pub(crate) features: Vec<&'static str>,
    /// What is not tested for want of something, with the mend; empty when everything is.
    pub(crate) missing: Vec<String>,
}

/// Every database there is.
pub(crate) static ALL: [Database; 3] = [
    Database { feature: "sqlite", async_feature: "async-sqlite", title: "SQLite", needs: Needs::Compiler },
    Database {
        feature: "postgres",
        async_feature: "async-postgres",
        title: "PostgreSQL",
        needs: Needs::Server {
            library: Library {
                names: &["libpq"],
                tools: &[&["pg_config", "--libdir"], &["pkg-config", "--variable=libdir", "libpq"]],
            },
            package: "libpq-dev",
            variable: "CONSISTENCY_TEST_POSTGRES_URL",
            default_url: "postgres://postgres@127.0.0.1:5432/postgres",
            port: 5432,
            start: "`apt-get install postgresql`, then `pg_ctlcluster <version> main start`",
        },
    },
    Database {
        feature: "mysql",
        async_feature: "async-mysql",
        title: "MySQL or MariaDB",
        needs: Needs::Server {
            library: Library {
                names: &["libmariadb", "libmysqlclient"],
                tools: &[
                    &["mariadb_config", "--variable=pkglibdir"],
                    &["mysql_config", "--variable=pkglibdir"],
                    &["pkg-config", "--variable=libdir", "libmariadb"],
                    &["pkg-config", "--variable=libdir", "mysqlclient"],
                ],
            },
            package: "libmariadb-dev",
            variable: "CONSISTENCY_TEST_MYSQL_URL",
            default_url: "mysql://root@127.0.0.1:3306/mysql",
            port: 3306,
            start: "`apt-get install mariadb-server`, then `service mariadb start`",
        },
    },
];

impl Database {
    /// Those of a list such as `sqlite,mysql`.
    ///
    /// # Errors
    /// When one of the names is nobody's.
    pub(crate) fn named(list: &str) -> Result<Vec<&'static Database>, String> {
        let find = |name: &str| ALL.iter().find(|database| database.feature == name);
        let found: Option<Vec<_>> = list.split(',').map(find).collect();
        found.ok_or_else(|| format!("`{list}`: say some of sqlite, postgres, mysql"))
    }

    /// Looks at this machine.
    pub(crate) fn look(&self) -> Found {
        match &self.needs {
            Needs::Compiler => self.look_for_compiler(),
            Needs::Server { library, package, variable, port, start, .. } => {
                let (mut features, mut missing) = (vec![self.async_feature], Vec::new());
                let library = match library.find() {
                    Some(file) => {
                        features.push(self.feature);
                        file.display().to_string()
                    }
                    None => {
                        missing.push(format!(
                            "Diesel's own connection is not tested, for its client library is missing: `apt-get install {package}`, or your system's equivalent"
                        ));
                        "missing".to_owned()
                    }
                };
                let url = self.url().unwrap_or_default();
                let server = match address(&url, *port) {
                    Some(address) if answers(&address) => format!("{address} answers"),
                    Some(address) => {
                        features.clear();
                        missing.push(format!("no server answers at {address}: {start}, or set {variable}"));
                        format!("{address} does not answer")
                    }
                    None => {
                        features.clear();
                        missing.push(format!("{variable} names no host: write it like the default"));
                        "address not understood".to_owned()
                    }
                };
                Found { library, server, features, missing }
            }
        }
    }

    /// The variable the tests read the server's address from, with its value here; none without a server.
    pub(crate) fn variable(&self) -> Option<(&'static str, String)> {
        match &self.needs {
            Needs::Compiler => None,
            Needs::Server { variable, .. } => self.url().map(|url| (*variable, url)),
        }
    }

    fn look_for_compiler(&self) -> Found {
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let found =
            std::process::Command::new(&compiler).arg("--version").output().is_ok_and(|output| output.status.success());
        let missing = if found {
            Vec::new()
        } else {
            vec![format!(
                "the C compiler `{compiler}` that builds SQLite is missing: `apt-get install gcc`, or your system's equivalent"
            )]
        };
        let features = if found { vec![self.feature, self.async_feature] } else { Vec::new() };
        Found { library: "bundled".to_owned(), server: "none needed".to_owned(), features, missing }
    }

    fn url(&self) -> Option<String> {
        match &self.needs {
            Needs::Compiler => None,
            Needs::Server { variable, default_url, .. } => {
                Some(std::env::var(variable).unwrap_or_else(|_| (*default_url).to_owned()))
            }
        }
    }
}

/// `host:port` of a URL.
fn address(url: &str, default_port: u16) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() {
        return None;
    }
    let port_follows =
        host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    Some(if port_follows { host.to_owned() } else { format!("{host}:{default_port}") })
}

fn answers(address: &str) -> bool {
    let Ok(addresses) = address.to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_url() {
        let of = |url| address(url, 5432);
        assert_eq!(of("postgres://postgres@127.0.0.1:5433/postgres").as_deref(), Some("127.0.0.1:5433"));
        assert_eq!(of("postgres://me:p@ss@db/shop").as_deref(), Some("db:5432"));
        assert_eq!(of("postgres://[::1]:7/shop?a=b").as_deref(), Some("[::1]:7"));
        assert_eq!(of("postgres://[::1]/shop").as_deref(), Some("[::1]:5432"));
        assert_eq!(of("postgres:///shop"), None);
    }
}
