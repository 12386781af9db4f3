//! Whether a C client library can be linked: asked of its own tools first, then looked for where linkers look.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A C library, and the tools that know where it lies.
pub(crate) struct Library {
    /// File names without the ending, any of which will do.
    pub(crate) names: &'static [&'static str],
    /// Commands that print its folder.
    pub(crate) tools: &'static [&'static [&'static str]],
}

/// What a linker takes; a bare `libpq.so.5` is for running only.
const ENDINGS: [&str; 4] = ["so", "a", "dylib", "tbd"];
const FOLDERS: [&str; 6] =
    ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib", "/opt/homebrew/opt/libpq/lib", "/opt/local/lib"];

impl Library {
    /// The file that would be linked.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let told = self.tools.iter().filter_map(|tool| answer(tool));
        told.chain(folders()).find_map(|folder| self.within(&folder))
    }

    fn within(&self, folder: &Path) -> Option<PathBuf> {
        let files = self.names.iter().flat_map(|name| ENDINGS.map(|ending| folder.join(format!("{name}.{ending}"))));
        files.into_iter().find(|file| file.exists())
    }
}

fn answer(tool: &[&str]) -> Option<PathBuf> {
    let (program, arguments) = tool.split_first()?;
    let output = Command::new(program).args(arguments).output().ok()?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !folder.is_empty()).then(|| PathBuf::from(folder))
}

/// The usual folders, and the ones below them that Debian keeps per architecture.
fn folders() -> impl Iterator<Item = PathBuf> {
    FOLDERS.iter().flat_map(|folder| {
        let below = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        std::iter::once(PathBuf::from(folder)).chain(below.filter(|path| path.is_dir()))
    })
}
