//! What is measured, on which databases, by whom, and what it must reach.

/// Whom the others are compared with: the same work written by hand.
pub(crate) const HAND: &str = "hand";
/// The library with default settings.
pub(crate) const OUTBOX: &str = "outbox";
/// The library on connections of diesel-async.
const ASYNC_OUTBOX: &str = "async-outbox";
/// By hand, finished rows deleted instead of kept.
const HAND_DELETING: &str = "hand-deleting";
/// Another library, set up for throughput as its own documentation has it; it deletes what is done.
pub(crate) const PEER: &str = "graphile_worker";
/// The transaction without any task.
const BUSINESS: &str = "business";

/// What a figure must reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At least this share of what the same work written by hand reaches in the same round.
    OfHand(f64),
    /// As many times what another library reaches in the same round.
    OfPeer(f64),
    /// The share of the library on diesel-async.
    AsyncOfHand(f64),
    /// At least this share of what the library reaches in another case on the same database.
    OfCase(&'static str, f64),
    /// At least so many, or as large a share of what the same work written by hand reaches in the same round as that was of what
    /// it reached where the figure was set: another machine has other figures.
    AtLeast(f64, f64),
    AtMost(f64),
}

/// One measurement.
#[derive(Debug)]
pub(crate) struct Case {
    /// By which it is chosen on the command line.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) database: &'static str,
    /// The program's arguments, but by whom.
    pub(crate) arguments: &'static str,
    pub(crate) by: &'static [&'static str],
    /// Where the figure stands among those the program prints.
    pub(crate) figure: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) targets: &'static [Target],
}

const RATE: &str = "/per_second";
const RUN: &str = "/run_per_second";
const MEDIAN: &str = "/commit_to_start_ms/p50";
const WORST: &str = "/commit_to_start_ms/p99";

const fn case(name: &'static str, title: &'static str, database: &'static str, arguments: &'static str) -> Case {
    Case { name, title, database, arguments, by: &[HAND, OUTBOX], figure: RATE, unit: "/s", targets: &[] }
}

impl Case {
    const fn by(self, by: &'static [&'static str]) -> Self {
        Self { by, ..self }
    }

    const fn figure(self, figure: &'static str, unit: &'static str) -> Self {
        Self { figure, unit, ..self }
    }

    const fn must(self, targets: &'static [Target]) -> Self {
        Self { targets, ..self }
    }
}

const ONE: &str = "business INSERT + 1 enqueue per transaction, 1 connection";
const EIGHT: &str = "the same, 8 connections";
const BULK: &str = "20,000 tasks stored in one transaction";
const DRAIN: &str = "drain of waiting tasks, rows kept";
const START: &str = "commit to start, same process, p50";
const START_99: &str = "commit to start, same process, p99";
const ARRIVE: &str = "commit to start, another process, p50";
const ARRIVE_99: &str = "commit to start, another process, p99";
const IDLE: &str = "statements per second at rest";
const IDLE_CPU: &str = "share of a core at rest";
const BESIDE: &str = "drain beside 1 M future and 100 k finished rows";
const MEMORY: &str = "most memory of the worker in a drain of 1 M";

/// Everything that is measured by default.
pub(crate) const CASES: &[Case] = &[
    case("A1", ONE, "postgres", "commits --tasks 4000")
        .by(&[HAND, OUTBOX, ASYNC_OUTBOX, BUSINESS])
        .must(&[Target::OfHand(0.9)]),
    case("A8", EIGHT, "postgres", "commits --tasks 24000 --producers 8")
        .by(&[HAND, OUTBOX, ASYNC_OUTBOX])
        .must(&[Target::OfHand(0.85), Target::AsyncOfHand(1.0)]),
    case("B", BULK, "postgres", "bulk").must(&[Target::AtLeast(150_000.0, 320_000.0)]),
    case("C", DRAIN, "postgres", "drain --tasks 200000")
        .by(&[HAND, HAND_DELETING, OUTBOX, PEER])
        .figure(RUN, "/s")
        .must(&[Target::AtLeast(100_000.0, 165_000.0), Target::OfHand(0.6), Target::OfPeer(1.5)]),
    case("C-analyzed", "the same with statistics", "postgres", "drain --tasks 200000 --analyzed").figure(RUN, "/s"),
    case("D", START, "postgres", "latency").figure(MEDIAN, "ms").must(&[Target::AtMost(0.03)]),
    case("D", START_99, "postgres", "latency").figure(WORST, "ms").must(&[Target::AtMost(0.5)]),
    case("D", ARRIVE, "postgres", "arrival").by(&[OUTBOX]).figure(MEDIAN, "ms").must(&[Target::AtMost(1.0)]),
    case("D", ARRIVE_99, "postgres", "arrival").by(&[OUTBOX]).figure(WORST, "ms").must(&[Target::AtMost(5.0)]),
    case("E", IDLE, "postgres", "idle")
        .by(&[OUTBOX])
        .figure("/statements_per_second", "/s")
        .must(&[Target::AtMost(0.2)]),
    case("E", IDLE_CPU, "postgres", "idle").by(&[OUTBOX]).figure("/cores", "").must(&[Target::AtMost(0.001)]),
    case("F", BESIDE, "postgres", "drain --tasks 200000 --future 1000000 --finished 100000")
        .figure(RUN, "/s")
        .must(&[Target::OfCase("C", 0.9)]),
    case("M", MEMORY, "postgres", "drain --tasks 1000000")
        .by(&[OUTBOX])
        .figure("/most_memory_kib", "KiB")
        .must(&[Target::AtMost(30.0 * 1024.0)]),
    case("A1-normal", "A1 under synchronous = NORMAL", "sqlite", "commits --tasks 20000 --synchronous NORMAL")
        .by(&[HAND, OUTBOX, BUSINESS])
        .must(&[Target::OfHand(0.6)]),
    case("A1-full", "A1 under synchronous = FULL", "sqlite", "commits --tasks 8000 --synchronous FULL")
        .by(&[HAND, OUTBOX, BUSINESS])
        .must(&[Target::OfHand(0.6)]),
    case("B", BULK, "sqlite", "bulk"),
    case("C", DRAIN, "sqlite", "drain --tasks 400000")
        .by(&[HAND, HAND_DELETING, OUTBOX])
        .figure(RUN, "/s")
        .must(&[Target::AtLeast(200_000.0, 445_000.0)]),
    case("D", START, "sqlite", "latency").figure(MEDIAN, "ms").must(&[Target::AtMost(0.03)]),
    case("D", ARRIVE, "sqlite", "arrival --tasks 60").by(&[OUTBOX]).figure(MEDIAN, "ms"),
    case("E", IDLE, "sqlite", "idle").by(&[OUTBOX]).figure("/statements_per_second", "/s").must(&[Target::AtMost(0.2)]),
    case("E", IDLE_CPU, "sqlite", "idle").by(&[OUTBOX]).figure("/cores", "").must(&[Target::AtMost(0.001)]),
    case("F", BESIDE, "sqlite", "drain --tasks 400000 --future 1000000 --finished 100000")
        .figure(RUN, "/s")
        .must(&[Target::OfCase("C", 0.9)]),
    case("M", MEMORY, "sqlite", "drain --tasks 1000000")
        .by(&[OUTBOX])
        .figure("/most_memory_kib", "KiB")
        .must(&[Target::AtMost(30.0 * 1024.0)]),
    case("A1", ONE, "mysql", "commits --tasks 4000").by(&[HAND, OUTBOX, BUSINESS]).must(&[Target::OfHand(0.85)]),
    case("A8", EIGHT, "mysql", "commits --tasks 24000 --producers 8").must(&[Target::OfHand(0.85)]),
    case("B", BULK, "mysql", "bulk").must(&[Target::AtLeast(100_000.0, 300_000.0)]),
    case("C", DRAIN, "mysql", "drain --tasks 100000")
        .by(&[HAND, HAND_DELETING, OUTBOX])
        .figure(RUN, "/s")
        .must(&[Target::AtLeast(30_000.0, 40_000.0)]),
    case("D", START, "mysql", "latency").figure(MEDIAN, "ms").must(&[Target::AtMost(0.03)]),
    case("D", ARRIVE, "mysql", "arrival --tasks 60").by(&[OUTBOX]).figure(MEDIAN, "ms"),
    case("E", IDLE, "mysql", "idle").by(&[OUTBOX]).figure("/statements_per_second", "/s").must(&[Target::AtMost(0.2)]),
    case("E", IDLE_CPU, "mysql", "idle").by(&[OUTBOX]).figure("/cores", "").must(&[Target::AtMost(0.001)]),
    case("F", BESIDE, "mysql", "drain --tasks 100000 --future 1000000 --finished 100000")
        .figure(RUN, "/s")
        .must(&[Target::OfCase("C", 0.9)]),
    case("M", MEMORY, "mysql", "drain --tasks 1000000")
        .by(&[OUTBOX])
        .figure("/most_memory_kib", "KiB")
        .must(&[Target::AtMost(30.0 * 1024.0)]),
];

/// How cost grows: with processes, with what waits, with the size of a task's arguments, with the time its body takes.
pub(crate) const GROWTH: &[(&str, &str)] = &[
    ("1 process", "drain --tasks 100000"),
    ("2 processes", "drain --tasks 100000 --processes 2"),
    ("4 processes", "drain --tasks 100000 --processes 4"),
    ("10 k waiting", "drain --tasks 10000"),
    ("1 M waiting", "drain --tasks 1000000"),
    ("arguments of 10 kB", "drain --tasks 20000 --payload 10000"),
    ("arguments of 500 kB", "drain --tasks 500 --payload 500000"),
    ("bodies of 1 ms", "drain --tasks 20000 --body-ms 1"),
    ("bodies of 10 ms", "drain --tasks 5000 --body-ms 10"),
];
