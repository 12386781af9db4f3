//! The workspace as Cargo sees it: its folder, its packages, and how Cargo is called.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The crates that are published, in the order of their dependencies.
pub(crate) const PUBLISHED: [&str; 3] = ["consistency-core", "consistency-macros", "consistency-diesel"];

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The Cargo that runs us, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// What `cargo metadata` says with these further arguments.
///
/// # Errors
/// Cargo's own message, for example that `Cargo.lock` is out of date.
pub(crate) fn metadata(arguments: &[&str]) -> Result<Value, Box<dyn Error>> {
    let output = cargo().args(["metadata", "--format-version", "1"]).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("`cargo metadata` failed:\n{}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The elements of a JSON array; none for anything else.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A JSON text; empty for anything else.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The date, as documents have it.
pub(crate) fn today() -> Result<String, Box<dyn Error>> {
    Ok(String::from_utf8(Command::new("date").args(["-u", "+%Y-%m-%d"]).output()?.stdout)?.trim().to_owned())
}
