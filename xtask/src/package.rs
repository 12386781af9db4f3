//! `cargo xtask package`: packs the published crates and compiles them from what was packed.

use crate::Outcome;
use crate::workspace::{PUBLISHED, cargo};

/// Packs all in one call: Cargo then resolves them among one another, although none of them is on the registry yet.
pub(crate) fn run() -> Outcome {
    let mut command = cargo();
    // The check is about content; whether it is committed is not its concern.
    command.args(["package", "--allow-dirty", "--locked"]);
    for name in PUBLISHED {
        command.args(["--package", name]);
    }
    let packed = command.status()?.success();
    if packed {
        println!("packed and compiled from the packages: {}", PUBLISHED.join(", "));
    } else {
        println!(
            "mend: files a crate includes (`include_str!`, the readme) must lie inside its own folder; publish in the order {}",
            PUBLISHED.join(", ")
        );
    }
    Ok(packed)
}
