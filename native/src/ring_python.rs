//! `sentio_native.Slots`: the face of `ring`. The GIL is released while slots become messages.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::ring::{self, Fault, Field, Kind, Origin, Shape};

/// shape, offset, size, optional, whole, real, words: `producers.sidecar.layout.Field`.
type PlainField = (String, usize, usize, bool, Option<(i128, i128)>, Option<(f64, bool, f64)>, Vec<String>);
/// number, id of its schema, fields, index of the time and of the key among them.
type PlainKind = (u64, u32, Vec<PlainField>, usize, usize);
/// place, index of the kind, fault, what it is of.
type PlainRefusal = (usize, usize, &'static str, u64);
type Texts<'py> = Vec<Bound<'py, PyBytes>>;

#[pyclass(frozen)]
pub struct Slots {
    kinds: Vec<Kind>,
}

#[pymethods]
impl Slots {
    #[new]
    fn new(kinds: Vec<PlainKind>) -> PyResult<Self> {
        Ok(Slots { kinds: kinds.into_iter().map(kind).collect::<PyResult<_>>()? })
    }

    /// Keys and values of the messages of each kind, and the slots that are in none.
    fn messages<'py>(
        &self,
        py: Python<'py>,
        slots: &[u8],
        first: u64,
        ring: u128,
        producer: &str,
        latest_us: i64,
    ) -> (Vec<(Texts<'py>, Texts<'py>)>, Vec<PlainRefusal>) {
        let origin = Origin { first, ring, producer, latest_us };
        let (found, refused) = py.detach(|| ring::messages(&self.kinds, slots, &origin));
        let found = found.iter().map(|messages| {
            messages.iter().map(|(key, value)| (PyBytes::new(py, key), PyBytes::new(py, value))).unzip()
        });
        let refused = refused.into_iter().map(|refusal| {
            let (fault, of) = plain(refusal.fault);
            (refusal.place, refusal.kind, fault, of)
        });
        (found.collect(), refused.collect())
    }
}

fn kind((number, schema, fields, time, key): PlainKind) -> PyResult<Kind> {
    let fields = fields.into_iter().map(field).collect::<PyResult<_>>()?;
    Kind::new(number, schema, fields, time, key).ok_or_else(|| PyValueError::new_err("a field lies outside its slot"))
}

fn field((name, offset, size, optional, whole, real, words): PlainField) -> PyResult<Field> {
    let shape = match name.as_str() {
        "text" => Shape::Text,
        "word" => Shape::Word,
        "int" => Shape::Int,
        "long" => Shape::Long,
        "decimal" => Shape::Decimal,
        "double" => Shape::Double,
        _ => return Err(PyValueError::new_err(format!("unknown shape {name}"))),
    };
    Ok(Field { shape, offset, size, optional, whole, real, words: i32::try_from(words.len())? })
}

fn plain(fault: Fault) -> (&'static str, u64) {
    match fault {
        Fault::Damaged => ("damaged", 0),
        Fault::Elsewhere(position) => ("elsewhere", position),
        Fault::Word(field) => ("word", field as u64),
        Fault::Limits(field) => ("limits", field as u64),
        Fault::Text(field) => ("text", field as u64),
        Fault::Ahead(field) => ("ahead", field as u64),
    }
}
