//! How many waiting tasks processes drain per second, and whether their memory grows with what waits.
//!
//! The rows are stored first. Then processes of this program run them, so that their memory is theirs alone, and tell each time
//! they have got on; the time counts from the first one's start until the last task has run, and until all have stopped, with
//! every outcome written.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use consistency_diesel::prelude::*;
use serde_json::{Value, json};

use crate::backlog;
use crate::commits::connect;
use crate::costs::Costs;
use crate::drain_tasks::{noop, payload};
use crate::hand_written::{HandWritten, unfinished};
use crate::options::{By, Options};
use crate::report::{line, per_second};

/// Tasks stored in one transaction.
const TOGETHER: usize = 1000;

/// What a process tells.
enum Told {
    /// It is about to start its outbox, or its first claim.
    Begins(Instant),
    /// It has run so many in all.
    Ran { process: usize, tasks: usize },
    /// It has stopped, with these figures.
    Ended(Value),
}

/// Stores the tasks, has processes run them, and waits until all of them have.
pub(crate) fn measure<C: HandWritten>(options: &Options) -> Result<String, Box<dyn Error>> {
    let tasks = options.tasks.unwrap_or(100_000);
    let mut conn = connect::<C>(options)?;
    let stored = store(&mut conn, options, tasks)?;
    println!("stored, {TOGETHER} per transaction: {stored} per second");
    if options.analyzed {
        conn.analyze()?;
    }
    let before = Costs::of(&mut conn)?;
    let (sender, told) = mpsc::channel();
    let nodes =
        (0..options.processes).map(|at| start_node(options, at, sender.clone())).collect::<Result<Vec<_>, _>>()?;
    drop(sender);
    let drained = watch(nodes, &told, tasks)?;
    let costs = Costs::of(&mut conn)?.since(&before, tasks);
    let left = unfinished(&mut conn, options.by)?;
    if left != options.future {
        return Err(format!("{left} rows are unfinished, not {}", options.future).into());
    }
    let Drained { ran, settled, doubled, nodes } = drained;
    if doubled > 0 {
        return Err(format!("{doubled} tasks ran twice").into());
    }
    println!("until the last one ran: {} per second", per_second(tasks, ran));
    println!("until all are settled and the processes have stopped: {} per second", per_second(tasks, settled));
    let sum = |name: &str| nodes.iter().filter_map(|node| node[name].as_u64()).sum::<u64>();
    let most = |name: &str| nodes.iter().filter_map(|node| node[name].as_u64()).max().unwrap_or(0);
    let figures = json!({
        "enqueue_per_second": stored, "run_per_second": per_second(tasks, ran),
        "settled_per_second": per_second(tasks, settled), "statements": sum("statements"), "doubled": doubled,
        "memory_kib": nodes.first().map(|node| node["memory_kib"].clone()), "most_memory_kib": most("most_memory_kib"),
        "costs": costs,
    });
    let settings = json!({
        "by": options.by.name(), "tasks": tasks, "processes": options.processes, "payload": options.payload,
        "body_ms": options.body.as_secs_f64() * 1000.0, "future": options.future, "finished": options.finished,
        "analyzed": options.analyzed,
    });
    Ok(line("drain", options, settings, figures))
}

/// Stores what is to be drained, and what lies beside it; how many per second.
fn store<C: HandWritten>(conn: &mut C, options: &Options, tasks: usize) -> Result<f64, Box<dyn Error>> {
    let store_only = Outbox::builder(&options.url).migrate().enqueue_only().start_blocking()?;
    conn.make_tables()?;
    backlog::store(conn, options)?;
    let note = payload(options.payload);
    let begun = Instant::now();
    for first in (0..tasks).step_by(TOGETHER) {
        let numbers = first..(first + TOGETHER).min(tasks);
        if options.by == By::Outbox {
            store_only.transaction(conn, |tx| {
                numbers.into_iter().try_for_each(|number| tx.enqueue(noop(number as u64, &note)).map(drop))
            })?;
        } else {
            let payloads = vec![note.clone(); numbers.len()];
            conn.transaction(|conn| conn.insert_tasks(&payloads))?;
        }
    }
    Ok(per_second(tasks, begun.elapsed().as_secs_f64()))
}

fn start_node(options: &Options, at: usize, told: mpsc::Sender<Told>) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([&options.url, "drain-node", "--by", options.by.name()]);
    command.args(["--body-ms", &options.body.as_millis().to_string(), "--synchronous", &options.synchronous]);
    let mut node = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = node.stdout.take().ok_or("no output of the process")?;
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let news = if line == "begins" {
                Told::Begins(Instant::now())
            } else if let Ok(tasks) = line.parse() {
                Told::Ran { process: at, tasks }
            } else {
                Told::Ended(serde_json::from_str(&line).unwrap_or_default())
            };
            if told.send(news).is_err() {
                return;
            }
        }
    });
    Ok(node)
}

struct Drained {
    ran: f64,
    settled: f64,
    doubled: usize,
    nodes: Vec<Value>,
}

/// Waits until so many tasks have run, has the processes stop, and takes their figures.
fn watch(nodes: Vec<Child>, told: &mpsc::Receiver<Told>, tasks: usize) -> Result<Drained, Box<dyn Error>> {
    let (mut begun, mut ran, mut figures, mut of_each) = (None, None, Vec::new(), vec![0; nodes.len()]);
    let mut nodes: Vec<Option<Child>> = nodes.into_iter().map(Some).collect();
    while let Ok(news) = told.recv() {
        match news {
            Told::Begins(now) => begun = begun.or(Some(now)),
            Told::Ran { process, tasks } => of_each[process] = tasks,
            Told::Ended(node) => figures.push(node),
        }
        if ran.is_none() && of_each.iter().sum::<usize>() >= tasks {
            ran = Some(Instant::now());
            // They stop at the end of their input.
            nodes.iter_mut().flatten().for_each(|node| drop(node.stdin.take()));
        }
    }
    let settled = Instant::now();
    for node in nodes.iter_mut().filter_map(Option::as_mut) {
        let status = node.wait()?;
        if !status.success() {
            return Err(format!("a process ended with {status}").into());
        }
    }
    let (Some(begun), Some(ran)) = (begun, ran) else {
        return Err("the processes stopped before all tasks had run".into());
    };
    Ok(Drained {
        ran: (ran - begun).as_secs_f64(),
        settled: (settled - begun).as_secs_f64(),
        doubled: of_each.iter().sum::<usize>() - tasks,
        nodes: figures,
    })
}
