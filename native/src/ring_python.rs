//! `sentio_native.Slots`: the face of `ring`. The GIL is released while slots become columns.

use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use arrow_schema::Schema;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::ring::{self, Fault, Field, Kind, Shape};

/// shape, offset, size, optional, whole, real, words: `producers.sidecar.layout.Field`.
type PlainField = (String, usize, usize, bool, Option<(i128, i128)>, Option<(f64, bool, f64)>, Vec<String>);
/// number, schema of the columns, fields, index of the time among them.
type PlainKind<'py> = (u64, Bound<'py, PyAny>, Vec<PlainField>, usize);
/// place, index of the kind, fault, what it is of.
type PlainRefusal = (usize, usize, &'static str, u64);

/// Columns before those of the fields: event_id, producer, sequence.
const GIVEN: usize = 3;

#[pyclass(frozen)]
pub struct Slots {
    kinds: Vec<Kind>,
}

#[pymethods]
impl Slots {
    #[new]
    fn new(kinds: Vec<PlainKind<'_>>) -> PyResult<Self> {
        Ok(Slots { kinds: kinds.into_iter().map(kind).collect::<PyResult<_>>()? })
    }

    /// A batch for each kind, or None where there are none of it, and the slots that are in no batch.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        slots: &[u8],
        first: u64,
        ring: u128,
        producer: &str,
    ) -> PyResult<(Vec<Option<Bound<'py, PyAny>>>, Vec<PlainRefusal>)> {
        let decoded = py.detach(|| ring::decode(&self.kinds, slots, first, ring, producer));
        let (batches, refused) = decoded.map_err(|failure| PyValueError::new_err(failure.to_string()))?;
        let batches = batches
            .into_iter()
            .map(|batch| (batch.num_rows() > 0).then(|| batch.to_pyarrow(py)).transpose())
            .collect::<PyResult<_>>()?;
        let refused = refused.into_iter().map(|refusal| {
            let (fault, of) = plain(refusal.fault);
            (refusal.place, refusal.kind, fault, of)
        });
        Ok((batches, refused.collect()))
    }
}

fn kind((number, schema, fields, time): PlainKind<'_>) -> PyResult<Kind> {
    let given = std::iter::repeat_n(Vec::new(), GIVEN);
    let words = given.chain(fields.iter().map(|field| field.6.clone())).collect();
    let schema = Schema::from_pyarrow_bound(&schema)?;
    let fields = fields.into_iter().map(field).collect::<PyResult<_>>()?;
    Kind::new(number, schema, words, fields, time).ok_or_else(|| PyValueError::new_err("a field lies outside its slot"))
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
    }
}
