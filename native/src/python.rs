//! The Python module `sentio_native`. The GIL is released while bytes become columns and columns bytes.

use std::sync::{Mutex, MutexGuard};

use arrow_array::RecordBatch;
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use arrow_schema::Schema;
use pyo3::create_exception;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::check::Value;
use crate::codec::{Failure, Reader, Reason, Version, Writer};
use crate::columns;
use crate::events::{Events, PlainField as PlainEventField};
use crate::json::Form;
use crate::layout::{Branch, Field, Limits, Shape};
use crate::messages::Messages;

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
    form: Form,
    /// Of each column that is an enum; empty for the others.
    words: Vec<Vec<String>>,
}

/// After a panic nothing is known of what is inside: from then on the other codec does the work.
fn locked<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, Failure> {
    mutex.lock().map_err(|_| Failure::Disagreement("an earlier call panicked".to_owned()))
}

/// The same with the GIL held, which is let go while the lock is waited for.
fn attached<'a, T>(mutex: &'a Mutex<T>, py: Python<'_>) -> Result<MutexGuard<'a, T>, Failure> {
    mutex.lock_py_attached(py).map_err(|_| Failure::Disagreement("an earlier call panicked".to_owned()))
}

type Parts<'py> = Vec<(Bound<'py, PyAny>, Vec<usize>)>;
type Poison = Vec<(usize, &'static str)>;
/// Values, the indexes of their messages, and what is unusable.
type Fields<'py> = (Vec<Bound<'py, PyTuple>>, Vec<usize>, Poison);

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
        let words: Vec<_> = fields.iter().map(|(_, _, _, _, words, _)| words.clone()).collect();
        let columns = Schema::from_pyarrow_bound(read)?;
        let form = Form::new(&columns, &words).ok_or_else(|| PyValueError::new_err("a decimal's scale is negative"))?;
        let shape = columns::Shape::new(columns, words.clone());
        let writer = Writer::new(&Schema::from_pyarrow_bound(written)?, &schema, id)?;
        let versions = versions
            .into_iter()
            .map(|(id, schema, plain)| Ok(Version { id, schema, layout: layout(plain)? }))
            .collect::<PyResult<_>>()?;
        let events = Events::new(py, id, fields)?;
        let reader = Mutex::new(Reader::new(schema, versions, Some(shape))?);
        Ok(Codec { reader, writer: Mutex::new(writer), events, form, words })
    }

    /// `messages`: a list of bytes or None, or `Messages`. (parts, poison): (columns, indexes of its rows) for each writer id met, and (index, reason).
    fn decode<'py>(
        &self,
        py: Python<'py>,
        messages: &Bound<'py, PyAny>,
    ) -> PyResult<(Parts<'py>, Poison)> {
        let listed: Vec<Option<Bound<'py, PyBytes>>>;
        let bytes: Vec<Option<&[u8]>> = if let Ok(messages) = messages.cast::<Messages>() {
            messages.get().texts()
        } else {
            listed = messages.extract()?;
            all_bytes(&listed)
        };
        let decoded = py.detach(|| locked(&self.reader)?.decode(&bytes))?;
        let parts = decoded
            .parts
            .into_iter()
            .map(|(batch, rows)| Ok((batch.to_pyarrow(py)?, rows)))
            .collect::<PyResult<_>>()?;
        Ok((parts, named(decoded.poison)))
    }

    /// Of the sound messages the values in these columns, texts and whole numbers; the index of each; and (index, reason).
    /// None when not all are of the newest version. Holds the GIL, which a few messages are not worth giving away for.
    fn fields<'py>(
        &self,
        py: Python<'py>,
        messages: Vec<Option<Bound<'py, PyBytes>>>,
        places: Vec<usize>,
    ) -> PyResult<Option<Fields<'py>>> {
        let (mut rows, mut kept) = (Vec::with_capacity(messages.len()), Vec::with_capacity(messages.len()));
        let mut failure = None;
        // To make objects may run Python, and so another thread, which may wait for the same lock: it has to let the GIL go.
        let poison = attached(&self.reader, py)?.rows(&all_bytes(&messages), |index, row| {
            let values: PyResult<Vec<_>> = places.iter().map(|&place| self.value(py, row, place)).collect();
            match values.and_then(|values| PyTuple::new(py, values)) {
                Ok(values) => rows.push(values),
                Err(error) => failure = Some(error),
            }
            kept.push(index);
            failure.is_none().then_some(())
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(poison.map(|poison| (rows, kept, named(poison)))),
        }
    }

    /// The JSON text of each sound message. None when not all are of the newest version. Holds the GIL.
    fn documents(
        &self,
        py: Python<'_>,
        messages: Vec<Option<Bound<'_, PyBytes>>>,
    ) -> PyResult<Option<Vec<String>>> {
        let mut written = Vec::with_capacity(messages.len());
        let all = attached(&self.reader, py)?.rows(&all_bytes(&messages), |_, row| {
            written.push(self.form.document(row)?);
            Some(())
        });
        Ok(all.map(|_| written))
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

impl Codec {
    fn value<'py>(&self, py: Python<'py>, row: &[Value<'_>], place: usize) -> PyResult<Bound<'py, PyAny>> {
        match (row.get(place), self.words.get(place)) {
            (Some(Value::Null), _) => Ok(py.None().into_bound(py)),
            (Some(Value::Text(text)), _) => Ok(text.into_pyobject(py)?.into_any()),
            (Some(Value::Long(number)), _) => Ok(number.into_pyobject(py)?.into_any()),
            (Some(Value::Int(number)), _) => Ok(number.into_pyobject(py)?.into_any()),
            (Some(Value::Fixed(bytes)), _) => Ok(PyBytes::new(py, bytes).into_any()),
            (Some(Value::Enum(number)), Some(words)) if *number < words.len() => {
                Ok(words[*number].as_str().into_pyobject(py)?.into_any())
            }
            _ => Err(PyValueError::new_err(format!("column {place} is neither text, bytes nor a whole number"))),
        }
    }
}

fn all_bytes<'a>(messages: &'a [Option<Bound<'_, PyBytes>>]) -> Vec<Option<&'a [u8]>> {
    messages.iter().map(|message| message.as_ref().map(|message| message.as_bytes())).collect()
}

fn named(poison: Vec<(usize, Reason)>) -> Poison {
    poison.into_iter().map(|(index, reason)| (index, reason.name())).collect()
}

#[pymodule]
fn sentio_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Codec>()?;
    module.add_class::<crate::fanout::Descriptors>()?;
    module.add_class::<Messages>()?;
    module.add_class::<crate::queues::Queues>()?;
    module.add_class::<crate::ring_python::Slots>()?;
    module.add_class::<crate::webhooks_python::Webhooks>()?;
    module.add_function(wrap_pyfunction!(crate::ring_wait::wait_for_records, module)?)?;
    module.add("Disagreement", module.py().get_type::<Disagreement>())
}
