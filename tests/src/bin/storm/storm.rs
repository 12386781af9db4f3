//! The storm itself: starts processes, kills one after the other and starts another in its place, and lets the last ones end
//! their work.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use crate::found::Found;
use crate::ledger::{Account, Ledger, now};
use crate::number;
use crate::orders::TABLES;
use crate::verdict::{Killed, Verdict};

/// How long the last tasks may take when nothing is killed any more. A row lost several times in a row waits for minutes.
const CALM: Duration = Duration::from_secs(240);
/// How long a process may take to stop that has nothing left to do.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// How much of a storm.
#[derive(Debug, Clone)]
pub(crate) struct Size {
    pub(crate) seconds: u64,
    pub(crate) kills: usize,
    pub(crate) tasks: u64,
    pub(crate) processes: usize,
    /// Tasks stored per second by all processes together, as far as the machine goes.
    pub(crate) rate: f64,
    pub(crate) seed: u64,
}

impl Size {
    /// From words `name=number`.
    pub(crate) fn from_words(words: &[&str]) -> Self {
        let mut size =
            Self { seconds: 600, kills: 300, tasks: 1_000_000, processes: 3, rate: 2500.0, seed: rand::random() };
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("`{word}`: say name=number"));
            match name {
                "seconds" => size.seconds = number(value),
                "kills" => size.kills = number(value),
                "tasks" => size.tasks = number(value),
                "processes" => size.processes = number(value),
                "rate" => size.rate = number(value),
                "seed" => size.seed = number(value),
                _ => panic!("`{name}` is no part of a storm"),
            }
        }
        size
    }

    /// Of one process.
    fn node_rate(&self) -> f64 {
        self.rate / self.processes as f64
    }
}

/// A process of the storm.
struct Node {
    child: Child,
    number: u32,
    committed: Arc<AtomicU64>,
    /// Reads what it says, until it is gone; whether its last word was that it has stopped.
    reader: JoinHandle<bool>,
}

impl Node {
    fn start(url: &str, folder: &Path, number: u32, size: &Size) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg("node")
            .arg(url)
            .arg(folder)
            .args([number.to_string(), size.node_rate().to_string(), size.seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process of the storm");
        let committed = Arc::<AtomicU64>::default();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let said = Arc::clone(&committed);
        let reader = std::thread::spawn(move || {
            let mut stopped = false;
            for line in output.lines().map_while(Result::ok) {
                if let Some(count) = line.strip_prefix("committed ") {
                    said.store(number_of(count), Ordering::Relaxed);
                }
                stopped = line == "stopped";
            }
            stopped
        });
        Self { child, number, committed, reader }
    }

    /// Whether it ends well before the deadline. It is killed where it does not.
    fn stops_by(mut self, deadline: Instant) -> bool {
        let ended = loop {
            match self.child.try_wait().expect("a process of ours") {
                Some(status) => break status.success(),
                None if Instant::now() > deadline => {
                    self.child.kill().expect("a process is killed");
                    self.child.wait().expect("a killed process is gone");
                    break false;
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        // Its output has ended with it.
        self.reader.join().expect("the reader") && ended
    }
}

fn number_of(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

/// Lets a storm of `size` go over a database of `backend`, and judges what is left.
pub(crate) fn run(backend: Backend, size: &Size) -> Verdict {
    eprintln!("storm on {backend}: {size:?}");
    let database = Database::fresh(backend).unwrap_or_else(|reason| panic!("{reason}"));
    database.migrate();
    TABLES.iter().for_each(|table| database.execute(table));
    let folder = TempDir::new().expect("a folder for the ledgers");
    let begun = Instant::now();
    let mut storm = Storm::begin(&database, folder.path(), size);
    let limit = Duration::from_secs(size.seconds) * 3;
    while !storm.is_over() && begun.elapsed() < limit {
        storm.kill_one();
    }
    let (stormed, killed, survivors) = storm.end();
    let ended = wait_for_the_end(&database, &survivors);
    let (took, started) = (begun.elapsed(), survivors.started);
    let stopped = survivors.stop();
    let accounts: Vec<Account> = (0..started).map(|number| Ledger::read(folder.path(), number)).collect();
    let mut verdict = Verdict::of(backend, &Found::read(&database), &accounts, &killed);
    verdict.note(size, stormed, took, killed.len(), ended && stopped);
    verdict
}

struct Storm<'s> {
    url: String,
    folder: &'s Path,
    size: &'s Size,
    nodes: Vec<Node>,
    next: u32,
    killed: Vec<Killed>,
    committed_by_killed: u64,
    draw: StdRng,
    begun: Instant,
    told: Instant,
}

impl<'s> Storm<'s> {
    fn begin(database: &Database, folder: &'s Path, size: &'s Size) -> Self {
        let mut storm = Self {
            url: database.url(),
            folder,
            size,
            nodes: Vec::new(),
            next: 0,
            killed: Vec::new(),
            committed_by_killed: 0,
            draw: StdRng::seed_from_u64(size.seed),
            begun: Instant::now(),
            told: Instant::now(),
        };
        for _ in 0..size.processes {
            let node = storm.start();
            storm.nodes.push(node);
        }
        storm
    }

    fn start(&mut self) -> Node {
        let number = self.next;
        self.next += 1;
        Node::start(&self.url, self.folder, number, self.size)
    }

    fn committed(&self) -> u64 {
        self.committed_by_killed + self.nodes.iter().map(|node| node.committed.load(Ordering::Relaxed)).sum::<u64>()
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed() >= Duration::from_secs(self.size.seconds)
            && self.killed.len() >= self.size.kills
            && self.committed() >= self.size.tasks
    }

    /// Waits a random while, kills a process at random and starts another.
    fn kill_one(&mut self) {
        let mean = self.size.seconds as f64 / self.size.kills.max(1) as f64;
        std::thread::sleep(Duration::from_secs_f64(mean * self.draw.random_range(0.2..1.7)));
        let at = self.draw.random_range(0..self.nodes.len());
        let new = self.start();
        let mut old = std::mem::replace(&mut self.nodes[at], new);
        old.child.kill().expect("a process is killed");
        old.child.wait().expect("a killed process is gone");
        self.committed_by_killed += old.committed.load(Ordering::Relaxed);
        self.killed.push(Killed { process: old.number, at: now() });
        if self.told.elapsed() > Duration::from_secs(10) {
            self.told = Instant::now();
            let (committed, kills) = (self.committed(), self.killed.len());
            eprintln!("{:.0} s: {kills} kills, {committed} tasks committed", self.begun.elapsed().as_secs_f64());
        }
    }

    /// No more kills and no more orders.
    fn end(mut self) -> (Duration, Vec<Killed>, Survivors) {
        let stormed = self.begun.elapsed();
        for node in &mut self.nodes {
            let input = node.child.stdin.as_mut().expect("its input");
            input.write_all(b"close\n").expect("a process of the storm listens");
        }
        (stormed, self.killed, Survivors { nodes: self.nodes, started: self.next })
    }
}

/// The processes that were never killed.
struct Survivors {
    nodes: Vec<Node>,
    /// How many processes there were in all.
    started: u32,
}

impl Survivors {
    /// Stops them in good order; whether they did.
    fn stop(mut self) -> bool {
        for node in &mut self.nodes {
            drop(node.child.stdin.take());
        }
        let deadline = Instant::now() + STOPPED_WITHIN;
        let stopped: Vec<bool> = self.nodes.into_iter().map(|node| node.stops_by(deadline)).collect();
        stopped.into_iter().all(|stopped| stopped)
    }
}

/// Waits until every row has ended; whether they did in time.
fn wait_for_the_end(database: &Database, survivors: &Survivors) -> bool {
    let deadline = Instant::now() + CALM;
    while Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(500));
        let left = database.count("consistency_task", "state IN (0, 1, 3, 5)");
        if left == 0 {
            return true;
        }
        eprintln!("{left} tasks left for {} processes", survivors.nodes.len());
    }
    false
}
