//! A call: an annotated function called but not yet stored, and the modifiers it takes.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::error::EnqueueError;
use crate::sensitive::Shown;
use crate::task::TaskDefinition;
use crate::when_dead::WhenDead;

/// An annotated function, called but not yet stored.
///
/// Nothing has run and nothing is stored: hand it to `tx.enqueue(..)` inside `outbox.transaction(..)`, or to
/// `cx.enqueue(..)` inside a task. It is no future and no result; `.await` and `?` belong on `enqueue` and `transaction`.
///
/// `Debug` shows `***` for the arguments of `#[sensitive]` parameters.
#[must_use = "a call does nothing until it is stored: pass it to `tx.enqueue(..)`"]
pub struct Call {
    pub(crate) definition: &'static TaskDefinition,
    pub(crate) arguments: Result<String, EnqueueError>,
    pub(crate) largest: (&'static str, usize),
    pub(crate) start: Start,
    pub(crate) key: Option<String>,
    pub(crate) priority: Option<u8>,
    pub(crate) queue: Option<String>,
    pub(crate) order_key: Option<String>,
    pub(crate) when_dead: Option<WhenDead>,
    pub(crate) biz: Option<(String, String)>,
    pub(crate) title: Option<String>,
}

/// When the first attempt may start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    /// As the task's mode and delay say.
    AsDefined,
    /// After this time, counted by the database from the insert.
    After(Duration),
    /// At this time of the database's clock.
    At(SystemTime),
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sensitive = self.definition.sensitive;
        let arguments = self.arguments.as_deref().map(|stored| Shown { sensitive, stored });
        let mut shown = f.debug_struct("Call");
        shown.field("task", &self.definition.name);
        match &arguments {
            Ok(arguments) => shown.field("arguments", arguments),
            Err(error) => shown.field("arguments", error),
        };
        shown
            .field("start", &self.start)
            .field("key", &self.key)
            .field("priority", &self.priority)
            .field("queue", &self.queue)
            .field("order_key", &self.order_key)
            .field("biz", &self.biz)
            .field("title", &self.title)
            .finish()
    }
}

impl Call {
    pub(crate) fn new(
        definition: &'static TaskDefinition,
        arguments: Result<String, EnqueueError>,
        largest: (&'static str, usize),
    ) -> Self {
        Self {
            definition,
            arguments,
            largest,
            start: Start::AsDefined,
            key: None,
            priority: None,
            queue: None,
            order_key: None,
            when_dead: None,
            biz: None,
            title: None,
        }
    }

    /// First attempt `delay` after the insert, by the database's clock. Makes the row a scheduled one.
    ///
    /// Over ten years is refused when the call is enqueued.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.start = Start::After(delay);
        self
    }

    /// First attempt at `time`, compared with the database's clock. Makes the row a scheduled one; a past time is due now.
    ///
    /// Over ten years ahead is refused when the call is enqueued.
    pub fn at(mut self, time: SystemTime) -> Self {
        self.start = Start::At(time);
        self
    }

    /// A key of your own, unique in the whole table: a second call with it changes nothing and answers `Duplicate`.
    ///
    /// It becomes `task_id`: 1 to 500 characters, no NUL, no white space at either end.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// 0 (first) to 9 (last), instead of the task's own.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The queue whose slots it uses, instead of the task's own.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Rows with the same ordering key run one at a time, in the order of their commits. One that is given up holds up the
    /// rest, unless [`when_dead`](Self::when_dead) or the task says otherwise.
    ///
    /// 1 to 100 characters, no NUL, no white space at either end; anything else is refused when the call is enqueued.
    pub fn ordered_by(mut self, key: impl Into<String>) -> Self {
        self.order_key = Some(key.into());
        self
    }

    /// What becomes of the ordering key should this call be given up, instead of what its task says.
    ///
    /// Belongs to [`ordered_by`](Self::ordered_by): without it the call is refused when it is enqueued.
    pub fn when_dead(mut self, policy: WhenDead) -> Self {
        self.when_dead = Some(policy);
        self
    }

    /// The business object it concerns, stored in `biz_type` and `biz_id` for your own SQL.
    pub fn biz(mut self, biz_type: impl Into<String>, biz_id: impl ToString) -> Self {
        self.biz = Some((biz_type.into(), biz_id.to_string()));
        self
    }

    /// A title for people who read the table, stored in `meta`; at most 1000 characters.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// The name of the task it calls.
    pub fn task_name(&self) -> &'static str {
        self.definition.name
    }

    /// The arguments as they will be stored, a JSON object keyed by parameter name, with the values of sensitive ones.
    ///
    /// # Errors
    /// The [`EnqueueError`] that `enqueue` would report when an argument does not serialize.
    pub fn arguments(&self) -> Result<&str, &EnqueueError> {
        self.arguments.as_deref()
    }
}
