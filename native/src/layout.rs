//! How a version of a schema lies in bytes, and what its values may be: made by schemas/layout.py for both codecs.

/// One field of a record, in the writer's order.
#[derive(Debug, Clone)]
pub struct Field {
    /// The branches of a union, or the one type of a field that is none.
    pub branches: Vec<Branch>,
    pub is_union: bool,
}

/// One type that a field's bytes can have.
#[derive(Debug, Clone)]
pub struct Branch {
    pub shape: Shape,
    pub limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    /// Two's complement, big-endian, of any length.
    Decimal,
    String,
    Fixed(usize),
    /// How many symbols the writer knows.
    Enum(i64),
}

/// What the reader accepts of a value. Nothing is limited for a field that the reader does not have.
#[derive(Debug, Clone)]
pub enum Limits {
    None,
    /// Of a long, a time in microseconds or a decimal's unscaled value; both ends belong to it.
    Whole { low: i128, high: i128 },
    /// Of a double; without `closed` the low end does not belong to it. NaN is never inside.
    Real { low: f64, closed: bool, high: f64 },
    /// Text without a NUL character, which PostgreSQL cannot hold.
    Text,
    /// Of an enum: for each symbol of the writer, whether the reader knows it.
    Symbols(Vec<bool>),
}
