//! `MemoryStore`: values under string keys, shared by the tasks of a run and by its threads.
//!
//! The values lie in a Python dict whose keys are all of the exact type `str`: no lookup runs code of the user's, and
//! each single operation of the dict is atomic, by the GIL or by the dict's own lock. What takes more than one such
//! operation, or must not come between those of an `update`, is a *write* and goes through `write` or `lock.enter`; reads never
//! wait, and see what was there before a running `update`. Old values are let go of after the lock, because a
//! finaliser may use the store.

mod lock;
mod types;
mod words;

use std::sync::Arc;

use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use lock::WriteLock;
use words::{describe_keys, key_not_found, plain_string, refuse_coroutine, type_mismatch, type_name};

/// An argument that may be left out, where `None` is a value like any other.
enum Given<'py> {
    Nothing,
    Value(Bound<'py, PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Given::Value(object.to_owned()))
    }
}

/// Values under string keys, safe from any thread.
#[pyclass(frozen, subclass, weakref, mapping, module = "cano")]
pub(crate) struct MemoryStore {
    /// Shared with every scope of this store.
    values: Py<PyDict>,
    lock: Arc<WriteLock>,
    /// What a scope puts before its keys, the slash included.
    prefix: Option<Py<PyString>>,
}

/// A view of a store whose keys all begin with a prefix.
#[pyclass(frozen, extends = MemoryStore, module = "cano")]
pub(crate) struct ScopedStore;

/// What is not for Python: keys, and the two ways to the values.
impl MemoryStore {
    fn values<'py>(&self, py: Python<'py>) -> &Bound<'py, PyDict> {
        self.values.bind(py)
    }

    /// The key under which `key` lies in the dict.
    fn key<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
        let py = key.py();
        let plain = match key.cast_exact::<PyString>() {
            Ok(plain) => plain.clone(),
            Err(_) => plain_string(key)?,
        };
        match &self.prefix {
            None => Ok(plain),
            Some(prefix) => Ok(prefix.bind(py).add(plain)?.cast_into()?),
        }
    }

    /// Does a write: `action` runs alone, and must neither run code of the user's nor let go of a value.
    fn write<T>(&self, py: Python<'_>, action: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        #[cfg(Py_GIL_DISABLED)]
        let _entered = self.lock.enter_briefly(py)?;
        #[cfg(not(Py_GIL_DISABLED))]
        while self.lock.is_taken() {
            self.lock.wait(py)?;
        }
        action()
    }

    /// A copy of what this store or scope holds, by the keys it is asked with.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = self.values(py).copy()?;
        let Some(prefix) = &self.prefix else {
            return Ok(all);
        };
        let mine = PyDict::new(py);
        for (key, value) in all {
            if starts_with(&key, prefix.bind(py))? {
                mine.set_item(key.call_method1(intern!(py, "removeprefix"), (prefix,))?, value)?;
            }
        }
        Ok(mine)
    }

    /// Takes the value under `key`, the one in the dict, away.
    fn take<'py>(&self, py: Python<'py>, key: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let values = self.values(py);
        self.write(py, || {
            let value = values.get_item(key)?;
            if value.is_some() {
                values.del_item(key)?;
            }
            Ok(value)
        })
    }

    fn set<'py>(&self, key: &Bound<'py, PyString>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = key.py();
        let values = self.values(py);
        self.write(py, || {
            let old = values.get_item(key)?;
            values.set_item(key, value)?;
            Ok(old)
        })
        .map(drop)
    }

    /// The middle of `update`. What it answers must outlive the lock: the new value, and what `fn` itself put there.
    fn replace<'py>(
        &self,
        key: &Bound<'py, PyString>,
        old: &Bound<'py, PyAny>,
        r#fn: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        let values = self.values(key.py());
        let new = r#fn.call1((old,))?;
        refuse_coroutine(&new)?;
        let replaced = values.get_item(key)?;
        values.set_item(key, &new)?;
        Ok((new, replaced))
    }

    fn find<'py>(&self, key: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.values(key.py()).get_item(key)?.ok_or_else(|| key_not_found(key))
    }
}

#[pymethods]
impl MemoryStore {
    #[new]
    fn new(py: Python<'_>) -> Self {
        Self { values: PyDict::new(py).unbind(), lock: Arc::default(), prefix: None }
    }

    /// Puts `value` under `key`, in place of what was there.
    fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set(&self.key(key)?, value)
    }

    /// The value under `key`, if it is of the type asked for.
    #[pyo3(signature = (key, r#type=Given::Nothing, *, default=Given::Nothing))]
    #[pyo3(text_signature = "($self, key, type=..., *, default=...)")]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        r#type: Given<'py>,
        default: Given<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (r#type, default) = match (r#type, default) {
            (Given::Value(mark), Given::Nothing) if types::is_bare_object(&mark) => {
                if !key.is_instance_of::<PyString>() {
                    return Ok(mark);
                }
                (Given::Nothing, Given::Value(mark))
            }
            given => given,
        };
        let key = self.key(key)?;
        let value = match (self.values(key.py()).get_item(&key)?, default) {
            (Some(value), _) => value,
            (None, Given::Value(default)) => return Ok(default),
            (None, Given::Nothing) => return Err(key_not_found(&key)),
        };
        match r#type {
            Given::Value(wanted) if !types::is_of_type(&value, &wanted)? => Err(type_mismatch(&key, &wanted, &value)),
            _ => Ok(value),
        }
    }

    /// Removes `key` and returns the value that was there.
    fn remove<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let key = self.key(key)?;
        self.take(key.py(), &key)?.ok_or_else(|| key_not_found(&key))
    }

    /// Appends `item` to the list under `key`, which is made if there is none.
    fn append(&self, key: &Bound<'_, PyAny>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = self.key(key)?;
        let py = key.py();
        let values = self.values(py);
        // Made first: making a list may run the garbage collector, which may run anything.
        let fresh = PyList::new(py, [item])?;
        let found = self.write(py, || match values.get_item(&key)? {
            None => values.set_item(&key, &fresh).map(|()| None),
            Some(list) => match list.cast_exact::<PyList>() {
                Ok(list) => list.append(item).map(|()| None),
                Err(_) => Ok(Some(list)),
            },
        })?;
        match found {
            None => Ok(()),
            Some(other) if !other.is_instance_of::<PyList>() => {
                Err(type_mismatch(&key, py.get_type::<PyList>().as_any(), &other))
            }
            // A subclass may have an append() of its own, which is the user's code: as careful as update().
            Some(_) => {
                let entered = self.lock.enter(py)?;
                let list = self.values(py).get_item(&key)?;
                let outcome = match &list {
                    Some(list) if list.is_instance_of::<PyList>() => {
                        list.call_method1(intern!(py, "append"), (item,)).map(drop)
                    }
                    Some(other) => Err(type_mismatch(&key, py.get_type::<PyList>().as_any(), other)),
                    None => values.set_item(&key, fresh),
                };
                drop(entered);
                outcome
            }
        }
    }

    /// Puts `fn(value)` in the place of the value under `key`, and returns it.
    fn update<'py>(&self, key: &Bound<'py, PyAny>, r#fn: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let key = self.key(key)?;
        let py = key.py();
        if !r#fn.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "update() needs a function that takes the old value and returns the new one; got {}",
                type_name(r#fn)?
            )));
        }
        // The function is the user's.
        crate::hook::caught(py, || {
            let entered = self.lock.enter(py)?;
            crate::fail::point();
            let old = self.values(py).get_item(&key)?;
            let outcome = match &old {
                Some(old) => self.replace(&key, old, r#fn),
                None => Err(key_not_found(&key)),
            };
            drop(entered);
            outcome.map(|(new, _)| new)
        })
    }

    /// Whether there is a value under `key`. What is no string is no key.
    fn contains_key(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        if !key.is_instance_of::<PyString>() {
            return Ok(false);
        }
        let key = self.key(key)?;
        self.values(key.py()).contains(key)
    }

    /// The keys of this moment, in the order they were first put.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.copy(py)?.keys())
    }

    /// The values of this moment, in the order their keys were first put.
    #[pyo3(name = "values")]
    fn list_values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.copy(py)?.values())
    }

    /// The keys with their values of this moment, in the order the keys were first put.
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.copy(py)?.items())
    }

    /// How many keys there are.
    fn len(&self, py: Python<'_>) -> PyResult<usize> {
        match self.prefix {
            None => Ok(self.values(py).len()),
            Some(_) => Ok(self.copy(py)?.len()),
        }
    }

    /// Whether there is no key.
    fn is_empty(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.len(py)? == 0)
    }

    /// Removes every key of this store, or of this scope.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        // Really entered, not only waited for: making the copy may run the garbage collector, and with it other threads.
        let entered = self.lock.enter(py)?;
        let outcome = self.copy(py).and_then(|old| {
            if self.prefix.is_none() {
                self.values(py).clear();
            } else {
                for key in old.keys() {
                    let key = self.key(&key)?;
                    // A finaliser that ran while the copy was made may have been here before us.
                    if self.values(py).contains(&key)? {
                        self.values(py).del_item(key)?;
                    }
                }
            }
            Ok(old)
        });
        drop(entered);
        outcome.map(drop)
    }

    /// A dict with the keys and values of this moment.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.copy(py)
    }

    /// A view of this store in which each key stands for `prefix/key`.
    fn scoped<'py>(&self, prefix: &Bound<'py, PyAny>) -> PyResult<Bound<'py, ScopedStore>> {
        let py = prefix.py();
        if !prefix.is_instance_of::<PyString>() {
            let came = type_name(prefix)?;
            return Err(PyTypeError::new_err(format!("a scope's prefix must be a string; got {came}")));
        }
        if prefix.is_empty()? {
            return Err(PyValueError::new_err("a scope's prefix must not be empty; use the store itself instead"));
        }
        let prefix = self.key(prefix)?.add("/")?.cast_into()?.unbind();
        let base = Self { values: self.values.clone_ref(py), lock: Arc::clone(&self.lock), prefix: Some(prefix) };
        Bound::new(py, PyClassInitializer::from(base).add_subclass(ScopedStore))
    }

    /// Removes `key` and returns its value, or `default` if there is none.
    #[pyo3(signature = (key, default=Given::Nothing, /))]
    #[pyo3(text_signature = "($self, key, default=..., /)")]
    fn pop<'py>(&self, key: &Bound<'py, PyAny>, default: Given<'py>) -> PyResult<Bound<'py, PyAny>> {
        let key = self.key(key)?;
        match (self.take(key.py(), &key)?, default) {
            (Some(value), _) | (None, Given::Value(value)) => Ok(value),
            (None, Given::Nothing) => Err(key_not_found(&key)),
        }
    }

    /// Removes the key that was put last and returns it with its value.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let _entered = self.lock.enter(py)?;
        let last = match self.prefix {
            None if self.values(py).is_empty() => None,
            None => return Ok(self.values(py).call_method0(intern!(py, "popitem"))?.cast_into()?),
            Some(_) => self.copy(py)?.into_iter().last(),
        };
        let Some((key, _)) = last else {
            return Err(PyKeyError::new_err("popitem(): the store is empty"));
        };
        let value = self.remove(&key)?;
        PyTuple::new(py, [key, value])
    }

    /// The value under `key`; if there is none, `default` is put there first.
    #[pyo3(signature = (key, default=None, /))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let key = self.key(key)?;
        let py = key.py();
        let values = self.values(py);
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        self.write(py, || match values.get_item(&key)? {
            Some(value) => Ok(value),
            None => values.set_item(&key, &default).map(|()| default),
        })
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.find(&self.key(key)?)
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key, value)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.remove(key).map(drop)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.contains_key(key)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.len(py)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.keys(py)?.try_iter()?.into_any())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let keys = self.copy(py)?.keys();
        let name = match &self.prefix {
            None => "MemoryStore".to_owned(),
            Some(prefix) => {
                let prefix = prefix.bind(py).call_method1(intern!(py, "removesuffix"), ("/",))?;
                format!("ScopedStore {}", prefix.repr()?.to_string_lossy())
            }
        };
        Ok(format!("<{name} {}>", describe_keys(&keys)?))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a store cannot be pickled or copied; its snapshot() can, if its values can"))
    }

    // No __clear__: every cycle through a store goes through the dict, which the collector clears itself. A scope that
    // cleared it would empty the store of somebody else.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.values)?;
        visit.call(&self.prefix)
    }
}

#[pymethods]
impl ScopedStore {
    #[new]
    fn new() -> PyResult<PyClassInitializer<Self>> {
        Err(PyTypeError::new_err("a ScopedStore is made by store.scoped(prefix)"))
    }
}

/// Makes a store count as a `MutableMapping`, for `isinstance` and for `match`.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    let mapping = py.import("_collections_abc")?.getattr("MutableMapping")?;
    mapping.call_method1("register", (py.get_type::<MemoryStore>(),))?;
    Ok(())
}

fn starts_with(key: &Bound<'_, PyAny>, prefix: &Bound<'_, PyString>) -> PyResult<bool> {
    key.call_method1(intern!(key.py(), "startswith"), (prefix,))?.is_truthy()
}
