//! A row about to be inserted, and the checks a call passes on its way to become one.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::call::{Call, Start};
use crate::error::EnqueueError;
use crate::retry::Backoff;
use crate::sensitive::Unseen;
use crate::task::{DEFAULT_SCHEDULED_DELAY, ExecuteMode, MAX_DELAY_SECS, RunOn, TaskDefinition};
use crate::when_dead::WhenDead;

/// The longest ordering key, business id, business type and queue, in characters: the width of their columns.
const SHORT_TEXT_MAX: usize = 100;
/// The longest key, in characters: the width of `task_id` in the seed.
const KEY_MAX: usize = 500;

/// The longest title, in characters.
const TITLE_MAX: usize = 1000;

/// One row of `consistency_task` as it will be inserted. `Debug` leaves the arguments out: some may be sensitive.
#[derive(Clone, PartialEq)]
pub struct NewTask {
    /// Unique handle: the caller's key, or a UUID in the order of time.
    pub task_id: String,
    /// Whether `task_id` is the caller's own key.
    pub keyed: bool,
    /// The task's name.
    pub method_name: String,
    /// The readable signature.
    pub method_sign_name: String,
    /// The stored parameters as readable text.
    pub parameter_types: String,
    /// The arguments, a JSON object keyed by parameter name.
    pub task_parameter: String,
    /// Base retry interval in whole seconds, rounded up.
    pub execute_interval_second: i64,
    /// Initial delay in whole seconds, rounded up.
    pub delay_time: i64,
    /// Exact initial delay in microseconds; for [`NewTask::due_at_us`] it is 0.
    pub delay_us: i64,
    /// Exact due time in microseconds since 1970, when the caller named a time.
    pub due_at_us: Option<i64>,
    /// `execute_mode`: 1 immediate, 2 scheduled.
    pub execute_mode: i16,
    /// `thread_way`: 1 worker, 2 caller.
    pub thread_way: i16,
    /// The queue.
    pub queue: String,
    /// 0 (first) to 9.
    pub priority: i16,
    /// Attempts before the row is dead; `None` retries until it succeeds.
    pub max_execute_times: Option<i64>,
    /// The ordering key.
    pub order_key: Option<String>,
    /// `order_policy`: the code of [`WhenDead`]; 0 without an ordering key.
    pub order_policy: i16,
    /// The kind of business object it concerns.
    pub biz_type: Option<String>,
    /// The business object it concerns.
    pub biz_id: Option<String>,
    /// [`Meta`] as JSON; `None` when it would be empty.
    pub meta: Option<String>,
    /// Insert it in state running, leased to the inserting node.
    pub leased: bool,
    /// The version it begins with when it is inserted leased.
    pub first_version: i64,
}

impl fmt::Debug for NewTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewTask")
            .field("task_id", &self.task_id)
            .field("method_name", &self.method_name)
            .field("task_parameter", &Unseen(&self.task_parameter))
            .field("delay_us", &self.delay_us)
            .field("due_at_us", &self.due_at_us)
            .field("queue", &self.queue)
            .field("priority", &self.priority)
            .field("order_key", &self.order_key)
            .field("leased", &self.leased)
            .finish_non_exhaustive()
    }
}

/// One above a random multiple of 65,536: the count of owners goes on in the lower bits, and no two rows begin alike.
///
/// A row handed over in memory is settled by id and version alone. Were its connection, by mistake, one to another database,
/// a row of the outbox's own with the same id must not be taken for it.
pub fn first_version() -> i64 {
    (rand::random_range(1..1_i64 << 36) << 16) + 1
}

/// Whether no claim and no rescue has given a row this version: it is still that of its insert.
pub fn is_first_version(version: i64) -> bool {
    version % (1 << 16) == 1 && version > 1
}

/// What the column `meta` holds: details written once, at the insert.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// A title for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The exact base interval in milliseconds, where it is no whole number of seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_every_ms: Option<u64>,
    /// The growth of the interval, where it is not fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

impl NewTask {
    /// Checks a call and makes it a row.
    ///
    /// `max_argument_bytes` limits the size of the stored arguments. The row is not yet leased.
    ///
    /// # Errors
    /// An [`EnqueueError`] that names the task and what is wrong with it; nothing has been stored.
    pub fn from_call(call: Call, max_argument_bytes: usize) -> Result<NewTask, EnqueueError> {
        let definition = call.definition;
        let task_parameter = call.arguments?;
        if task_parameter.len() > max_argument_bytes {
            return Err(EnqueueError::TooLarge {
                task: definition.name,
                parameter: call.largest.0,
                parameter_bytes: call.largest.1,
                bytes: task_parameter.len(),
                limit: max_argument_bytes,
            });
        }
        let check = Check { task: definition };
        let keyed = call.key.is_some();
        let task_id = match call.key {
            Some(key) => check.text("key", key, KEY_MAX)?,
            None => uuid::Uuid::now_v7().to_string(),
        };
        let order_key = call.order_key.map(|key| check.text("ordering key", key, SHORT_TEXT_MAX)).transpose()?;
        let order_policy = check.order_policy(order_key.is_some(), call.when_dead)?;
        let queue =
            check.text("queue", call.queue.unwrap_or_else(|| definition.options.queue.to_owned()), SHORT_TEXT_MAX)?;
        let (biz_type, biz_id) = match call.biz {
            Some((kind, id)) => (
                Some(check.text("business type", kind, SHORT_TEXT_MAX)?),
                Some(check.text("business id", id, SHORT_TEXT_MAX)?),
            ),
            None => (None, None),
        };
        let priority = call.priority.unwrap_or(definition.options.priority);
        if priority > 9 {
            return Err(check.bad(format!("priority {priority} is out of range; 0 (first) to 9 (last)")));
        }
        let (execute_mode, delay, due_at_us) = check.start(call.start)?;
        check.title(call.title.as_deref())?;
        Ok(NewTask {
            task_id,
            keyed,
            method_name: definition.name.to_owned(),
            method_sign_name: definition.signature.to_owned(),
            parameter_types: definition.parameter_types.to_owned(),
            task_parameter,
            execute_interval_second: whole_secs(definition.options.retry_every),
            delay_time: whole_secs(delay),
            delay_us: i64::try_from(delay.as_micros()).unwrap_or(i64::MAX),
            due_at_us,
            execute_mode: execute_mode as i16,
            thread_way: definition.options.run_on as i16,
            queue,
            priority: i16::from(priority),
            max_execute_times: definition.options.max_attempts.map(i64::from),
            order_key,
            order_policy,
            biz_type,
            biz_id,
            meta: meta_text(definition, call.title),
            leased: false,
            first_version: first_version(),
        })
    }

    /// What rows of one call site have in common, and an order that brings them together: all but the handle, the arguments, the
    /// business id, the title and the first version.
    pub fn shared(&self) -> impl Ord + '_ {
        let NewTask {
            task_id: _,
            task_parameter: _,
            biz_id: _,
            meta: _,
            first_version: _,
            keyed,
            method_name,
            method_sign_name,
            parameter_types,
            execute_interval_second,
            delay_time,
            delay_us,
            due_at_us,
            execute_mode,
            thread_way,
            queue,
            priority,
            max_execute_times,
            order_key,
            order_policy,
            biz_type,
            leased,
        } = self;
        (
            (method_name, queue, priority, leased, keyed, biz_type),
            (method_sign_name, parameter_types, execute_interval_second, execute_mode, thread_way, max_execute_times),
            (delay_time, delay_us, due_at_us, order_key, order_policy),
        )
    }

    /// Whether the row is an immediate one without a key, an order or a time: those are buffered until the flush.
    pub fn is_plain_immediate(&self) -> bool {
        self.execute_mode == ExecuteMode::Immediate as i16
            && !self.keyed
            && self.order_key.is_none()
            && self.delay_us == 0
    }

    /// Whether it is an immediate task that runs on the caller's thread.
    pub fn runs_on_caller(&self) -> bool {
        self.thread_way == RunOn::Caller as i16
    }
}

/// Rounds a duration up to whole seconds, for the columns people read.
pub(crate) fn whole_secs(duration: Duration) -> i64 {
    let secs = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(secs).unwrap_or(i64::MAX)
}

fn meta_text(definition: &TaskDefinition, title: Option<String>) -> Option<String> {
    let every = definition.options.retry_every;
    let meta = Meta {
        title,
        retry_every_ms: (every.subsec_nanos() > 0).then(|| u64::try_from(every.as_millis().max(1)).unwrap_or(u64::MAX)),
        backoff: (definition.options.backoff != Backoff::FIXED).then_some(definition.options.backoff),
    };
    if meta == Meta::default() { None } else { serde_json::to_string(&meta).ok() }
}

struct Check {
    task: &'static TaskDefinition,
}

impl Check {
    fn bad(&self, reason: String) -> EnqueueError {
        EnqueueError::BadModifier { task: self.task.name, reason }
    }

    fn text(&self, what: &str, text: String, most: usize) -> Result<String, EnqueueError> {
        let length = text.chars().count();
        if length == 0 || length > most {
            return Err(self.bad(format!("the {what} has {length} characters; 1 to {most} are allowed")));
        }
        if text.contains('\0') {
            return Err(self.bad(format!("the {what} {text:?} contains NUL, which databases cannot store")));
        }
        if text.trim() != text {
            return Err(self.bad(format!(
                "the {what} {text:?} begins or ends with white space, which databases compare differently"
            )));
        }
        Ok(text)
    }

    /// A title is stored as part of a JSON document, so that every character will do.
    fn title(&self, title: Option<&str>) -> Result<(), EnqueueError> {
        match title.map_or(0, |title| title.chars().count()) {
            length if length > TITLE_MAX => {
                Err(self.bad(format!("the title has {length} characters; at most {TITLE_MAX} are allowed")))
            }
            _ => Ok(()),
        }
    }

    /// The code of the call's policy, else of its task's. Only a row with an ordering key has one.
    fn order_policy(&self, is_ordered: bool, when_dead: Option<WhenDead>) -> Result<i16, EnqueueError> {
        match when_dead {
            Some(_) if !is_ordered => Err(self.bad(
                "`when_dead(..)` is for calls with an ordering key: write `.ordered_by(..)` as well, or leave it out"
                    .to_owned(),
            )),
            Some(policy) => Ok(policy.code()),
            None if is_ordered => Ok(self.task.options.when_dead.code()),
            None => Ok(WhenDead::Block.code()),
        }
    }

    fn start(&self, start: Start) -> Result<(ExecuteMode, Duration, Option<i64>), EnqueueError> {
        let options = &self.task.options;
        let most = Duration::from_secs(MAX_DELAY_SECS);
        match start {
            Start::AsDefined => match (options.mode, options.delay) {
                (ExecuteMode::Immediate, None) => Ok((ExecuteMode::Immediate, Duration::ZERO, None)),
                (ExecuteMode::Scheduled, None) => Ok((ExecuteMode::Scheduled, DEFAULT_SCHEDULED_DELAY, None)),
                (_, Some(delay)) => Ok((ExecuteMode::Scheduled, delay, None)),
            },
            Start::After(delay) if delay > most => {
                Err(self.bad(format!("a delay of {delay:?} is out of range; at most ten years ({MAX_DELAY_SECS} s)")))
            }
            Start::After(delay) => Ok((ExecuteMode::Scheduled, delay, None)),
            Start::At(time) => {
                let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
                let ahead = time.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
                if ahead > most {
                    return Err(
                        self.bad(format!("the time is {ahead:?} ahead, which is out of range; at most ten years"))
                    );
                }
                let due_at_us = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
                Ok((ExecuteMode::Scheduled, Duration::ZERO, Some(due_at_us)))
            }
        }
    }
}
