//! Columns of an event, row by row from checked values: what the newest version's messages need no second walk for.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Decimal128Builder, FixedSizeBinaryBuilder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef, TimeUnit};

use crate::check::Value;

/// Of a text, to begin with.
const TEXT_BYTES: usize = 8;

/// Which columns an event has.
pub struct Shape {
    schema: SchemaRef,
    /// Of each column that is an enum; empty for the others.
    words: Vec<Vec<String>>,
}

pub struct Columns<'a> {
    schema: &'a SchemaRef,
    columns: Vec<Column<'a>>,
}

enum Column<'a> {
    Boolean(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Micros(TimestampMicrosecondBuilder),
    Text(StringBuilder),
    /// The words by their numbers.
    Enum(&'a [String], StringBuilder),
    Fixed(FixedSizeBinaryBuilder),
}

impl Shape {
    pub fn new(schema: Schema, words: Vec<Vec<String>>) -> Self {
        Shape { schema: Arc::new(schema), words }
    }

    /// Empty columns with room for so many rows.
    pub fn columns(&self, rows: usize) -> Result<Columns<'_>, ArrowError> {
        let fields = self.schema.fields().iter().zip(&self.words);
        let columns = fields.map(|(field, words)| Column::new(field.data_type(), words, rows)).collect::<Result<_, _>>()?;
        Ok(Columns { schema: &self.schema, columns })
    }
}

impl Columns<'_> {
    /// One more row; None where a value is not of its column's type, and then the columns are of no more use.
    #[must_use]
    pub fn append(&mut self, row: &[Value<'_>]) -> Option<()> {
        if row.len() != self.columns.len() {
            return None;
        }
        self.columns.iter_mut().zip(row).try_for_each(|(column, value)| column.append(*value))
    }

    pub fn finish(self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.columns.into_iter().map(Column::finish).collect();
        RecordBatch::try_new(self.schema.clone(), arrays)
    }
}

impl<'a> Column<'a> {
    fn new(kind: &DataType, words: &'a [String], rows: usize) -> Result<Self, ArrowError> {
        let text = || StringBuilder::with_capacity(rows, rows * TEXT_BYTES);
        Ok(match kind {
            DataType::Boolean => Column::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int32 => Column::Int(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Column::Long(Int64Builder::with_capacity(rows)),
            DataType::Float64 => Column::Double(Float64Builder::with_capacity(rows)),
            DataType::Decimal128(precision, scale) => {
                Column::Decimal(Decimal128Builder::with_capacity(rows).with_precision_and_scale(*precision, *scale)?)
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Column::Micros(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone_opt(zone.clone()))
            }
            DataType::Utf8 if words.is_empty() => Column::Text(text()),
            DataType::Utf8 => Column::Enum(words, text()),
            DataType::FixedSizeBinary(size) => Column::Fixed(FixedSizeBinaryBuilder::with_capacity(rows, *size)),
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

    fn finish(self) -> ArrayRef {
        match self {
            Column::Boolean(mut column) => Arc::new(column.finish()),
            Column::Int(mut column) => Arc::new(column.finish()),
            Column::Long(mut column) => Arc::new(column.finish()),
            Column::Double(mut column) => Arc::new(column.finish()),
            Column::Decimal(mut column) => Arc::new(column.finish()),
            Column::Micros(mut column) => Arc::new(column.finish()),
            Column::Text(mut column) | Column::Enum(_, mut column) => Arc::new(column.finish()),
            Column::Fixed(mut column) => Arc::new(column.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_schema::Field;

    fn sides() -> Shape {
        let fields = [Field::new("side", DataType::Utf8, true), Field::new("count", DataType::Int64, false)];
        Shape::new(Schema::new(fields.to_vec()), vec![vec!["BUY".to_owned(), "SELL".to_owned()], Vec::new()])
    }

    #[test]
    fn an_enum_becomes_its_word_and_null_stays_null() {
        let shape = sides();
        let mut columns = shape.columns(0).unwrap();
        assert_eq!(columns.append(&[Value::Enum(1), Value::Long(7)]), Some(()));
        assert_eq!(columns.append(&[Value::Null, Value::Long(8)]), Some(()));
        let batch = columns.finish().unwrap();
        let words: Vec<Option<&str>> = batch.column(0).as_string::<i32>().iter().collect();
        assert_eq!(words, [Some("SELL"), None]);
    }

    #[test]
    fn a_value_of_another_type_or_an_unknown_word_or_a_short_row_is_refused() {
        let shape = sides();
        for row in [&[Value::Enum(0), Value::Int(7)][..], &[Value::Enum(2), Value::Long(7)], &[Value::Enum(0)]] {
            assert_eq!(shape.columns(1).unwrap().append(row), None);
        }
    }
}
