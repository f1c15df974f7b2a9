//! Columns of an event, row by row from checked values: what the newest version's messages need no second walk for.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Decimal128Builder, FixedSizeBinaryBuilder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef, TimeUnit};

use crate::check::Value;

pub struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
}

enum Column {
    Boolean(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Micros(TimestampMicrosecondBuilder),
    Text(StringBuilder),
    /// The words by their numbers.
    Enum(Vec<String>, StringBuilder),
    Fixed(FixedSizeBinaryBuilder),
}

impl Columns {
    /// `words`: of each column that is an enum; empty for the others.
    pub fn new(schema: Schema, words: Vec<Vec<String>>) -> Result<Self, ArrowError> {
        let columns =
            schema.fields().iter().zip(words).map(|(field, words)| Column::new(field.data_type(), words)).collect::<Result<_, _>>()?;
        Ok(Columns { schema: Arc::new(schema), columns })
    }

    /// One more row; None, and half a row, where a value is not of its column's type.
    #[must_use]
    pub fn append(&mut self, row: &[Value<'_>]) -> Option<()> {
        if row.len() != self.columns.len() {
            return None;
        }
        self.columns.iter_mut().zip(row).try_for_each(|(column, value)| column.append(*value))
    }

    /// The rows so far; none are left.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.columns.iter_mut().map(Column::finish).collect();
        RecordBatch::try_new(self.schema.clone(), arrays)
    }
}

impl Column {
    fn new(kind: &DataType, words: Vec<String>) -> Result<Self, ArrowError> {
        Ok(match kind {
            DataType::Boolean => Column::Boolean(BooleanBuilder::new()),
            DataType::Int32 => Column::Int(Int32Builder::new()),
            DataType::Int64 => Column::Long(Int64Builder::new()),
            DataType::Float64 => Column::Double(Float64Builder::new()),
            DataType::Decimal128(precision, scale) => {
                Column::Decimal(Decimal128Builder::new().with_precision_and_scale(*precision, *scale)?)
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Column::Micros(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            DataType::Utf8 if words.is_empty() => Column::Text(StringBuilder::new()),
            DataType::Utf8 => Column::Enum(words, StringBuilder::new()),
            DataType::FixedSizeBinary(size) => Column::Fixed(FixedSizeBinaryBuilder::new(*size)),
            other => return Err(ArrowError::SchemaError(format!("no event has a column of {other}"))),
        })
    }

    #[inline]
    fn append(&mut self, value: Value<'_>) -> Option<()> {
        match (self, value) {
            (Column::Decimal(column), Value::Decimal(value)) => column.append_value(value),
            (Column::Text(column), Value::Text(value)) => column.append_value(value),
            (Column::Long(column), Value::Long(value)) => column.append_value(value),
            (Column::Micros(column), Value::Long(value)) => column.append_value(value),
            (Column::Enum(words, column), Value::Enum(place)) => column.append_value(words.get(place)?),
            (Column::Fixed(column), Value::Fixed(value)) => column.append_value(value).ok()?,
            (Column::Int(column), Value::Int(value)) => column.append_value(value),
            (Column::Double(column), Value::Double(value)) => column.append_value(value),
            (Column::Boolean(column), Value::Boolean(value)) => column.append_value(value),
            (column, Value::Null) => column.append_null(),
            _ => return None,
        }
        Some(())
    }

    fn append_null(&mut self) {
        match self {
            Column::Boolean(column) => column.append_null(),
            Column::Int(column) => column.append_null(),
            Column::Long(column) => column.append_null(),
            Column::Double(column) => column.append_null(),
            Column::Decimal(column) => column.append_null(),
            Column::Micros(column) => column.append_null(),
            Column::Text(column) | Column::Enum(_, column) => column.append_null(),
            Column::Fixed(column) => column.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Boolean(column) => Arc::new(column.finish()),
            Column::Int(column) => Arc::new(column.finish()),
            Column::Long(column) => Arc::new(column.finish()),
            Column::Double(column) => Arc::new(column.finish()),
            Column::Decimal(column) => Arc::new(column.finish()),
            Column::Micros(column) => Arc::new(column.finish()),
            Column::Text(column) | Column::Enum(_, column) => Arc::new(column.finish()),
            Column::Fixed(column) => Arc::new(column.finish()),
        }
    }
}
