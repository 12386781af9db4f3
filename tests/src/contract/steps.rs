//! The steps contract tests are made of: a row, a claim, a settlement, each with everything usual filled in.

use std::time::Duration;

use consistency_core::enqueue::Receipt;
use consistency_core::new_task::{NewTask, first_version};
use consistency_core::rescue::Rescued;
use consistency_core::retry::Decision;
use consistency_core::store::{ClaimRequest, ClaimedTask, Settled, Settlement, Share, TaskStatus};

use crate::recorder::wait_until_some;
use crate::store_under_test::StoreUnderTest;

/// The name rows of the suite carry.
pub const NAME: &str = "contract::task";
/// The node that claims.
pub const NODE: &str = "node-a";
/// A lease that does not end during a test.
pub const LONG: Duration = Duration::from_secs(600);
/// A lease that has ended soon.
pub const SHORT: Duration = Duration::from_millis(1);
/// The crash budget of rescues that are to leave rows alive.
pub const BUDGET: u32 = 5;

/// A pending row for workers, due at once.
pub fn row(task_id: &str) -> NewTask {
    NewTask {
        task_id: task_id.to_owned(),
        keyed: true,
        method_name: NAME.to_owned(),
        method_sign_name: "contract::task()".to_owned(),
        parameter_types: String::new(),
        task_parameter: "{}".to_owned(),
        execute_interval_second: 60,
        delay_time: 0,
        delay_us: 0,
        due_at_us: None,
        execute_mode: 2,
        thread_way: 1,
        queue: "default".to_owned(),
        priority: 5,
        max_execute_times: None,
        order_key: None,
        order_policy: 0,
        biz_type: None,
        biz_id: None,
        meta: None,
        leased: false,
        first_version: first_version(),
    }
}

/// A row that has been due since `seconds` after a moment long past.
pub fn due_since(task_id: &str, seconds: i64) -> NewTask {
    NewTask { due_at_us: Some((1_700_000_000 + seconds) * 1_000_000), ..row(task_id) }
}

/// A row of an ordering key.
pub fn ordered(task_id: &str, key: &str) -> NewTask {
    NewTask { order_key: Some(key.to_owned()), ..row(task_id) }
}

/// `count` rows with the handles `prefix-0`, `prefix-1` and so on.
pub fn rows(prefix: &str, count: usize) -> Vec<NewTask> {
    (0..count).map(|number| row(&format!("{prefix}-{number}"))).collect()
}

/// Stores rows none of whose handles is taken.
#[track_caller]
pub fn insert(on: &dyn StoreUnderTest, rows: &[NewTask]) {
    let receipts = on.store().insert(rows, NODE, LONG).unwrap();
    let handles: Vec<_> = rows.iter().map(|row| Receipt::Enqueued(row.task_id.clone())).collect();
    assert_eq!(receipts, handles);
}

/// A claim: of the default queue, priority 5, for workers, unless it says otherwise.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The claiming node.
    pub node: &'static str,
    /// How long the rows are leased.
    pub lease: Duration,
    /// The queue.
    pub queue: &'static str,
    /// The priority.
    pub priority: i16,
    /// The names asked for.
    pub names: Vec<String>,
    /// Most rows.
    pub limit: usize,
    /// Whose rows.
    pub share: Share,
}

impl Default for Claim {
    fn default() -> Self {
        Self {
            node: NODE,
            lease: LONG,
            queue: "default",
            priority: 5,
            names: vec![NAME.to_owned()],
            limit: 100,
            share: Share::Workers,
        }
    }
}

impl Claim {
    /// What the store is asked.
    pub fn request(&self) -> ClaimRequest<'_> {
        let Claim { node, lease, queue, priority, names, limit, share } = self;
        ClaimRequest { node, lease: *lease, queue, priority: *priority, names, limit: *limit, share: *share }
    }

    /// Claims.
    #[track_caller]
    pub fn take(&self, on: &dyn StoreUnderTest) -> Vec<ClaimedTask> {
        on.store().claim(&self.request()).unwrap()
    }
}

/// Claims at most `limit` rows.
#[track_caller]
pub fn claim(on: &dyn StoreUnderTest, limit: usize) -> Vec<ClaimedTask> {
    Claim { limit, ..Claim::default() }.take(on)
}

/// Claims one row, waiting until one is due.
#[track_caller]
pub fn claim_one(on: &dyn StoreUnderTest) -> ClaimedTask {
    claim_one_for(on, LONG)
}

/// Claims one row for `lease`, waiting until one is due.
#[track_caller]
pub fn claim_one_for(on: &dyn StoreUnderTest, lease: Duration) -> ClaimedTask {
    wait_until_some("a row to claim", || Claim { limit: 1, lease, ..Claim::default() }.take(on).pop())
}

/// The handles of claimed rows, in their order.
pub fn handles(tasks: &[ClaimedTask]) -> Vec<&str> {
    tasks.iter().map(|task| task.task_id.as_str()).collect()
}

/// What the store says of a task that exists.
#[track_caller]
pub fn status(on: &dyn StoreUnderTest, task_id: &str) -> TaskStatus {
    on.store().status(task_id).unwrap().unwrap_or_else(|| panic!("there is no task `{task_id}`"))
}

/// Writes one settlement.
#[track_caller]
pub fn settle(on: &dyn StoreUnderTest, settlement: Settlement) -> Settled {
    let answers = on.store().settle(&[settlement]).unwrap();
    assert_eq!(answers.len(), 1);
    answers[0]
}

/// The settlement of a successful attempt.
pub fn success(task: &ClaimedTask) -> Settlement {
    task.settled(Decision::Succeed, None, Vec::new())
}

/// The settlement of a failed attempt that is retried after `delay`.
pub fn failure(task: &ClaimedTask, delay: Duration) -> Settlement {
    task.settled(Decision::Retry(delay), Some("it failed".to_owned()), Vec::new())
}

/// The settlement of an attempt none follows.
pub fn death(task: &ClaimedTask) -> Settlement {
    task.settled(Decision::GiveUp, Some("it is hopeless".to_owned()), Vec::new())
}

/// Rescues, until at least one row's lease has ended.
#[track_caller]
pub fn rescue_one(on: &dyn StoreUnderTest) -> Rescued {
    wait_until_some("a lease to end", || on.store().rescue(BUDGET, 1).unwrap().pop())
}

/// Lets [`SHORT`] leases end.
pub fn let_short_leases_end(on: &dyn StoreUnderTest) {
    on.let_time_pass(5 * SHORT);
}
