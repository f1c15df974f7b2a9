//! Typed events to framed Avro messages, straight from Python's objects: to make columns first costs five times as much.
//!
//! It takes only what it knows for certain. Whatever else an event holds goes the way over columns, which says what is
//! wrong with it, if anything.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyType};

use crate::avro::{decimal, frame, long, text};

/// name, shape, size (of a fixed, scale of a decimal), digits of a decimal, words of an enum, place of null in the union.
pub type PlainField = (String, String, u32, u32, Vec<String>, Option<bool>);

pub struct Events {
    frame: [u8; 5],
    fields: Vec<Field>,
}

struct Field {
    source: Source,
    shape: Shape,
    /// Of a union with null: the bytes of either branch.
    union: Option<Union>,
}

struct Union {
    null: u8,
    value: u8,
}

enum Source {
    EventId,
    Producer,
    Sequence,
    Attribute(Py<PyString>),
}

enum Shape {
    Boolean,
    Int,
    Long,
    Double,
    String,
    Bytes(usize),
    Decimal { scale: i32, end: i128 },
    Micros,
    Enum(Vec<String>),
}

/// A value that is not plainly of its field's type.
struct Unsure;

impl<E: Into<PyErr>> From<E> for Unsure {
    fn from(_: E) -> Self {
        Unsure
    }
}

impl Events {
    pub fn new(py: Python<'_>, id: u32, fields: Vec<PlainField>) -> PyResult<Self> {
        let fields = fields.into_iter().map(|plain| Field::new(py, plain)).collect::<PyResult<_>>()?;
        Ok(Events { frame: frame(id), fields })
    }

    /// The message of each event, numbered; None when one of them is not plainly what its schema says. Their ids count
    /// up from `first_id`.
    pub fn write<'py>(
        &self,
        events: &Bound<'py, PyList>,
        first_id: u128,
        producer: &str,
        sequences: &[i64],
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let py = events.py();
        let kinds = Kinds::of(py)?;
        let mut messages = Vec::with_capacity(sequences.len());
        let mut bytes = Vec::with_capacity(512);
        for (place, (event, &sequence)) in (0_u128..).zip(events.iter().zip(sequences)) {
            let id = first_id.wrapping_add(place);
            bytes.clear();
            bytes.extend_from_slice(&self.frame);
            for field in &self.fields {
                let written = match &field.source {
                    Source::EventId => {
                        bytes.extend_from_slice(&id.to_be_bytes());
                        Ok(())
                    }
                    Source::Producer => {
                        text(&mut bytes, producer);
                        Ok(())
                    }
                    Source::Sequence => {
                        long(&mut bytes, sequence);
                        Ok(())
                    }
                    Source::Attribute(name) => {
                        event.getattr(name).map_err(Unsure::from).and_then(|value| field.write(&mut bytes, &value, kinds))
                    }
                };
                if written.is_err() {
                    return Ok(None);
                }
            }
            messages.push(PyBytes::new(py, &bytes));
        }
        PyList::new(py, messages).map(Some)
    }
}

impl Field {
    fn new(py: Python<'_>, (name, shape, size, digits, words, null_first): PlainField) -> PyResult<Self> {
        let shape = match shape.as_str() {
            "boolean" => Shape::Boolean,
            "int" => Shape::Int,
            "long" => Shape::Long,
            "double" => Shape::Double,
            "string" => Shape::String,
            "fixed" => Shape::Bytes(usize::try_from(size)?),
            "decimal" => Shape::Decimal { scale: i32::try_from(size)?, end: ten_to(i32::try_from(digits)?).unwrap_or(i128::MAX) },
            "micros" => Shape::Micros,
            "enum" => Shape::Enum(words),
            _ => return Err(PyValueError::new_err(format!("no event has a field of shape {shape}"))),
        };
        let source = match name.as_str() {
            "event_id" => Source::EventId,
            "producer" => Source::Producer,
            "sequence" => Source::Sequence,
            _ => Source::Attribute(PyString::intern(py, &name).unbind()),
        };
        // The branches of a union are numbered 0 and 1, zigzag.
        let union = null_first.map(|first| if first { Union { null: 0, value: 2 } } else { Union { null: 2, value: 0 } });
        Ok(Field { source, shape, union })
    }

    fn write(&self, bytes: &mut Vec<u8>, value: &Bound<'_, PyAny>, kinds: &Kinds) -> Result<(), Unsure> {
        if let Some(union) = &self.union {
            bytes.push(if value.is_none() { union.null } else { union.value });
            if value.is_none() {
                return Ok(());
            }
        }
        // Of the very type, not of one derived from it: that may hold more, as a time with nanoseconds does.
        match &self.shape {
            Shape::Boolean => bytes.push(value.cast_exact::<PyBool>().map_err(|_| Unsure)?.is_true().into()),
            Shape::Int => long(bytes, value.cast_exact::<PyInt>().map_err(|_| Unsure)?.extract::<i32>()?.into()),
            Shape::Long => long(bytes, value.cast_exact::<PyInt>().map_err(|_| Unsure)?.extract()?),
            Shape::Double => bytes.extend_from_slice(&value.cast_exact::<PyFloat>().map_err(|_| Unsure)?.extract::<f64>()?.to_le_bytes()),
            Shape::String => text(bytes, value.cast_exact::<PyString>().map_err(|_| Unsure)?.to_str()?),
            Shape::Bytes(size) => {
                let given = value.cast_exact::<PyBytes>().map_err(|_| Unsure)?.as_bytes();
                if given.len() != *size {
                    return Err(Unsure);
                }
                bytes.extend_from_slice(given);
            }
            Shape::Decimal { scale, end } => {
                if !value.get_type().is(&kinds.decimal) {
                    return Err(Unsure);
                }
                let number = unscaled(value.str()?.to_str()?, *scale).ok_or(Unsure)?;
                if number.unsigned_abs() >= end.unsigned_abs() {
                    return Err(Unsure);
                }
                decimal(bytes, number);
            }
            Shape::Micros => {
                if !value.get_type().is(&kinds.datetime) {
                    return Err(Unsure);
                }
                let since = value.sub(kinds.epoch.bind(value.py()))?; // fails for a time without a zone
                let part = |name: &Py<PyString>| since.getattr(name)?.extract::<i64>();
                let seconds = part(&kinds.days)? * 86_400 + part(&kinds.seconds)?;
                long(bytes, seconds * 1_000_000 + part(&kinds.microseconds)?);
            }
            Shape::Enum(words) => {
                let word = value.cast_exact::<PyString>().map_err(|_| Unsure)?;
                let word = word.to_str()?;
                let place = words.iter().position(|known| known == word).ok_or(Unsure)?;
                long(bytes, i64::try_from(place).map_err(|_| Unsure)?);
            }
        }
        Ok(())
    }
}

/// What Python knows of decimals and times.
struct Kinds {
    decimal: Py<PyType>,
    datetime: Py<PyType>,
    epoch: Py<PyAny>,
    days: Py<PyString>,
    seconds: Py<PyString>,
    microseconds: Py<PyString>,
}

impl Kinds {
    fn of(py: Python<'_>) -> PyResult<&Self> {
        static KINDS: PyOnceLock<Kinds> = PyOnceLock::new();
        KINDS.get_or_try_init(py, || {
            let times = py.import("datetime")?;
            let datetime = times.getattr("datetime")?;
            let utc = times.getattr("timezone")?.getattr("utc")?;
            Ok(Kinds {
                decimal: py.import("decimal")?.getattr("Decimal")?.cast_into()?.unbind(),
                epoch: datetime.call_method1("fromtimestamp", (0, utc))?.unbind(),
                datetime: datetime.cast_into()?.unbind(),
                days: PyString::intern(py, "days").unbind(),
                seconds: PyString::intern(py, "seconds").unbind(),
                microseconds: PyString::intern(py, "microseconds").unbind(),
            })
        })
    }
}

/// A power of ten that is a whole number.
fn ten_to(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

/// A decimal as a whole number of 10^-scale, from what `str` makes of it; None if that is not exact or not a number.
fn unscaled(decimal: &str, scale: i32) -> Option<i128> {
    let (mantissa, exponent) = match decimal.split_once('E') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (decimal, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let places = if digits.len() == whole.len() { 0 } else { i32::try_from(fraction.len()).ok()? };
    let whole = whole.parse::<i128>().ok()?;
    let fraction = i128::from(fraction.parse::<u64>().ok()?);
    let number = whole.checked_mul(ten_to(places)?)?.checked_add(fraction)?;
    let number = number.checked_mul(ten_to(exponent.checked_add(scale)?.checked_sub(places)?)?)?;
    Some(if negative { -number } else { number })
}
