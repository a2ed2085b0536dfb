//! Whether a value is of the type that `get(key, type)` asks for.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyTuple, PyType};

use crate::once::Once;

/// Whether it is an `object()` and nothing more: what marks an absence, and can be no type.
pub(super) fn is_bare_object(value: &Bound<'_, PyAny>) -> bool {
    value.get_type().is(value.py().get_type::<PyAny>())
}

/// Whether `value` is an instance of `wanted`: a class, a union, a tuple of them, or a generic such as `list[int]`, of
/// which only the class is looked at. A `bool` is no `int` here: who asks for a number is not served with a truth.
pub(super) fn is_of_type<'py>(value: &Bound<'py, PyAny>, wanted: &Bound<'py, PyAny>) -> PyResult<bool> {
    static UNION: Once<Py<PyType>> = Once::new();
    let py = value.py();
    if value.get_type().is(wanted) {
        return Ok(true);
    }
    if wanted.is_exact_instance_of::<PyType>() {
        return Ok(is_instance(value, wanted)? && !is_truth_for_number(value, wanted));
    }
    if let Ok(several) = wanted.cast::<PyTuple>() {
        for one in several {
            if is_of_type(value, &one)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    if wanted.is_instance(UNION.import(py, "types", "UnionType")?)? {
        return is_of_type(value, &wanted.getattr("__args__")?);
    }
    // list[int] is a types.GenericAlias, SplitResult[int] is of a private class of typing: both name their class here.
    if !wanted.is_instance_of::<PyType>() {
        if let Some(origin) = wanted.getattr_opt("__origin__")? {
            if origin.is_instance_of::<PyType>() {
                return is_of_type(value, &origin);
            }
        }
    }
    is_instance(value, wanted)
}

fn is_truth_for_number(value: &Bound<'_, PyAny>, wanted: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyBool>() && wanted.is(value.py().get_type::<PyInt>())
}

fn is_instance(value: &Bound<'_, PyAny>, wanted: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.is_instance(wanted).map_err(|error| {
        let py = value.py();
        if !error.is_instance_of::<PyTypeError>(py) {
            return error;
        }
        let came = match wanted.repr() {
            Ok(repr) => repr.to_string_lossy().into_owned(),
            Err(unprintable) => return unprintable,
        };
        let refused = PyTypeError::new_err(format!(
            "the type to get() must be a class, a union or a tuple of classes; got {came}. \
             What to answer for a missing key is written get(key, default=...)"
        ));
        refused.set_cause(py, Some(error));
        refused
    })
}
