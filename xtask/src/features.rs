//! `cargo xtask features`: the library with each feature alone and with the sensible pairs, and no C client behind those that
//! promise none.

use crate::Outcome;
use crate::workspace::cargo;

/// What is compiled and linted: every feature alone (with its database, where it has none), and the pairs that meet in one
/// application.
const SETS: [&str; 21] = [
    "sqlite",
    "postgres",
    "mysql",
    "async-sqlite",
    "async-postgres",
    "async-mysql",
    "async-postgres-rustls",
    "async-mysql-rustls",
    "sqlite,linkme",
    // The pools, each alone with one server and all of them with the others.
    "async-postgres,deadpool",
    "async-postgres,bb8",
    "async-postgres,mobc",
    "async-mysql,deadpool,bb8,mobc",
    "async-sqlite,deadpool,bb8,mobc",
    // Both worlds of one database.
    "postgres,async-postgres",
    "mysql,async-mysql",
    // A server, and SQLite for tests or for the edge.
    "sqlite,postgres",
    "sqlite,mysql",
    "sqlite,async-postgres",
    "postgres,mysql",
    "async-postgres,async-mysql",
];

/// Features that promise to need no C library, and what may therefore not stand behind them.
const WITHOUT_C: [&str; 3] =
    ["async-postgres,deadpool,bb8,mobc", "async-mysql,deadpool,bb8,mobc", "async-postgres-rustls,async-mysql-rustls"];
const C_LIBRARIES: [&str; 9] = [
    "pq-sys",
    "pq-src",
    "mysqlclient-sys",
    "mysqlclient-src",
    "libsqlite3-sys",
    "openssl-sys",
    "native-tls",
    "aws-lc-sys",
    "cmake",
];

/// Compiles and lints every set, and looks through the dependencies of those without C.
pub(crate) fn run() -> Outcome {
    let mut failed = Vec::new();
    for set in SETS {
        println!("== {set}");
        let linted = cargo()
            .args(["clippy", "--locked", "--quiet", "-p", "consistency-diesel", "--no-default-features"])
            .args(["--features", set, "--", "-D", "warnings"])
            .status()?;
        if !linted.success() {
            failed.push(format!("`{set}` does not compile without a warning"));
        }
    }
    for set in WITHOUT_C {
        let found = c_libraries(set)?;
        println!("== {set}: {} C libraries", found.len());
        failed.extend(found.iter().map(|name| format!("`{set}` brings the C library `{name}`")));
    }
    failed.iter().for_each(|reason| println!("{reason}"));
    Ok(failed.is_empty())
}

/// The C libraries among everything that is built with these features.
fn c_libraries(set: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let tree = cargo()
        .args(["tree", "--locked", "-p", "consistency-diesel", "--no-default-features", "--features", set])
        .args(["--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .output()?;
    if !tree.status.success() {
        return Err(String::from_utf8_lossy(&tree.stderr).into_owned().into());
    }
    let mut found: Vec<String> = String::from_utf8_lossy(&tree.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| C_LIBRARIES.contains(name))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}
