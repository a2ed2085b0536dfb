//! Values that the tasks of a run share.

use std::any::{Any, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

type Value = Box<dyn Any + Send + Sync>;

/// Why a value could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Nothing is stored under this key.
    KeyNotFound {
        /// The key.
        key: String,
    },
    /// Something else than expected is stored under this key, and stays there.
    TypeMismatch {
        /// The key.
        key: String,
        /// The type that was asked for.
        expected: &'static str,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyNotFound { key } => write!(f, "nothing is stored under {key:?}; put it there first"),
            Self::TypeMismatch { key, expected } => {
                write!(f, "expected {expected} under {key:?}, but a value of another type is stored there")
            }
        }
    }
}

impl std::error::Error for StoreError {}

/// A typed map from strings to values. A clone is another handle to the same map.
///
/// No lock is held while the user's code runs, except in [`update`](Self::update), which says so.
///
/// ```
/// use cano_engine::MemoryStore;
///
/// let store = MemoryStore::new();
/// store.put("count", 1_u32);
/// store.update("count", |count: &mut u32| *count += 1)?;
/// assert_eq!(store.get::<u32>("count")?, 2);
/// # Ok::<(), cano_engine::StoreError>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    values: Arc<RwLock<HashMap<String, Value>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a value, in place of whatever was there.
    pub fn put<T: Any + Send + Sync>(&self, key: &str, value: T) {
        let value: Value = Box::new(value);
        let mut values = self.write();
        let old = match values.get_mut(key) {
            // No new key where one is there already.
            Some(slot) => Some(std::mem::replace(slot, value)),
            None => values.insert(key.to_owned(), value),
        };
        drop(values);
        drop(old); // may run the user's code, so not under the lock
    }

    /// A copy of the value.
    ///
    /// # Errors
    ///
    /// The key is missing, or its value is of another type.
    pub fn get<T: Any + Clone>(&self, key: &str) -> Result<T, StoreError> {
        let values = self.read();
        let value = values.get(key).ok_or_else(|| missing(key))?;
        value.downcast_ref::<T>().cloned().ok_or_else(|| mismatch::<T>(key))
    }

    /// Takes the value out.
    ///
    /// # Errors
    ///
    /// The key is missing, or its value is of another type and stays.
    pub fn remove<T: Any>(&self, key: &str) -> Result<T, StoreError> {
        let mut values = self.write();
        if !values.get(key).ok_or_else(|| missing(key))?.is::<T>() {
            return Err(mismatch::<T>(key));
        }
        let value = values.remove(key).and_then(|value| value.downcast::<T>().ok());
        value.map(|value| *value).ok_or_else(|| missing(key))
    }

    /// Adds an item to the vector under a key, or begins one; atomic.
    ///
    /// # Errors
    ///
    /// The value is no vector of such items.
    pub fn append<T: Any + Send + Sync>(&self, key: &str, item: T) -> Result<(), StoreError> {
        let mut values = self.write();
        if let Some(value) = values.get_mut(key) {
            value.downcast_mut::<Vec<T>>().ok_or_else(|| mismatch::<Vec<T>>(key))?.push(item);
        } else {
            values.insert(key.to_owned(), Box::new(vec![item]));
        }
        Ok(())
    }

    /// Changes the value in place; atomic. `change` runs under the store's lock and must not use the store.
    ///
    /// # Errors
    ///
    /// The key is missing, or its value is of another type.
    pub fn update<T: Any, R>(&self, key: &str, change: impl FnOnce(&mut T) -> R) -> Result<R, StoreError> {
        let mut values = self.write();
        let value = values.get_mut(key).ok_or_else(|| missing(key))?;
        value.downcast_mut::<T>().map(change).ok_or_else(|| mismatch::<T>(key))
    }

    /// Whether something is stored under a key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.read().contains_key(key)
    }

    /// The keys, in no particular order.
    pub fn keys(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// How many values are stored.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let old = std::mem::take(&mut *self.write());
        drop(old); // may run the user's code, so not under the lock
    }

    // A panic in `update` leaves what it had changed; the map itself is whole, so the poison says nothing.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Value>> {
        self.values.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Value>> {
        self.values.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.read().keys()).finish()
    }
}

fn missing(key: &str) -> StoreError {
    StoreError::KeyNotFound { key: key.to_owned() }
}

fn mismatch<T>(key: &str) -> StoreError {
    StoreError::TypeMismatch { key: key.to_owned(), expected: type_name::<T>() }
}
