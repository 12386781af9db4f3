//! The application's own values, by type, for `#[inject]` parameters.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::TaskError;
use crate::task::NeededType;

/// The values given to `.inject(..)`, one per type. Cheap to clone.
#[derive(Clone, Default)]
pub struct InjectedState {
    values: Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl InjectedState {
    /// Adds `value`; a second value of the same type replaces the first.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        let mut values = HashMap::clone(&self.values);
        values.insert(TypeId::of::<T>(), Arc::new(value));
        self.values = Arc::new(values);
    }

    /// Whether a value of this type was injected.
    pub fn has(&self, needed: NeededType) -> bool {
        self.values.contains_key(&needed.id)
    }

    /// The value of type `T`.
    ///
    /// # Errors
    /// A permanent [`TaskError`] when there is none; `start()` has already refused such a task.
    pub fn get<T: 'static>(&self) -> Result<&T, TaskError> {
        self.values
            .get(&TypeId::of::<T>())
            .and_then(|value| value.downcast_ref())
            .ok_or_else(|| TaskError::permanent(format!("no value of type `{}` was injected", type_name::<T>())))
    }
}

impl fmt::Debug for InjectedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InjectedState({} values)", self.values.len())
    }
}
