//! Where the servers' programs are on this machine, who may run them, and where their folders and ports can be.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Free space that makes the memory's file system the place of the folders: nothing waits for a disk there.
const ENOUGH_MEMORY_KIB: u64 = 2 << 20;

/// Whether the tests run as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// A folder of its own, in memory where there is plenty.
pub(crate) fn folder() -> Result<TempDir, String> {
    let memory = Path::new("/dev/shm");
    let free = Command::new("df").args(["--output=avail", "-k"]).arg(memory).output();
    let free = free.ok().and_then(|df| String::from_utf8_lossy(&df.stdout).lines().nth(1)?.trim().parse::<u64>().ok());
    let made = if free.is_some_and(|free| free > ENOUGH_MEMORY_KIB) { TempDir::new_in(memory) } else { TempDir::new() };
    made.map_err(|error| error.to_string())
}

/// A port nobody listens on, below those the system hands out by itself, so that it is still free after a restart.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::random_range(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// User and group of an account of this machine.
pub(crate) fn account(name: &str) -> Option<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> =
        accounts.lines().map(|line| line.split(':').collect()).find(|fields: &Vec<&str>| fields[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// A program on the usual paths.
pub(crate) fn program(name: &str) -> Result<PathBuf, String> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    found.ok_or_else(|| format!("the program `{name}` is not installed"))
}

/// A program of the newest PostgreSQL, where Debian puts it.
pub(crate) fn postgres_program(name: &str) -> Result<PathBuf, String> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest =
        versions.map(|entry| entry.path()).filter(|path| path.join("bin").join(name).exists()).max_by_key(version);
    newest.map(|path| path.join("bin").join(name)).ok_or_else(|| format!("PostgreSQL's `{name}` is not installed"))
}
