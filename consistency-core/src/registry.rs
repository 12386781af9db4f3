//! From task name to code: what registered itself, what was registered by hand, and the checks before a start.

use std::collections::HashMap;

use crate::error::Problem;
use crate::inject::InjectedState;
use crate::task::{Body, NeededType, TaskDefinition};

/// A task that registers itself at link time. Generated code submits it.
#[derive(Debug)]
pub struct Registration(pub &'static TaskDefinition);

inventory::collect!(Registration);

/// The tasks one outbox serves, by name and alias.
#[derive(Debug, Default)]
pub struct Registry {
    by_name: HashMap<&'static str, &'static TaskDefinition>,
}

impl Registry {
    /// Gathers the linked and the explicitly registered tasks, restricted to the names in `only` if given.
    ///
    /// Of several functions with one name whose `#[tx]` parameters differ, the one for `connection` is taken: a program that
    /// runs on several databases may stamp a task out for each. Every other duplicate name of a served task, and every name
    /// in `only` or `expected` that nobody answers to, is added to `problems`.
    pub fn gather(
        registered: &[&'static TaskDefinition],
        only: Option<&[String]>,
        expected: &[String],
        connection: Option<NeededType>,
        problems: &mut Vec<Problem>,
    ) -> Registry {
        let linked = inventory::iter::<Registration>.into_iter().map(|registration| registration.0);
        let mut all: Vec<&'static TaskDefinition> = linked.chain(registered.iter().copied()).collect();
        // Those of another connection come last, and so give way.
        all.sort_by_key(|task| (is_foreign(task, connection), task.name, task.file, task.line, task.module));
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
                if !is_foreign(definition, connection) && (served(first) || served(definition)) {
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
    pub fn check(&self, state: &InjectedState, connection: Option<NeededType>, problems: &mut Vec<Problem>) {
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
            if let (true, Body::Transactional { connection: wanted, .. }, Some(found)) =
                (is_foreign(definition, connection), definition.body, connection)
            {
                problems.push(Problem::WrongConnection {
                    task: definition.name,
                    place: definition.place(),
                    wanted: wanted().name,
                    found: found.name,
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
fn is_foreign(task: &TaskDefinition, connection: Option<NeededType>) -> bool {
    match (task.body, connection) {
        (Body::Transactional { connection: wanted, .. }, Some(found)) => wanted().id != found.id,
        _ => false,
    }
}
