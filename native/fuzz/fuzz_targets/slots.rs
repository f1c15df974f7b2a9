//! Any bytes as slots of a ring, of two kinds that have every shape between them: no panic, and every slot is either a row
//! or refused. One that was sealed and then changed in one bit is damaged, one that names another position is elsewhere,
//! and what is a row is within its limits.
#![no_main]

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_schema::{DataType, Field as Column, Schema, TimeUnit};
use libfuzzer_sys::fuzz_target;
use sentio_native::ring::{self, Fault, Field, Kind, SLOT, Shape};

const HEAD: usize = 24;
const LATEST: i64 = 7_258_118_399_999_999;
/// `_MOST` of producers/sidecar/ring.py.
const POSITIONS: u64 = 1 << 62;
/// What the checksums of the two kinds are of.
const SIZES: [usize; 2] = [144, 48];

fn field(shape: Shape, offset: usize, size: usize) -> Field {
    Field { shape, offset, size, optional: false, whole: None, real: None, words: 0 }
}

fn kind(number: u64, columns: Vec<(&str, DataType, bool)>, fields: Vec<Field>, time: usize) -> Kind {
    let given = [("event_id", DataType::FixedSizeBinary(16), false), ("producer", DataType::Utf8, false), ("sequence", DataType::Int64, false)];
    let words = columns.iter().map(|(name, ..)| if *name == "side" { vec!["BUY".into(), "SELL".into()] } else { Vec::new() });
    let words = given.iter().map(|_| Vec::new()).chain(words).collect();
    let columns: Vec<Column> = given.into_iter().chain(columns).map(|(name, kind, null)| Column::new(name, kind, null)).collect();
    Kind::new(number, Schema::new(columns), words, fields, time).expect("the fields lie in a slot")
}

fn kinds() -> Vec<Kind> {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let at = |offset| Field { whole: Some((1, LATEST.into())), ..field(Shape::Long, offset, 8) };
    let amount = || DataType::Decimal128(28, 8);
    let large = kind(
        1,
        vec![
            ("account", DataType::Utf8, false),
            ("order", DataType::Utf8, true),
            ("side", DataType::Utf8, false),
            ("count", DataType::Int32, false),
            ("amount", amount(), false),
            ("pnl", amount(), true),
            ("ratio", DataType::Float64, false),
            ("bar", DataType::Int64, false),
            ("at", time(), false),
        ],
        vec![
            field(Shape::Text, 24, 32),
            Field { optional: true, ..field(Shape::Text, 56, 40) },
            Field { words: 2, ..field(Shape::Word, 96, 4) },
            Field { whole: Some((0, i32::MAX.into())), ..field(Shape::Int, 100, 4) },
            Field { whole: Some((1, i64::MAX.into())), ..field(Shape::Decimal, 104, 8) },
            Field { optional: true, ..field(Shape::Decimal, 112, 8) },
            Field { real: Some((0.0, true, 1.0)), ..field(Shape::Double, 120, 8) },
            field(Shape::Long, 128, 8),
            at(136),
        ],
        8,
    );
    let small = kind(2, vec![("symbol", DataType::Utf8, false), ("at", time(), false)], vec![field(Shape::Text, 24, 16), at(40)], 1);
    vec![large, small]
}

thread_local! {
    static KINDS: Vec<Kind> = kinds();
}

/// What becomes of a slot, where that is known.
#[derive(Clone, Copy)]
enum Expected {
    Anything,
    Damaged,
    Elsewhere(u64),
}

/// A slot whose kind, position and checksum are right or made wrong as `control` says, or `content` as it is.
fn slot(control: u8, content: &[u8], position: u64) -> ([u8; SLOT], Expected) {
    let mut slot = [0; SLOT];
    let index = usize::from(control & 1);
    let start = if control & 6 == 0 { 0 } else { HEAD };
    let room = content.len().min(SLOT - start);
    slot[start..start + room].copy_from_slice(&content[..room]);
    if start == 0 {
        return (slot, Expected::Anything);
    }
    let at = if control & 6 == 4 { position ^ 1 << (control >> 3) } else { position };
    slot[8..16].copy_from_slice(&at.to_le_bytes());
    slot[16..24].copy_from_slice(&(index as u64 + 1).to_le_bytes());
    let sum = ring::checksum(&slot, SIZES[index]);
    slot[..8].copy_from_slice(&sum.to_le_bytes());
    if control & 6 == 6 {
        let byte = content.first().map_or(0, |&byte| usize::from(byte)) % SIZES[index];
        slot[byte] ^= 1 << (control >> 5);
        return (slot, Expected::Damaged);
    }
    (slot, if at == position { Expected::Anything } else { Expected::Elsewhere(at) })
}

// The first position, then slots: each begins with what to do with it, and how many bytes of it follow.
fuzz_target!(|bytes: &[u8]| {
    let Some((position, mut rest)) = bytes.split_first_chunk() else { return };
    let first = u64::from_le_bytes(*position) % POSITIONS;
    let mut slots = Vec::new();
    let mut expected = Vec::new();
    while let [control, size, tail @ ..] = rest {
        let (content, next) = tail.split_at(tail.len().min(usize::from(*size)));
        let (made, becomes) = slot(*control, content, first + expected.len() as u64);
        slots.extend_from_slice(&made);
        expected.push(becomes);
        rest = next;
    }
    let (batches, refused) =
        KINDS.with(|kinds| ring::decode(kinds, &slots, first, u128::from(first) << 40, "engine@1")).expect("a batch of each kind");
    let mut places: Vec<usize> = refused.iter().map(|refusal| refusal.place).collect();
    assert!(places.is_sorted_by(|one, other| one < other));
    for batch in &batches {
        let sequences = batch["sequence"].as_primitive::<Int64Type>().values();
        places.extend(sequences.iter().map(|&sequence| (sequence.unsigned_abs() - first) as usize));
        assert!(batch["at"].as_primitive::<TimestampMicrosecondType>().values().iter().all(|at| (1..=LATEST).contains(at)));
    }
    let large = &batches[0];
    assert!(large["ratio"].as_primitive::<Float64Type>().values().iter().all(|ratio| (0.0..=1.0).contains(ratio)));
    assert!(large["count"].as_primitive::<Int32Type>().values().iter().all(|count| *count >= 0));
    places.sort_unstable();
    assert!(places.into_iter().eq(0..expected.len()));
    for (place, becomes) in expected.iter().enumerate() {
        let fault = refused.iter().find(|refusal| refusal.place == place).map(|refusal| refusal.fault);
        match *becomes {
            Expected::Anything => {}
            Expected::Damaged => assert_eq!(fault, Some(Fault::Damaged)),
            Expected::Elsewhere(at) => assert_eq!(fault, Some(Fault::Elsewhere(at))),
        }
    }
});
