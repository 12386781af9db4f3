//! The runtime's settings: default, unit and interplay of each, all checked before anything starts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::error::Problem;
use crate::task::DEFAULT_QUEUE;

/// Everything that can be set on the builder. The builder's methods carry the same names.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of this process in `lease_owner`; a random part is added, so that it is new at every start. Default: host and
    /// process id.
    pub node: String,
    /// Attempts at a time in the default queue, and in every queue that names none. Default 32.
    pub concurrency: usize,
    /// Attempts at a time per queue.
    pub queues: BTreeMap<String, usize>,
    /// Queues other processes serve: calls for them are stored, this process does not claim them.
    pub queues_elsewhere: BTreeSet<String>,
    /// Longest time between two looks at the table. Default 1 s. A row another process committed is noticed at the
    /// latest this long after it is due; rows of this process and known due times do not wait for it. Once such a row is
    /// found, the next look follows after 20 ms, and each one after it that finds none doubles the wait, up to this one:
    /// while rows keep coming they are found soon, and while none come a look per interval is all it costs. After sixty
    /// looks in a row that found nothing the node is at rest: it looks every six of these intervals, or once per `lease`
    /// where that is shorter, until a row is found or one of this process's own has run.
    pub poll_interval: Duration,
    /// How long a row stays ours without a heartbeat. Default 10 s. The tasks of a killed process start elsewhere at the
    /// latest a lease and a `poll_interval` after its last heartbeat. Shorter leases are lost to a busy or paused machine,
    /// and a task whose lease is lost may run twice.
    pub lease: Duration,
    /// Time between renewals. Default 3 s; at most half of `lease`, so that one may fail: it is tried again after 200 ms.
    pub heartbeat: Duration,
    /// Time limit of an attempt whose task has no `timeout`. Default 15 min. Independent of `lease`: heartbeats keep the
    /// lease of a long attempt.
    pub attempt_timeout: Duration,
    /// Leases lost in a row before a task is dead. Default 5. Independent of `max_attempts`.
    pub crash_budget: u32,
    /// Most rows one claim takes. Default 1000.
    pub claim_batch: usize,
    /// Most rows one settlement writes. Default 1000.
    pub settle_batch: usize,
    /// How long a settlement waits for company. Default 1 ms; at most a day.
    pub settle_linger: Duration,
    /// Most bytes of stored arguments. Default 1 MiB.
    pub max_argument_bytes: usize,
    /// Most bytes of stored error text; longer ones are cut. Default 16 KiB.
    pub max_error_bytes: usize,
    /// How long to wait for a locked SQLite file or a free connection. Default 10 s; at most a day. A caller whose task runs on
    /// his thread (`run_on = caller`) waits as long for its outcome to be written, and a shutdown, once the grace is over, for
    /// each of the runtime's threads: or for `store_timeout`, if that is longer, and a quarter more.
    pub busy_wait: Duration,
    /// Longest time for one operation of the runtime on its database (a claim, a settlement, a renewal, a look, a question), and
    /// for connecting to it. Default 10 s, as `lease`: what has not been answered for so long is of no use any more, and a
    /// database that needs longer for a thousand rows is as good as away. What is not answered by then is given up with its
    /// connection and tried again on another one. The server is told to end a statement after four fifths of this, and a wait
    /// for a lock after a quarter. Claims and renewals wait for half of `lease` at most (but a second), so that one dead
    /// connection costs no lease. It also limits BEGIN, and what follows the body, of a `#[tx]` task; the body has its own time
    /// limit. Not for SQLite, where `busy_wait` says how long a locked file is waited for.
    pub store_timeout: Duration,
    /// How long a shutdown waits for running attempts before it puts them back. Default 10 s; at most a year.
    pub shutdown_grace: Duration,
    /// Blocking bodies past their time limit whose threads may go on in the background. Default 16; beyond it such a body
    /// keeps its slot.
    pub max_abandoned_threads: usize,
    /// Connections for `#[tx]` tasks, so how many run at a time. Default 4 (1 on SQLite, which has one writer).
    pub transaction_connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let host = host.trim();
        let host = if host.is_empty() { "node" } else { host };
        Self {
            node: format!("{host}-{}", std::process::id()),
            concurrency: 32,
            queues: BTreeMap::new(),
            queues_elsewhere: BTreeSet::new(),
            poll_interval: Duration::from_secs(1),
            lease: Duration::from_secs(10),
            heartbeat: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(15 * 60),
            crash_budget: 5,
            claim_batch: 1000,
            settle_batch: 1000,
            settle_linger: Duration::from_millis(1),
            max_argument_bytes: 1 << 20,
            max_error_bytes: 16 << 10,
            busy_wait: Duration::from_secs(10),
            store_timeout: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(10),
            max_abandoned_threads: 16,
            transaction_connections: 4,
        }
    }
}

/// The longest node name, in characters; with its random part it must fit `lease_owner`.
const NODE_MAX: usize = 80;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl Settings {
    /// Adds everything that is out of range or contradictory to `problems`.
    pub fn check(&self, problems: &mut Vec<Problem>) {
        let mut refuse = |setting: &'static str, reason: String| problems.push(Problem::Setting { setting, reason });
        let mut positive = |setting, value: usize| {
            if value == 0 {
                refuse(setting, "must be at least 1".to_owned());
            }
        };
        positive("concurrency", self.concurrency);
        positive("crash_budget", self.crash_budget as usize);
        positive("claim_batch", self.claim_batch);
        positive("settle_batch", self.settle_batch);
        positive("max_argument_bytes", self.max_argument_bytes);
        positive("transaction_connections", self.transaction_connections);
        if self.max_error_bytes < 64 {
            refuse("max_error_bytes", format!("{} is too little to say anything; at least 64", self.max_error_bytes));
        }
        for (setting, value) in [
            ("poll_interval", self.poll_interval),
            ("lease", self.lease),
            ("heartbeat", self.heartbeat),
            ("attempt_timeout", self.attempt_timeout),
            ("store_timeout", self.store_timeout),
        ] {
            if value < Duration::from_millis(1) || value > YEAR {
                refuse(setting, format!("{value:?} is out of range; 1 ms to one year"));
            }
        }
        if self.busy_wait > DAY {
            refuse("busy_wait", format!("{:?} is out of range; at most one day", self.busy_wait));
        }
        if self.shutdown_grace > YEAR {
            refuse("shutdown_grace", format!("{:?} is out of range; at most one year", self.shutdown_grace));
        }
        if self.settle_linger > DAY {
            refuse("settle_linger", format!("{:?} is out of range; at most one day", self.settle_linger));
        }
        if self.heartbeat > self.lease / 2 {
            refuse(
                "heartbeat",
                format!(
                    "{:?} is more than half of `lease` ({:?}); one missed beat would lose every lease",
                    self.heartbeat, self.lease
                ),
            );
        }
        let length = self.node.chars().count();
        if length == 0 || length > NODE_MAX || self.node.contains('\0') {
            refuse(
                "node",
                format!("{:?} has {length} characters; 1 to {NODE_MAX} are allowed, without NUL", self.node),
            );
        }
        for (queue, slots) in &self.queues {
            if *slots == 0 {
                refuse(
                    "queue",
                    format!("queue `{queue}` has no slot; give it at least 1, or say `.queue_elsewhere(..)`"),
                );
            }
            if self.queues_elsewhere.contains(queue) {
                refuse("queue_elsewhere", format!("queue `{queue}` is also given slots here; say one of the two"));
            }
        }
    }

    /// The slots of `queue`.
    pub fn slots(&self, queue: &str) -> usize {
        self.queues.get(queue).copied().unwrap_or(self.concurrency)
    }

    /// The queues this process serves: the default one, those given slots, and those its tasks name.
    pub fn served_queues<'a>(&self, named_by_tasks: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let mut queues: BTreeSet<String> = self.queues.keys().cloned().collect();
        queues.insert(DEFAULT_QUEUE.to_owned());
        queues.extend(named_by_tasks.map(str::to_owned));
        queues.retain(|queue| !self.queues_elsewhere.contains(queue));
        queues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_accepted() {
        let mut problems = Vec::new();
        Settings::default().check(&mut problems);
        assert_eq!(problems, []);
    }

    #[test]
    fn every_bad_setting_is_listed_at_once() {
        let settings = Settings {
            concurrency: 0,
            crash_budget: 0,
            heartbeat: Duration::from_secs(9),
            poll_interval: Duration::ZERO,
            store_timeout: Duration::ZERO,
            busy_wait: Duration::MAX,
            shutdown_grace: Duration::MAX,
            settle_linger: Duration::MAX,
            queues: BTreeMap::from([("mail".to_owned(), 0)]),
            queues_elsewhere: BTreeSet::from(["mail".to_owned()]),
            ..Settings::default()
        };
        let mut problems = Vec::new();
        settings.check(&mut problems);
        let named: Vec<_> = problems
            .iter()
            .map(|problem| match problem {
                Problem::Setting { setting, .. } => *setting,
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(
            named,
            [
                "concurrency",
                "crash_budget",
                "poll_interval",
                "store_timeout",
                "busy_wait",
                "shutdown_grace",
                "settle_linger",
                "heartbeat",
                "queue",
                "queue_elsewhere"
            ]
        );
    }
}
