//! `cargo xtask instructions`: how many instructions a task costs from its call to its outcome, on SQLite, which runs in the same
//! process; compared with what is written down. Unlike times, they hardly differ from run to run or machine to machine.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::launch;
use crate::workspace::{cargo, root};

/// What a task cost when somebody last looked.
const WRITTEN_DOWN: &str = "measure/instructions.txt";
/// What the start costs falls out of the difference of two runs.
const TASKS: [u64; 2] = [500, 2_500];
/// More than this share above what is written down is a failure; below it, a reason to write the new count down.
const TOLERANCE: f64 = 0.1;

/// Counts, and compares; with `--write`, writes the count down instead.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let write = match arguments {
        [] => false,
        [argument] if argument == "--write" => true,
        _ => return Err("takes `--write` or nothing".into()),
    };
    if !cargo().args(["build", "--release", "-p", "measure"]).status()?.success() {
        return Err("the program does not compile".into());
    }
    let [few, many] = TASKS.map(count);
    let per_task = (many?.saturating_sub(few?)) / (TASKS[1] - TASKS[0]);
    let file = root().join(WRITTEN_DOWN);
    if write {
        std::fs::write(&file, format!("{per_task}\n"))?;
        println!("{per_task} instructions per task, written to {WRITTEN_DOWN}");
        return Ok(true);
    }
    let before: u64 = std::fs::read_to_string(&file)?.trim().parse()?;
    let share = per_task as f64 / before as f64 - 1.0;
    println!("{per_task} instructions per task, {:+.1} % of the {before} in {WRITTEN_DOWN}", share * 100.0);
    if share > TOLERANCE {
        println!("a task has become dearer: find out why, or say so with `cargo xtask instructions --write`");
    } else if share < -TOLERANCE {
        println!("a task has become cheaper: keep it so with `cargo xtask instructions --write`");
    }
    Ok(share <= TOLERANCE)
}

/// The instructions of a process that stores and runs so many tasks.
fn count(tasks: u64) -> Result<u64, Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("consistency-instructions-{}-{tasks}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let counted = count_in(&folder, tasks);
    std::fs::remove_dir_all(&folder)?;
    counted
}

fn count_in(folder: &Path, tasks: u64) -> Result<u64, Box<dyn Error>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(launch::program("measure").get_program());
    valgrind.arg(format!("sqlite://{}", folder.join("cycle.db").display())).args([
        "cycle",
        "--tasks",
        &tasks.to_string(),
    ]);
    let output =
        valgrind.output().map_err(|error| format!("`valgrind`: {error}; install it: `apt-get install valgrind`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let counted =
        said.lines().find_map(|line| line.split_once("Collected :")).and_then(|(_, count)| count.trim().parse().ok());
    match counted {
        Some(counted) if output.status.success() => Ok(counted),
        _ => Err(format!("the program failed under valgrind:\n{said}").into()),
    }
}
