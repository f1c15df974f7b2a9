//! The Python module `sentio_native`. The GIL is released while bytes become columns and columns bytes.

use std::sync::{Mutex, MutexGuard};

use arrow_array::RecordBatch;
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use arrow_schema::Schema;
use pyo3::create_exception;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::codec::{Failure, Reader, Version, Writer};
use crate::columns;
use crate::events::{Events, PlainField as PlainEventField};
use crate::layout::{Branch, Field, Limits, Shape};

create_exception!(sentio_native, Disagreement, PyRuntimeError, "The check and arrow-avro disagree about a message.");

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TooLarge(size) => PyOverflowError::new_err(format!("{size} bytes are too many for one batch")),
            Failure::Disagreement(what) => Disagreement::new_err(what),
            Failure::Arrow(what) => PyValueError::new_err(what),
        }
    }
}

/// `schemas.layout.Branch`: shape, size, whole, real, text, symbols.
type PlainBranch = (String, usize, Option<(i128, i128)>, Option<(f64, bool, f64)>, bool, Option<Vec<bool>>);
/// `schemas.layout.Field`: name, is_union, branches.
type PlainField = (String, bool, Vec<PlainBranch>);

fn branch(plain: PlainBranch) -> PyResult<Branch> {
    let (name, size, whole, real, text, symbols) = plain;
    let shape = match name.as_str() {
        "null" => Shape::Null,
        "boolean" => Shape::Boolean,
        "int" => Shape::Int,
        "long" => Shape::Long,
        "float" => Shape::Float,
        "double" => Shape::Double,
        "bytes" => Shape::Bytes,
        "decimal" => Shape::Decimal,
        "string" => Shape::String,
        "fixed" => Shape::Fixed(size),
        "enum" => Shape::Enum(i64::try_from(size).unwrap_or(0)),
        _ => return Err(PyValueError::new_err(format!("unknown shape {name}"))),
    };
    let limits = match (whole, real, text, symbols) {
        (Some((low, high)), ..) => Limits::Whole { low, high },
        (_, Some((low, closed, high)), ..) => Limits::Real { low, closed, high },
        (_, _, true, _) => Limits::Text,
        (.., Some(known)) => Limits::Symbols(known),
        _ => Limits::None,
    };
    Ok(Branch { shape, limits })
}

fn layout(plain: Vec<PlainField>) -> PyResult<Vec<Field>> {
    plain
        .into_iter()
        .map(|(_, is_union, branches)| {
            Ok(Field { branches: branches.into_iter().map(branch).collect::<PyResult<_>>()?, is_union })
        })
        .collect()
}

/// Decodes and encodes the messages of one event.
#[pyclass(frozen)]
struct Codec {
    reader: Mutex<Reader>,
    writer: Mutex<Writer>,
    events: Events,
}

/// After a panic nothing is known of what is inside: from then on the other codec does the work.
fn locked<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, Failure> {
    mutex.lock().map_err(|_| Failure::Disagreement("an earlier call panicked".to_owned()))
}

type Parts<'py> = Vec<(Bound<'py, PyAny>, Vec<usize>)>;

#[pymethods]
impl Codec {
    /// `read`: the columns that `decode` makes; `written`: those that `encode` is given, enums as dictionaries; `versions`:
    /// (id, Avro JSON, layout) of each writer; `fields`: of what `write` is given.
    #[new]
    fn new(
        py: Python<'_>,
        id: u32,
        schema: String,
        read: &Bound<'_, PyAny>,
        written: &Bound<'_, PyAny>,
        versions: Vec<(u32, String, Vec<PlainField>)>,
        fields: Vec<PlainEventField>,
    ) -> PyResult<Self> {
        let words = fields.iter().map(|(_, _, _, _, words, _)| words.clone()).collect();
        let shape = columns::Shape::new(Schema::from_pyarrow_bound(read)?, words);
        let writer = Writer::new(&Schema::from_pyarrow_bound(written)?, &schema, id)?;
        let versions = versions
            .into_iter()
            .map(|(id, schema, plain)| Ok(Version { id, schema, layout: layout(plain)? }))
            .collect::<PyResult<_>>()?;
        let events = Events::new(py, id, fields)?;
        Ok(Codec { reader: Mutex::new(Reader::new(schema, versions, Some(shape))?), writer: Mutex::new(writer), events })
    }

    /// (parts, poison): (columns, indexes of its rows) for each writer id met, and (index, reason).
    fn decode<'py>(
        &self,
        py: Python<'py>,
        messages: Vec<Option<Bound<'py, PyBytes>>>,
    ) -> PyResult<(Parts<'py>, Vec<(usize, &'static str)>)> {
        let bytes: Vec<Option<&[u8]>> =
            messages.iter().map(|message| message.as_ref().map(|message| message.as_bytes())).collect();
        let decoded = py.detach(|| locked(&self.reader)?.decode(&bytes))?;
        let parts = decoded
            .parts
            .into_iter()
            .map(|(batch, rows)| Ok((batch.to_pyarrow(py)?, rows)))
            .collect::<PyResult<_>>()?;
        Ok((parts, decoded.poison.into_iter().map(|(index, reason)| (index, reason.name())).collect()))
    }

    /// The framed message of each row.
    fn encode<'py>(&self, py: Python<'py>, records: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let records = RecordBatch::from_pyarrow_bound(records)?;
        let rows = py.detach(|| locked(&self.writer)?.encode(&records))?;
        let (bytes, offsets) = (rows.bytes(), rows.offsets());
        PyList::new(py, offsets.windows(2).map(|ends| PyBytes::new(py, &bytes[ends[0]..ends[1]])).collect::<Vec<_>>())
    }

    /// The framed message of each typed event, or None: see `Events::write`. Holds the GIL.
    fn write<'py>(
        &self,
        events: &Bound<'py, PyList>,
        first_id: [u8; 16],
        producer: &str,
        sequences: Vec<i64>,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        self.events.write(events, u128::from_be_bytes(first_id), producer, &sequences)
    }
}

#[pymodule]
fn sentio_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Codec>()?;
    module.add_class::<crate::fanout::Descriptors>()?;
    module.add_class::<crate::ring_python::Slots>()?;
    module.add("Disagreement", module.py().get_type::<Disagreement>())
}
