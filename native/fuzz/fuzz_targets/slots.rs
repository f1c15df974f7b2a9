//! Any bytes as slots of a ring, of two kinds that have every shape between them: no panic, and every slot is either a
//! message or refused. One that was sealed and then changed in one bit is damaged, one that names another position is
//! elsewhere, and a message is one that the check finds sound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sentio_native::check::{self, Value};
use sentio_native::layout::{self, Branch, Limits};
use sentio_native::ring::{self, Fault, Field, Kind, Origin, SLOT, Shape};

const HEAD: usize = 24;
const LATEST: i64 = 1_800_000_000_000_000;
/// Of the frame, before what Avro says.
const FRAME: usize = 5;
/// `_MOST` of producers/sidecar/ring.py.
const POSITIONS: u64 = 1 << 62;
/// What the checksums of the two kinds are of.
const SIZES: [usize; 2] = [144, 48];

fn field(shape: Shape, offset: usize, size: usize) -> Field {
    Field { shape, offset, size, optional: false, whole: None, real: None, words: 0 }
}

fn kinds() -> Vec<Kind> {
    let at = |offset| field(Shape::Long, offset, 8);
    let large = vec![
        field(Shape::Text, 24, 32),
        Field { optional: true, ..field(Shape::Text, 56, 40) },
        Field { words: 2, ..field(Shape::Word, 96, 4) },
        Field { whole: Some((0, i32::MAX.into())), ..field(Shape::Int, 100, 4) },
        Field { whole: Some((1, i64::MAX.into())), ..field(Shape::Decimal, 104, 8) },
        Field { optional: true, ..field(Shape::Decimal, 112, 8) },
        Field { real: Some((0.0, true, 1.0)), ..field(Shape::Double, 120, 8) },
        field(Shape::Long, 128, 8),
        at(136),
    ];
    let small = vec![field(Shape::Text, 24, 16), at(40)];
    let kinds = [Kind::new(1, 7, large, 8, 0), Kind::new(2, 8, small, 1, 0)];
    kinds.into_iter().map(|kind| kind.expect("the fields lie in a slot")).collect()
}

/// Of the messages of each kind, as their readers know them.
fn layouts() -> [Vec<layout::Field>; 2] {
    let branch = |shape, limits| Branch { shape, limits };
    let plain = |shape, limits| layout::Field { branches: vec![branch(shape, limits)], is_union: false };
    let optional = |shape| layout::Field {
        branches: vec![branch(layout::Shape::Null, Limits::None), branch(shape, Limits::None)],
        is_union: true,
    };
    let whole = |low, high| Limits::Whole { low, high };
    let given = || {
        vec![
            plain(layout::Shape::Fixed(16), Limits::None),
            plain(layout::Shape::String, Limits::Text),
            plain(layout::Shape::Long, whole(0, i64::MAX.into())),
        ]
    };
    let at = || plain(layout::Shape::Long, whole(i64::MIN.into(), LATEST.into()));
    let mut large = given();
    large.extend([
        plain(layout::Shape::String, Limits::Text),
        optional(layout::Shape::String),
        plain(layout::Shape::Enum(2), Limits::Symbols(vec![true, true])),
        plain(layout::Shape::Int, whole(0, i32::MAX.into())),
        plain(layout::Shape::Decimal, whole(1, i64::MAX.into())),
        optional(layout::Shape::Decimal),
        plain(layout::Shape::Double, Limits::Real { low: 0.0, closed: true, high: 1.0 }),
        plain(layout::Shape::Long, Limits::None),
        at(),
    ]);
    let mut small = given();
    small.extend([plain(layout::Shape::String, Limits::Text), at()]);
    [large, small]
}

thread_local! {
    static KINDS: Vec<Kind> = kinds();
    static LAYOUTS: [Vec<layout::Field>; 2] = layouts();
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
    let origin = Origin { first, ring: u128::from(first) << 40, producer: "engine@1", latest_us: LATEST };
    let (found, refused) = KINDS.with(|kinds| ring::messages(kinds, &slots, &origin));
    let mut places: Vec<usize> = refused.iter().map(|refusal| refusal.place).collect();
    assert!(places.is_sorted_by(|one, other| one < other));
    LAYOUTS.with(|layouts| {
        let mut row = Vec::new();
        for (layout, messages) in layouts.iter().zip(&found) {
            for (key, value) in messages.iter() {
                check::row(layout, &value[FRAME..], &mut row).expect("a sound message");
                let [_, _, Value::Long(sequence), Value::Text(text), ..] = row[..] else { panic!("the first fields") };
                assert_eq!(key, text.as_bytes());
                places.push((sequence.unsigned_abs() - first) as usize);
            }
        }
    });
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
