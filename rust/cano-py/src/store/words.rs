//! What a store says: its keys in a `repr`, and what it refuses, word for word as `cano.store` does.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyType};

use crate::once::Once;
use crate::split::is_coroutine;

/// The text of a key of a subclass of `str` (a member of a `StrEnum`, say), as a plain string.
#[cold]
pub(super) fn plain_string<'py>(key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    if !key.is_instance_of::<PyString>() {
        let came = type_name(key)?;
        return Err(PyTypeError::new_err(format!("a store's keys are strings; got {came}")));
    }
    // SAFETY: `key` is a live object; the call returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(key.py(), ffi::PyUnicode_FromObject(key.as_ptr())) }?
        .cast_into()
        .map_err(Into::into)
}

/// How messages name the type of a refused argument.
pub(super) fn type_name(value: &Bound<'_, PyAny>) -> PyResult<String> {
    static TYPE_NAME: Once<Py<PyAny>> = Once::new();
    TYPE_NAME.import(value.py(), "cano._naming", "type_name")?.call1((value.get_type(),))?.extract()
}

/// The keys, not the values: those may be huge, or nothing that belongs into a log.
pub(super) fn describe_keys(keys: &Bound<'_, PyList>) -> PyResult<String> {
    static SHORTEN: Once<Py<PyAny>> = Once::new();
    const SHOWN: usize = 5;
    let count = keys.len();
    let mut text = format!("{count} key{}", if count == 1 { "" } else { "s" });
    for (index, key) in keys.iter().take(SHOWN).enumerate() {
        let key: String = SHORTEN.import(keys.py(), "cano._naming", "shorten")?.call1((key, 40))?.extract()?;
        text.push_str(if index == 0 { ": " } else { ", " });
        text.push_str(&key);
    }
    if count > SHOWN {
        text.push_str(", …");
    }
    Ok(text)
}

pub(super) fn refuse_coroutine(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if !is_coroutine(value) {
        return Ok(());
    }
    value.call_method0("close")?;
    Err(PyTypeError::new_err(
        "update() needs a plain function; this one is async. Await first, then update() with what came of it",
    ))
}

#[cold]
pub(super) fn key_not_found(key: &Bound<'_, PyString>) -> PyErr {
    static CLASS: Once<Py<PyType>> = Once::new();
    match CLASS.import(key.py(), "cano.errors", "KeyNotFoundError") {
        Ok(class) => PyErr::from_type(class.clone(), (key.clone().unbind(),)),
        Err(error) => error,
    }
}

#[cold]
pub(super) fn type_mismatch(key: &Bound<'_, PyString>, expected: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyErr {
    static CLASS: Once<Py<PyType>> = Once::new();
    match CLASS.import(key.py(), "cano.errors", "TypeMismatchError") {
        Ok(class) => {
            let facts = (key.clone().unbind(), expected.clone().unbind(), value.get_type().unbind());
            PyErr::from_type(class.clone(), facts)
        }
        Err(error) => error,
    }
}
