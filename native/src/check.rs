//! Is this message sound? One walk over its bytes, without allocating and without trusting a length it states.

use crate::layout::{Branch, Field, Limits, Shape};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The bytes do not have the shape of the schema, or end too early.
    Malformed,
    /// The record ends before its bytes do.
    Trailing,
    /// A value that the platform does not accept.
    OutOfRange,
}

/// A value of the writer's, within the limits that the reader has for it.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Bytes(&'a [u8]),
    /// Unscaled; zero for one of a field that the reader does not have.
    Decimal(i128),
    Text(&'a str),
    Fixed(&'a [u8]),
    /// The symbol's number.
    Enum(usize),
}

/// Check an Avro body against the writer's layout. A malformed body is that, whatever its values.
pub fn body(fields: &[Field], bytes: &[u8]) -> Result<(), Fault> {
    walk(fields, bytes, |_| ())
}

/// The same, and the values of a sound body into `row`, in the writer's order.
pub fn row<'a>(fields: &[Field], bytes: &'a [u8], row: &mut Vec<Value<'a>>) -> Result<(), Fault> {
    row.clear();
    walk(fields, bytes, |value| row.push(value))
}

#[inline]
fn walk<'a>(fields: &[Field], bytes: &'a [u8], mut take: impl FnMut(Value<'a>)) -> Result<(), Fault> {
    let mut cursor = Cursor { bytes };
    let mut accepted = true;
    for field in fields {
        match cursor.field(field).ok_or(Fault::Malformed)? {
            Some(value) => take(value),
            None => accepted = false,
        }
    }
    if !cursor.bytes.is_empty() {
        return Err(Fault::Trailing);
    }
    if accepted { Ok(()) } else { Err(Fault::OutOfRange) }
}

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The field's value, or Some(None) for one beyond its limits; None when it has no value of its shape.
    #[inline]
    fn field(&mut self, field: &Field) -> Option<Option<Value<'a>>> {
        let branch = if field.is_union {
            field.branches.get(usize::try_from(self.long()?).ok()?)?
        } else {
            field.branches.first()?
        };
        self.value(branch)
    }

    #[inline]
    fn value(&mut self, branch: &Branch) -> Option<Option<Value<'a>>> {
        let limits = &branch.limits;
        let (value, accepted) = match branch.shape {
            Shape::Null => (Value::Null, true),
            Shape::Boolean => match self.take(1)?[0] {
                byte @ 0..=1 => (Value::Boolean(byte == 1), true),
                _ => return None,
            },
            Shape::Int => {
                let value = i32::try_from(self.long()?).ok()?;
                (Value::Int(value), limits.whole(value.into()))
            }
            Shape::Long => {
                let value = self.long()?;
                (Value::Long(value), limits.whole(value.into()))
            }
            Shape::Float => {
                let value = f32::from_le_bytes(self.take(4)?.try_into().ok()?);
                (Value::Float(value), limits.real(value.into()))
            }
            Shape::Double => {
                let value = f64::from_le_bytes(self.take(8)?.try_into().ok()?);
                (Value::Double(value), limits.real(value))
            }
            Shape::Bytes => (Value::Bytes(self.counted()?), true),
            Shape::Decimal => match (limits, self.counted()?) {
                (Limits::Whole { .. }, raw) => match unscaled(raw) {
                    Some(value) => (Value::Decimal(value), limits.whole(value)),
                    None => (Value::Null, false),
                },
                _ => (Value::Decimal(0), true),
            },
            Shape::String => {
                let text = std::str::from_utf8(self.counted()?).ok()?;
                (Value::Text(text), !matches!(limits, Limits::Text) || !text.as_bytes().contains(&0))
            }
            Shape::Fixed(size) => (Value::Fixed(self.take(size)?), true),
            Shape::Enum(symbols) => {
                let index = self.long()?;
                if !(0..symbols).contains(&index) {
                    return None;
                }
                (Value::Enum(usize::try_from(index).ok()?), limits.symbol(index))
            }
        };
        Some(accepted.then_some(value))
    }

    fn counted(&mut self) -> Option<&'a [u8]> {
        let size = usize::try_from(self.long()?).ok()?;
        self.take(size)
    }

    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(size)?;
        self.bytes = rest;
        Some(taken)
    }

    /// A zig-zag varint of at most 64 bits, in at most ten bytes.
    #[inline]
    fn long(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for (place, &byte) in self.bytes.iter().take(10).enumerate() {
            if place == 9 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                self.bytes = &self.bytes[place + 1..];
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }
}

impl Limits {
    fn whole(&self, value: i128) -> bool {
        match self {
            Limits::Whole { low, high } => (*low..=*high).contains(&value),
            _ => true,
        }
    }

    fn real(&self, value: f64) -> bool {
        match self {
            Limits::Real { low, closed, high } => (value > *low || (*closed && value == *low)) && value <= *high,
            _ => true,
        }
    }

    fn symbol(&self, index: i64) -> bool {
        match self {
            Limits::Symbols(known) => usize::try_from(index).is_ok_and(|index| known.get(index) == Some(&true)),
            _ => true,
        }
    }
}

/// A decimal's unscaled value; None when it needs more than 128 bits.
fn unscaled(raw: &[u8]) -> Option<i128> {
    let negative = raw.first().is_some_and(|byte| byte & 0x80 != 0);
    let sign: u8 = if negative { 0xff } else { 0 };
    let kept = if raw.len() > 16 {
        let (dropped, kept) = raw.split_at(raw.len() - 16);
        if dropped.iter().any(|&byte| byte != sign) || (kept[0] ^ sign) & 0x80 != 0 {
            return None;
        }
        kept
    } else {
        raw
    };
    let mut wide = [sign; 16];
    wide[16 - kept.len()..].copy_from_slice(kept);
    Some(i128::from_be_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(shape: Shape, limits: Limits) -> Vec<Field> {
        vec![Field { branches: vec![Branch { shape, limits }], is_union: false }]
    }

    #[test]
    fn a_length_that_is_not_there_is_malformed_and_costs_no_memory() {
        // Zig-zag of 2^40, then three bytes.
        let stated = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, b'a', b'b', b'c'];
        assert_eq!(body(&one(Shape::String, Limits::None), &stated), Err(Fault::Malformed));
    }

    #[test]
    fn a_negative_length_or_index_is_malformed() {
        assert_eq!(body(&one(Shape::Bytes, Limits::None), &[0x01]), Err(Fault::Malformed));
        assert_eq!(body(&one(Shape::Enum(2), Limits::None), &[0x01]), Err(Fault::Malformed));
        assert_eq!(body(&one(Shape::Enum(2), Limits::None), &[0x02]), Ok(()));
    }

    #[test]
    fn a_varint_has_64_bits_at_most() {
        let long = one(Shape::Long, Limits::None);
        assert_eq!(body(&long, &[&[0xff; 9][..], &[0x01]].concat()), Ok(()));
        assert_eq!(body(&long, &[&[0xff; 9][..], &[0x02]].concat()), Err(Fault::Malformed));
        assert_eq!(body(&long, &[&[0x80; 10][..], &[0x00]].concat()), Err(Fault::Malformed));
    }

    #[test]
    fn a_decimal_may_have_leading_sign_bytes_and_no_more_digits_than_its_precision() {
        let cents = one(Shape::Decimal, Limits::Whole { low: -99, high: 99 });
        assert_eq!(body(&cents, &[0x00]), Ok(()));
        assert_eq!(body(&cents, &[&[40_u8][..], &[0xff; 19], &[0x9d]].concat()), Ok(()));
        assert_eq!(body(&cents, &[0x02, 0x64]), Err(Fault::OutOfRange));
        assert_eq!(body(&cents, &[&[40_u8][..], &[0x01; 20]].concat()), Err(Fault::OutOfRange));
    }

    #[test]
    fn trailing_bytes_come_before_a_value_out_of_range() {
        let small = one(Shape::Long, Limits::Whole { low: 0, high: 1 });
        assert_eq!(body(&small, &[0x08]), Err(Fault::OutOfRange));
        assert_eq!(body(&small, &[0x08, 0x00]), Err(Fault::Trailing));
    }
}
