//! Nodes within the test's own process, on whatever store a test hands them, with bodies that a test steers.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::call::Call;
use consistency_core::context::TaskContext;
use consistency_core::enqueue::EnqueueRules;
use consistency_core::error::TaskError;
use consistency_core::inject::InjectedState;
use consistency_core::new_task::NewTask;
use consistency_core::registry::Registry;
use consistency_core::runtime::{Parts, Runtime};
use consistency_core::settings::Settings;
use consistency_core::store::Store;
use consistency_core::task::TaskDefinition;
use parking_lot::{Condvar, Mutex};

use crate::database::Database;
use crate::effects::Effects;
use crate::faults::orders::ORDER;
use crate::recorder::{DEADLINE, Recorder, wait_until};

/// What steered bodies are told, one after the other in the order of their begins.
#[derive(Debug, Default)]
pub struct Wheel {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    begun: usize,
    /// What each is to answer, by its number from 0; a body waits until it is there.
    answers: Vec<Option<bool>>,
}

impl Wheel {
    /// Waits until `count` bodies have begun.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        wait_until(&format!("{count} bodies to begin"), || self.told.lock().begun >= count);
    }

    /// Lets the body that began as number `number`, from 0, end well or with an error.
    pub fn answer(&self, number: usize, well: bool) {
        let mut told = self.told.lock();
        let length = told.answers.len().max(number + 1);
        told.answers.resize(length, None);
        told.answers[number] = Some(well);
        self.changed.notify_all();
    }

    /// Lets every body end well that has no answer yet, and all that are still to come up to a hundred.
    pub fn let_all_end_well(&self) {
        let mut told = self.told.lock();
        told.answers.resize(100, None);
        told.answers.iter_mut().for_each(|answer| *answer = answer.or(Some(true)));
        self.changed.notify_all();
    }

    fn begin(&self) -> usize {
        let mut told = self.told.lock();
        told.begun += 1;
        told.begun - 1
    }

    fn wait_for_answer(&self, number: usize) -> bool {
        let mut told = self.told.lock();
        loop {
            if let Some(well) = told.answers.get(number).copied().flatten() {
                return well;
            }
            assert!(
                !self.changed.wait_for(&mut told, DEADLINE).timed_out(),
                "body {number} waited in vain for its answer"
            );
        }
    }
}

/// What a steered body does: writes its effect, and ends as the wheel says. The task itself stands in the test that uses it,
/// for tasks register themselves in every program they are linked into.
///
/// # Errors
/// The test's, and the database's.
pub fn run(effects: &Effects, wheel: &Wheel, cx: &TaskContext) -> Result<(), TaskError> {
    let run = effects.begin(cx).map_err(TaskError::new)?;
    if wheel.wait_for_answer(wheel.begin()) {
        run.succeeded().map_err(TaskError::new)
    } else {
        Err(TaskError::message("as the test wishes"))
    }
}

/// The pending row of a call that belongs to `order`.
pub fn row(call: Call, order: i64) -> NewTask {
    NewTask::from_call(call.biz(ORDER, order), 1 << 20).expect("a row")
}

/// A node on a store that runs one task until it is dropped.
#[derive(Debug)]
pub struct InProcessNode {
    runtime: Arc<Runtime>,
    /// What it reports.
    pub recorder: Recorder,
}

impl InProcessNode {
    /// Starts it, with the ledger of effects and the wheel to inject. It looks for rows every 20 ms and keeps them for
    /// `lease`.
    pub fn start(
        task: &'static TaskDefinition,
        database: &Database,
        store: Arc<dyn Store>,
        wheel: &Arc<Wheel>,
        lease: Duration,
    ) -> InProcessNode {
        let mut problems = Vec::new();
        let registry = Registry::gather(&[task], Some(&[task.name.to_owned()]), &[], &[], &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let mut state = InjectedState::default();
        state.insert(Effects::beside(&database.url()));
        state.insert(Arc::clone(wheel));
        let settings = Settings {
            concurrency: 4,
            poll_interval: Duration::from_millis(20),
            lease,
            heartbeat: lease / 4,
            ..Settings::default()
        };
        let rules = EnqueueRules { max_argument_bytes: 1 << 20, served: None, queues: None };
        let recorder = Recorder::new();
        let parts = Parts {
            settings,
            registry,
            state,
            announce: None,
            rules: Arc::new(rules),
            listeners: vec![Arc::new(recorder.listener())],
        };
        InProcessNode { runtime: Runtime::start(parts, store).expect("threads for a node"), recorder }
    }
}

impl Drop for InProcessNode {
    fn drop(&mut self) {
        self.runtime.shutdown();
    }
}
