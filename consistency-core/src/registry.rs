//! From task name to code: what registered itself, what was registered by hand, and the checks before a start.

use std::collections::HashMap;

use crate::error::Problem;
use crate::inject::InjectedState;
use crate::task::{NeededType, TaskDefinition};

/// A task that registers itself at link time. Generated code submits it.
#[derive(Debug)]
pub struct Registration(pub &'static TaskDefinition);

#[cfg(not(feature = "linkme"))]
inventory::collect!(Registration);

/// What registered itself: a section of the program. The section has this name, so no other crate may use it.
#[cfg(feature = "linkme")]
#[doc(hidden)]
#[linkme::distributed_slice]
pub static CONSISTENCY_REGISTRATIONS: [Registration];

/// Makes a definition known at link time. The attribute cannot see which feature is on, so it writes this, in a block.
#[cfg(not(feature = "linkme"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    ($definition:expr) => {
        $crate::__private::inventory::submit! { $crate::__private::Registration($definition) }
    };
}

/// Makes a definition known at link time: an element of the section. Inventory's form is above.
#[cfg(feature = "linkme")]
#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    ($definition:expr) => {
        #[$crate::__private::linkme::distributed_slice($crate::__private::CONSISTENCY_REGISTRATIONS)]
        #[linkme(crate = $crate::__private::linkme)]
        static REGISTRATION: $crate::__private::Registration = $crate::__private::Registration($definition);
    };
}

/// Every task of this program that registered itself.
fn linked() -> impl Iterator<Item = &'static TaskDefinition> {
    #[cfg(not(feature = "linkme"))]
    let registrations = inventory::iter::<Registration>;
    #[cfg(feature = "linkme")]
    let registrations = CONSISTENCY_REGISTRATIONS;
    registrations.into_iter().map(|registration| registration.0)
}

/// The tasks one outbox serves, by name and alias.
#[derive(Debug, Default)]
pub struct Registry {
    by_name: HashMap<&'static str, &'static TaskDefinition>,
}

impl Registry {
    /// Gathers the linked and the explicitly registered tasks, restricted to the names in `only` if given.
    ///
    /// Of several functions with one name whose `#[tx]` parameters differ, the one for one of the `connections` is taken: a
    /// program that runs on several databases may stamp a task out for each. No `connections` at all means that they are not
    /// known. Every other duplicate name of a served task, and every name
    /// in `only` or `expected` that nobody answers to, is added to `problems`.
    pub fn gather(
        registered: &[&'static TaskDefinition],
        only: Option<&[String]>,
        expected: &[String],
        connections: &[NeededType],
        problems: &mut Vec<Problem>,
    ) -> Registry {
        let mut all: Vec<&'static TaskDefinition> = linked().chain(registered.iter().copied()).collect();
        // Those of another connection come last, and so give way.
        all.sort_by_key(|task| (is_foreign(task, connections), task.name, task.file, task.line, task.module));
        // A task may be linked and registered by hand: the same definition twice is no duplicate.
        all.dedup_by_key(|task| (task.name, task.file, task.line, task.module));

        let served = |task: &TaskDefinition| only.is_none_or(|only| only.iter().any(|name| name == task.name));
        let mut registry = Registry::default();
        for definition in &all {
            for name in std::iter::once(definition.name).chain(definition.aliases.iter().copied()) {
                let Some(first) = registry.by_name.get(name) else {
                    registry.by_name.insert(name, definition);
                    continue;
                };
                if !is_foreign(definition, connections) && (served(first) || served(definition)) {
                    problems.push(Problem::DuplicateName {
                        name: name.to_owned(),
                        first: first.place(),
                        second: definition.place(),
                    });
                }
            }
        }
        for name in only.unwrap_or_default().iter().chain(expected) {
            if !registry.by_name.contains_key(name.as_str()) {
                problems.push(Problem::UnknownTask { name: name.clone() });
            }
        }
        if let Some(only) = only {
            registry.by_name.retain(|_, definition| only.iter().any(|name| name == definition.name));
        }
        registry
    }

    /// Adds to `problems` every missing injected value and every wrong connection type of the served tasks.
    pub fn check(&self, state: &InjectedState, connections: &[NeededType], problems: &mut Vec<Problem>) {
        let mut definitions: Vec<_> = self.definitions().collect();
        definitions.sort_by_key(|definition| definition.name);
        for definition in definitions {
            for needed in (definition.injects)() {
                if !state.has(needed) {
                    problems.push(Problem::MissingState {
                        task: definition.name,
                        place: definition.place(),
                        wanted: needed.name,
                    });
                }
            }
            if let Some(wanted) = definition.body.connection()
                && is_foreign(definition, connections)
            {
                problems.push(Problem::WrongConnection {
                    task: definition.name,
                    place: definition.place(),
                    wanted: wanted.name,
                    found: connections.iter().map(|found| found.name).collect(),
                });
            }
        }
    }

    /// The task that answers to `name`.
    pub fn find(&self, name: &str) -> Option<&'static TaskDefinition> {
        self.by_name.get(name).copied()
    }

    /// Every name and alias this registry answers to.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_name.keys().copied()
    }

    /// The served tasks, each once.
    pub fn definitions(&self) -> impl Iterator<Item = &'static TaskDefinition> + '_ {
        self.by_name.iter().filter(|(name, definition)| **name == definition.name).map(|(_, definition)| *definition)
    }
}

/// Whether the task's `#[tx]` parameter is for another kind of connection.
fn is_foreign(task: &TaskDefinition, connections: &[NeededType]) -> bool {
    let known = |wanted: NeededType| connections.iter().any(|connection| connection.id == wanted.id);
    !connections.is_empty() && task.body.connection().is_some_and(|wanted| !known(wanted))
}
