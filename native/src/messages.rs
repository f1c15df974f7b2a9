//! Messages of one topic, copied out of librdkafka: a sequence of values for Python, columns for a batch.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::HashMap;

use arrow_array::{Array, Int32Array, Int64Array};
use arrow_pyarrow::ToPyArrow;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Byte strings one behind the other, some of them null.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    nulls: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: Option<&[u8]>) {
        match text {
            Some(text) => self.bytes.extend_from_slice(text),
            None => self.nulls.push(self.ends.len()),
        }
        self.ends.push(self.bytes.len());
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        if self.nulls.binary_search(&index).is_ok() {
            return None;
        }
        let first = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[first..self.ends[index]])
    }
}

type Header = (String, Option<Vec<u8>>);

/// One message as librdkafka has it.
pub struct One<'a> {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<Header>,
}

/// Message i is entry i of everything; headers are kept of the few that have some.
#[derive(Default)]
pub struct Columns {
    values: Texts,
    keys: Texts,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    timestamps_ms: Vec<i64>,
    headers: HashMap<usize, Vec<Header>>,
    /// Lowest and highest offset of each partition, in which offsets rise.
    spans: BTreeMap<i32, (i64, i64)>,
}

impl Columns {
    /// False for a message that is here already: after a rebalance librdkafka may give what it gave a moment before.
    pub fn push(&mut self, message: One<'_>) -> bool {
        let One { partition, offset, .. } = message;
        match self.spans.entry(partition) {
            Entry::Occupied(span) if offset <= span.get().1 => return false,
            Entry::Occupied(mut span) => span.get_mut().1 = offset,
            Entry::Vacant(none) => {
                none.insert((offset, offset));
            }
        }
        if !message.headers.is_empty() {
            self.headers.insert(self.offsets.len(), message.headers);
        }
        self.values.push(message.value);
        self.keys.push(message.key);
        self.partitions.push(partition);
        self.offsets.push(offset);
        self.timestamps_ms.push(message.timestamp_ms);
        true
    }

    fn one(&self, index: usize) -> One<'_> {
        One {
            partition: self.partitions[index],
            offset: self.offsets[index],
            timestamp_ms: self.timestamps_ms[index],
            key: self.keys.get(index),
            value: self.values.get(index),
            headers: self.headers.get(&index).cloned().unwrap_or_default(),
        }
    }
}

/// A sequence of the values (bytes, or None) of the messages of one topic; the rest by column or by index.
#[pyclass(frozen, sequence)]
pub struct Messages {
    columns: Columns,
}

impl Messages {
    pub fn new(columns: Columns) -> Self {
        Messages { columns }
    }

    pub fn texts(&self) -> Vec<Option<&[u8]>> {
        (0..self.columns.offsets.len()).map(|index| self.columns.values.get(index)).collect()
    }

    fn within(&self, index: isize) -> PyResult<usize> {
        let size = self.columns.offsets.len();
        let place = if index < 0 { index.checked_add_unsigned(size) } else { Some(index) };
        place
            .and_then(|place| usize::try_from(place).ok())
            .filter(|&place| place < size)
            .ok_or_else(|| PyIndexError::new_err(format!("{size} messages have no {index}")))
    }
}

type Bytes<'py> = Option<Bound<'py, PyBytes>>;
type Letter<'py> = (i32, i64, Bytes<'py>, Bytes<'py>, Vec<(String, Bytes<'py>)>);

#[pymethods]
impl Messages {
    fn __len__(&self) -> usize {
        self.columns.offsets.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bytes<'py>> {
        let index = self.within(index)?;
        Ok(self.columns.values.get(index).map(|value| PyBytes::new(py, value)))
    }

    /// A sequence of them is what it is.
    fn values(this: Py<Self>) -> Py<Self> {
        this
    }

    /// Partition, offset and time (milliseconds since 1970 UTC) of each message, as Arrow arrays.
    fn columns<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let Columns { partitions, offsets, timestamps_ms, .. } = &self.columns;
        Ok((
            Int32Array::from(partitions.clone()).to_data().to_pyarrow(py)?,
            Int64Array::from(offsets.clone()).to_data().to_pyarrow(py)?,
            Int64Array::from(timestamps_ms.clone()).to_data().to_pyarrow(py)?,
        ))
    }

    /// (lowest, highest) offset of each partition.
    fn spans(&self) -> BTreeMap<i32, (i64, i64)> {
        self.columns.spans.clone()
    }

    /// Those at or behind the offset that `first` has for their partition; none of a partition that it does not name.
    fn since(this: Py<Self>, py: Python<'_>, first: HashMap<i32, i64>) -> PyResult<Py<Messages>> {
        let columns = &this.get().columns;
        let kept = |partition: i32, offset: i64| first.get(&partition).is_some_and(|&first| offset >= first);
        if columns.spans.iter().all(|(&partition, &(lowest, _))| kept(partition, lowest)) {
            return Ok(this);
        }
        let mut those = Columns::default();
        for index in 0..columns.offsets.len() {
            let message = columns.one(index);
            if kept(message.partition, message.offset) {
                those.push(message);
            }
        }
        Py::new(py, Messages::new(those))
    }

    /// Partition, offset, key, value and headers of one message.
    fn letter<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Letter<'py>> {
        let message = self.columns.one(self.within(index)?);
        let bytes = |text: Option<&[u8]>| text.map(|text| PyBytes::new(py, text));
        let headers = message.headers.iter().map(|(name, value)| (name.clone(), bytes(value.as_deref()))).collect();
        Ok((message.partition, message.offset, bytes(message.key), bytes(message.value), headers))
    }
}
