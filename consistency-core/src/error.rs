//! What can go wrong: in a task's body, while storing a call, and at start. Every message names the culprit and the mend.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::error_text::chain_text;

/// Most sources of an error that are asked for a verdict: one whose `source` leads back to itself never ends.
const LOOKED_THROUGH_MAX: usize = 100_000;

/// An owned error of any type, as task bodies hand it over.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Why an attempt failed, and what follows from it.
///
/// Any error a body returns becomes one of these and means *retry*. Two words are deliberate:
/// [`TaskError::permanent`] and [`TaskError::retry_after`]. They keep their meaning when they are wrapped, for example by
/// `anyhow`'s `context`.
#[derive(Debug)]
pub struct TaskError {
    words: Words,
}

/// Verdict and text of a [`TaskError`]; also its own source, because wrappers such as `anyhow::Error` show their sources to
/// us but not the error they were made from.
#[derive(Debug)]
struct Words {
    verdict: Verdict,
    text: String,
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Words {}

/// What a failed attempt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Retry as the task's policy says.
    Retry,
    /// Retry after this time instead of the policy's interval.
    RetryAfter(Duration),
    /// Never retry: the task is dead at once.
    Permanent,
    /// A newer build wrote the row: put it back without an attempt.
    Defer,
    /// The body stopped because it was asked to: put back without an attempt in a shutdown, else retried.
    Interrupted,
}

impl TaskError {
    /// An error no retry can mend. The task is dead after this attempt, whatever `max_attempts` says.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self::with_verdict(Verdict::Permanent, &*error.into())
    }

    /// Retry after `delay` instead of the task's own interval. The attempt still counts towards `max_attempts`.
    pub fn retry_after(delay: Duration, error: impl Into<BoxError>) -> Self {
        Self::with_verdict(Verdict::RetryAfter(delay), &*error.into())
    }

    /// The body stopped early because `cx.is_cancelled()` said so. In a shutdown the row is put back without an attempt, to run
    /// elsewhere at once; otherwise this is an ordinary failure.
    pub fn interrupted(error: impl Into<BoxError>) -> Self {
        Self::with_verdict(Verdict::Interrupted, &*error.into())
    }

    /// An ordinary failure: retried as the task's policy says.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self::from_error(&*error.into())
    }

    /// An ordinary failure from a text.
    pub fn message(text: impl fmt::Display) -> Self {
        Self { words: Words { verdict: Verdict::Retry, text: text.to_string() } }
    }

    /// Takes over the text and the source chain of `error`; a [`TaskError`] anywhere in the chain keeps its verdict.
    pub fn from_error(error: &(dyn StdError + 'static)) -> Self {
        let mut cause = Some(error);
        let mut verdict = Verdict::Retry;
        for _ in 0..LOOKED_THROUGH_MAX {
            let Some(current) = cause else { break };
            let words = current.downcast_ref::<TaskError>().map(|inner| &inner.words);
            if let Some(words) = words.or_else(|| current.downcast_ref::<Words>()) {
                verdict = words.verdict;
                break;
            }
            cause = current.source();
        }
        Self::with_verdict(verdict, error)
    }

    /// What the attempt asks for.
    pub fn verdict(&self) -> Verdict {
        self.words.verdict
    }

    /// What becomes `error_message`: the error's `Display` on the first line, then one `caused by:` line a source, for at most
    /// 1,000 of them. Values of `#[sensitive]` parameters are still in it; they are left out when it is stored or reported.
    pub fn text(&self) -> &str {
        &self.words.text
    }

    #[doc(hidden)]
    pub fn deferred(text: String) -> Self {
        Self { words: Words { verdict: Verdict::Defer, text } }
    }

    fn with_verdict(verdict: Verdict, error: &(dyn StdError + 'static)) -> Self {
        Self { words: Words { verdict, text: chain_text(error) } }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.words, f)
    }
}

impl StdError for TaskError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.words)
    }
}

/// Why a call was not stored. Nothing of it is in the database, and the caller's transaction is still usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// An argument could not be serialized.
    #[error("task `{task}`: parameter `{parameter}` cannot be stored: {reason}")]
    Unserializable {
        /// The task's name.
        task: &'static str,
        /// The parameter's name.
        parameter: &'static str,
        /// What the serializer said.
        reason: String,
    },
    /// The arguments are larger than the configured limit.
    #[error(
        "task `{task}`: its arguments take {bytes} bytes, the limit is {limit} (largest: parameter `{parameter}` with {parameter_bytes}); \
         store the data in a table of your own and pass its key, or raise `max_argument_bytes`"
    )]
    TooLarge {
        /// The task's name.
        task: &'static str,
        /// The largest parameter.
        parameter: &'static str,
        /// Size of the largest parameter in bytes.
        parameter_bytes: usize,
        /// Size of all arguments in bytes.
        bytes: usize,
        /// The configured limit in bytes.
        limit: usize,
    },
    /// A modifier of the call is out of range.
    #[error("task `{task}`: {reason}")]
    BadModifier {
        /// The task's name.
        task: &'static str,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// The attempt that wanted to enqueue has ended.
    #[error("the attempt of task `{task}` is over: what it enqueues must be enqueued before its body returns")]
    AttemptOver {
        /// The name of the task whose attempt is over.
        task: &'static str,
    },
    /// The outbox does not serve this task: it was left out by `only`, or never registered.
    #[error("task `{task}` is not served by this outbox; add it to `only([..])` or register it")]
    NotServed {
        /// The task's name.
        task: &'static str,
    },
}

/// What a store answers when it cannot do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A passing fault: deadlock, serialization failure, lock timeout, lost connection. Worth another try.
    #[error("{0}")]
    Transient(#[source] BoxError),
    /// A passing fault as well: somebody holds a lock on a row, and it was waited for long enough. The same call for other rows
    /// may succeed now.
    #[error("{0}")]
    Locked(#[source] BoxError),
    /// The same statement would fail again.
    #[error("{0}")]
    Fatal(#[source] BoxError),
    /// The lease was lost: another node may own the row now. Nothing was written.
    #[error("the lease was lost: another node may own the task now")]
    LeaseLost,
}

impl StoreError {
    /// Whether the same call may succeed when tried again.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Transient(_) | StoreError::Locked(_))
    }
}

/// Everything that keeps a runtime from starting, listed at once.
#[derive(Debug)]
pub struct StartError {
    problems: Vec<Problem>,
}

impl StartError {
    /// Collects `problems`; `Ok` when there are none.
    pub fn check(problems: Vec<Problem>) -> Result<(), StartError> {
        if problems.is_empty() { Ok(()) } else { Err(StartError { problems }) }
    }

    /// What is wrong, in the order it was found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for StartError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "the outbox cannot start: {only}"),
            many => {
                write!(f, "the outbox cannot start, {} problems:", many.len())?;
                many.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

impl StdError for StartError {}

/// One reason not to start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Two functions answer to one name.
    #[error("two tasks are named `{name}`: {first} and {second}; give one of them another `name = \"..\"`")]
    DuplicateName {
        /// The name both claim.
        name: String,
        /// `file:line` of one.
        first: String,
        /// `file:line` of the other.
        second: String,
    },
    /// A task's `#[inject]` parameter has no value.
    #[error("task `{task}` ({place}) needs `{wanted}`; add `.inject(..)` with a value of that type to the builder")]
    MissingState {
        /// The task's name.
        task: &'static str,
        /// `file:line` of the function.
        place: String,
        /// The type nobody injected.
        wanted: &'static str,
    },
    /// A task's `#[tx]` parameter is for another kind of connection.
    #[error(
        "task `{task}` ({place}) takes a `{wanted}`, but this outbox runs on `{}`; leave it out with `only([..])` or change its `#[tx]` parameter",
        found.join("` and `")
    )]
    WrongConnection {
        /// The task's name.
        task: &'static str,
        /// `file:line` of the function.
        place: String,
        /// The connection type the task takes.
        wanted: &'static str,
        /// The connection types of this outbox.
        found: Vec<&'static str>,
    },
    /// A name in `only` or `expect_tasks` belongs to no registered function.
    #[error(
        "no function is registered under the name `{name}`; a crate that nobody names is dropped by the linker: write `use the_crate as _;`"
    )]
    UnknownTask {
        /// The name nobody answers to.
        name: String,
    },
    /// A setting is out of range or contradicts another.
    #[error("setting `{setting}`: {reason}")]
    Setting {
        /// The builder method.
        setting: &'static str,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// The database address cannot be used, or the database does not answer.
    #[error("database: {0}")]
    Database(String),
    /// The table is missing or of another version.
    #[error("table: {0}")]
    Table(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_text::tests::Circle;

    /// Shows its sources but not itself, as the boxed form of `anyhow::Error` does.
    #[derive(Debug)]
    struct Wrapper(TaskError);
    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(&self.0, f)
        }
    }
    impl StdError for Wrapper {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.0.source()
        }
    }

    #[test]
    fn deliberate_words_keep_their_meaning_inside_wrappers() {
        let wrapped = TaskError::new(Wrapper(TaskError::permanent("over")));
        assert_eq!(wrapped.verdict(), Verdict::Permanent);
        assert_eq!(wrapped.text(), "over");
        let outer = TaskError::new(std::io::Error::other(TaskError::retry_after(Duration::from_secs(1), "busy")));
        assert_eq!(outer.verdict(), Verdict::RetryAfter(Duration::from_secs(1)));
    }

    #[test]
    fn the_whole_source_chain_is_kept_one_line_each() {
        let inner = std::io::Error::other("disk on fire");
        let outer = StoreError::Fatal(Box::new(std::io::Error::new(std::io::ErrorKind::NotFound, inner)));
        assert_eq!(TaskError::new(outer).text(), "disk on fire");
    }

    #[test]
    fn a_chain_without_an_end_ends_and_a_deep_one_keeps_its_verdict() {
        #[derive(Debug, thiserror::Error)]
        #[error("around")]
        struct Around(#[source] BoxError);
        assert_eq!(TaskError::new(Circle).verdict(), Verdict::Retry);
        let deep = (0..10_000).fold(BoxError::from(TaskError::permanent("over")), |inner, _| Box::new(Around(inner)));
        assert_eq!(TaskError::new(deep).verdict(), Verdict::Permanent);
    }
}
