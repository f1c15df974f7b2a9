//! Slots of a ring to messages for Kafka. The layout and the rules are those of `producers/sidecar/`; tests hold its
//! Python twin equal. No Python here, and nothing that a slot says is trusted.

use std::str::from_utf8;

use crate::avro;
use crate::check::Value;

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
    /// In the schema a union of null and what it is.
    pub optional: bool,
    pub whole: Option<(i128, i128)>,
    pub real: Option<(f64, bool, f64)>,
    /// How many words an enum has.
    pub words: i32,
}

/// One event that a slot may hold; its schema has event_id, producer, sequence and then the fields.
pub struct Kind {
    number: u64,
    frame: [u8; 5],
    fields: Vec<Field>,
    /// Which field is the event's time.
    time: usize,
    /// Which field is the key of its messages, a text.
    key: usize,
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
    /// Its time is in the far future.
    Ahead(usize),
}

pub struct Refusal {
    pub place: usize,
    /// Of the event, if it is known.
    pub kind: usize,
    pub fault: Fault,
}

/// Keys and values one behind the other, of the messages of one kind in the order of their slots.
#[derive(Default)]
pub struct Messages {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

/// Where slots come from, and until when what they hold may have happened.
pub struct Origin<'a> {
    /// Position of the first.
    pub first: u64,
    /// The ring's id.
    pub ring: u128,
    pub producer: &'a str,
    pub latest_us: i64,
}

impl Kind {
    /// None for fields that lie outside a slot, or a time or key that is none of them. `schema` is the id of its schema.
    pub fn new(number: u64, schema: u32, fields: Vec<Field>, time: usize, key: usize) -> Option<Self> {
        let ends = fields.iter().map(|field| field.offset.checked_add(field.size));
        let end = ends.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let size = end.div_ceil(WORD) * WORD;
        let sound = (SLOT_HEAD..=SLOT).contains(&size)
            && fields.get(time)?.shape == Shape::Long
            && fields.get(key)?.shape == Shape::Text;
        sound.then(|| Kind { number, frame: avro::frame(schema), fields, time, key, size })
    }
}

impl Messages {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Key and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&(_, end)| end));
        let part = |from, to| self.bytes.get(from..to).unwrap_or_default();
        starts.zip(&self.ends).map(move |(start, &(key, end))| (part(start, key), part(key, end)))
    }
}

/// Messages of each kind, and what is wrong with the slots that are in none.
pub fn messages(kinds: &[Kind], slots: &[u8], origin: &Origin<'_>) -> (Vec<Messages>, Vec<Refusal>) {
    let mut refused = Vec::new();
    let mut found: Vec<Messages> = kinds.iter().map(|_| Messages::default()).collect();
    let mut values = Vec::new();
    for (place, slot) in slots.chunks_exact(SLOT).enumerate() {
        let position = origin.first.wrapping_add(place as u64);
        let number = word(slot, 16);
        let known = kinds.iter().zip(&mut found).enumerate().find(|(_, (kind, _))| kind.number == number);
        let Some((index, (kind, messages))) = known else {
            refused.push(Refusal { place, kind: 0, fault: Fault::Damaged });
            continue;
        };
        match read(kind, slot, position, origin.latest_us, &mut values) {
            Ok(at_us) => write(kind, &values, position, at_us, origin, messages),
            Err(fault) => refused.push(Refusal { place, kind: index, fault }),
        }
    }
    (found, refused)
}

fn write(kind: &Kind, values: &[Value<'_>], position: u64, at_us: i64, origin: &Origin<'_>, into: &mut Messages) {
    let bytes = &mut into.bytes;
    if let Some(Value::Text(key)) = values.get(kind.key) {
        bytes.extend_from_slice(key.as_bytes());
    }
    let key = bytes.len();
    bytes.extend_from_slice(&kind.frame);
    bytes.extend_from_slice(&event_id(origin.ring, position, at_us).to_be_bytes());
    avro::text(bytes, origin.producer);
    avro::long(bytes, position.cast_signed());
    for (field, value) in kind.fields.iter().zip(values) {
        if field.optional {
            avro::long(bytes, i64::from(!matches!(value, Value::Null)));
        }
        match *value {
            Value::Text(text) => avro::text(bytes, text),
            Value::Long(number) => avro::long(bytes, number),
            Value::Int(number) => avro::long(bytes, number.into()),
            Value::Decimal(number) => avro::decimal(bytes, number),
            Value::Double(number) => bytes.extend_from_slice(&number.to_le_bytes()),
            Value::Enum(word) => avro::long(bytes, word as i64),
            // A slot has no more than these.
            Value::Null | Value::Boolean(_) | Value::Float(_) | Value::Bytes(_) | Value::Fixed(_) => {}
        }
    }
    into.ends.push((key, bytes.len()));
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

/// The values of a slot's fields, and its time in microseconds.
fn read<'a>(
    kind: &Kind,
    slot: &'a [u8],
    position: u64,
    latest_us: i64,
    values: &mut Vec<Value<'a>>,
) -> Result<i64, Fault> {
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
    match values.get(kind.time) {
        Some(&Value::Long(at_us)) if at_us <= latest_us => Ok(at_us),
        _ => Err(Fault::Ahead(kind.time)),
    }
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
