//! The programs some tests need beside the databases, and what is not tested without them.

use std::path::Path;

/// A program, the package that brings it, and the tests that need it.
struct Program {
    name: &'static str,
    package: &'static str,
    tests: &'static str,
}

const PROGRAMS: [Program; 4] = [
    Program { name: "faketime", package: "faketime", tests: "clocks that are wrong" },
    Program { name: "pgbouncer", package: "pgbouncer", tests: "PostgreSQL behind a pooler" },
    Program { name: "postgres", package: "postgresql", tests: "outages of PostgreSQL, on servers of the tests' own" },
    Program { name: "mariadbd", package: "mariadb-server", tests: "outages of MariaDB, on servers of the tests' own" },
];

/// What is not tested for want of a program, with the mend.
pub(crate) fn missing() -> Vec<String> {
    let missing = PROGRAMS.iter().filter(|program| !is_installed(program.name));
    missing.map(|Program { name, package, tests }| format!("{tests}: no `{name}` (package {package})")).collect()
}

/// Debian keeps PostgreSQL's programs in a folder per version, and some where only root has its path.
fn is_installed(name: &str) -> bool {
    let on_the_path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&on_the_path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    places.chain(versions.map(|version| version.path().join("bin"))).any(|place| Path::new(&place).join(name).exists())
}
