//! Slots of a ring to columns. The layout and the rules are those of `producers/sidecar/`; tests hold its Python twin
//! equal. No Python here, and nothing that a slot says is trusted.

use std::str::from_utf8;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};

use crate::check::Value;
use crate::columns;

pub const SLOT: usize = 256;
const SLOT_HEAD: usize = 24;
const WORD: usize = 8;
const NULL: i64 = i64::MIN;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Text,
    Word,
    Int,
    Long,
    Decimal,
    Double,
}

/// `producers.sidecar.layout.Field`.
pub struct Field {
    pub shape: Shape,
    pub offset: usize,
    pub size: usize,
    pub optional: bool,
    pub whole: Option<(i128, i128)>,
    pub real: Option<(f64, bool, f64)>,
    /// How many words an enum has.
    pub words: i32,
}

/// One event that a slot may hold; its columns are event_id, producer, sequence and those of its fields.
pub struct Kind {
    number: u64,
    columns: columns::Shape,
    fields: Vec<Field>,
    /// Which field is the event's time.
    time: usize,
    /// What its checksum is of.
    size: usize,
}

/// Why a slot cannot be used; numbers are those of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Damaged,
    Elsewhere(u64),
    Word(usize),
    Limits(usize),
    Text(usize),
}

pub struct Refusal {
    pub place: usize,
    /// Of the event, if it is known.
    pub kind: usize,
    pub fault: Fault,
}

impl Kind {
    /// None for fields that lie outside a slot, or a time that is none of them.
    pub fn new(number: u64, schema: Schema, words: Vec<Vec<String>>, fields: Vec<Field>, time: usize) -> Option<Self> {
        let ends = fields.iter().map(|field| field.offset.checked_add(field.size));
        let end = ends.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let size = end.div_ceil(WORD) * WORD;
        let sound = (SLOT_HEAD..=SLOT).contains(&size) && fields.get(time)?.shape == Shape::Long;
        sound.then(|| Kind { number, columns: columns::Shape::new(schema, words), fields, time, size })
    }
}

/// A batch of each kind, and what is wrong with the slots that are in none. `ring` is the id of the ring.
pub fn decode(
    kinds: &[Kind],
    slots: &[u8],
    first: u64,
    ring: u128,
    producer: &str,
) -> Result<(Vec<RecordBatch>, Vec<Refusal>), ArrowError> {
    let mut refused = Vec::new();
    let mut columns = kinds.iter().map(|kind| kind.columns.columns(0)).collect::<Result<Vec<_>, _>>()?;
    let mut values = Vec::new();
    for (place, slot) in slots.chunks_exact(SLOT).enumerate() {
        let position = first.wrapping_add(place as u64);
        let number = word(slot, 16);
        let found = kinds.iter().zip(&mut columns).enumerate().find(|(_, (kind, _))| kind.number == number);
        let Some((index, (kind, columns))) = found else {
            refused.push(Refusal { place, kind: 0, fault: Fault::Damaged });
            continue;
        };
        if let Err(fault) = read(kind, slot, position, &mut values) {
            refused.push(Refusal { place, kind: index, fault });
            continue;
        }
        let Some(Value::Long(at_us)) = values.get(kind.time) else { return Err(mismatch()) };
        let id = event_id(ring, position, *at_us).to_be_bytes();
        let sequence = i64::try_from(position).map_err(|_| mismatch())?;
        let mut row = vec![Value::Fixed(&id), Value::Text(producer), Value::Long(sequence)];
        row.extend_from_slice(&values);
        columns.append(&row).ok_or_else(mismatch)?;
    }
    let batches = columns.into_iter().map(columns::Columns::finish).collect::<Result<_, _>>()?;
    Ok((batches, refused))
}

/// The sum of `sentio_carry` in clients/c/sentio.h.
pub fn checksum(slot: &[u8], size: usize) -> u64 {
    let mut lanes = [1, 2, 3, 4];
    for each in 1..size / WORD {
        let lane = &mut lanes[each % 4];
        *lane = mixed(*lane, word(slot, each * WORD));
    }
    let [a, b, c, d] = lanes;
    mixed(mixed(a, b), mixed(c, d))
}

fn mixed(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

/// `producers.sidecar.records.event_id`.
fn event_id(ring: u128, position: u64, at_us: i64) -> u128 {
    let position = u128::from(position & ((1 << 40) - 1));
    let ms = u128::from(at_us.unsigned_abs() / 1_000);
    ms << 80 | 7 << 76 | (position >> 28) << 64 | 2 << 62 | (position & ((1 << 28) - 1)) << 34 | ring & ((1 << 34) - 1)
}

fn read<'a>(kind: &Kind, slot: &'a [u8], position: u64, values: &mut Vec<Value<'a>>) -> Result<(), Fault> {
    if word(slot, 0) != checksum(slot, kind.size) {
        return Err(Fault::Damaged);
    }
    let at = word(slot, WORD);
    if at != position {
        return Err(Fault::Elsewhere(at));
    }
    values.clear();
    for (index, field) in kind.fields.iter().enumerate() {
        values.push(value(field, slot, index)?);
    }
    Ok(())
}

fn value<'a>(field: &Field, slot: &'a [u8], index: usize) -> Result<Value<'a>, Fault> {
    match field.shape {
        Shape::Text => {
            let room = slot.get(field.offset..field.offset + field.size).unwrap_or_default();
            let end = room.iter().position(|&byte| byte == 0).unwrap_or(room.len());
            let text = from_utf8(room.get(..end).unwrap_or_default()).map_err(|_| Fault::Text(index))?;
            Ok(if field.optional && text.is_empty() { Value::Null } else { Value::Text(text) })
        }
        Shape::Double => {
            let real = f64::from_bits(word(slot, field.offset));
            let within = field.real.is_none_or(|(low, closed, high)| {
                (if closed { low <= real } else { low < real }) && real <= high
            });
            if within { Ok(Value::Double(real)) } else { Err(Fault::Limits(index)) }
        }
        Shape::Word => match half(slot, field.offset) {
            number if (1..=field.words).contains(&number) => Ok(Value::Enum((number - 1).unsigned_abs() as usize)),
            _ => Err(Fault::Word(index)),
        },
        Shape::Int => {
            let number = half(slot, field.offset);
            within(field, number.into(), index).map(|()| Value::Int(number))
        }
        Shape::Long | Shape::Decimal => match word(slot, field.offset).cast_signed() {
            NULL if field.optional => Ok(Value::Null),
            number if field.shape == Shape::Long => within(field, number.into(), index).map(|()| Value::Long(number)),
            number => within(field, number.into(), index).map(|()| Value::Decimal(number.into())),
        },
    }
}

fn within(field: &Field, number: i128, index: usize) -> Result<(), Fault> {
    match field.whole {
        Some((low, high)) if !(low..=high).contains(&number) => Err(Fault::Limits(index)),
        _ => Ok(()),
    }
}

/// Zero where the slot ends before it, which `Kind::new` rules out.
fn word(slot: &[u8], at: usize) -> u64 {
    slot.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn half(slot: &[u8], at: usize) -> i32 {
    slot.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| i32::from_le_bytes(*bytes))
}

fn mismatch() -> ArrowError {
    ArrowError::SchemaError("the columns of an event are not those of its slots".to_owned())
}
