//! Any bytes as messages of two versions of one event that holds every type: no panic, no unbounded memory, and never a
//! message that the check finds sound and the decoder does not. Both ways of the newest version are gone: its values as
//! the check finds them, and arrow-avro.
#![no_main]

use arrow_schema::{DataType, Field as Column, Schema, TimeUnit};
use libfuzzer_sys::fuzz_target;
use sentio_native::codec::{Reader, Version};
use sentio_native::columns;
use sentio_native::layout::{Branch, Field, Limits, Shape};

const CENTS: &str = r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#;
const SIDE: &str = r#"{"type":"enum","name":"Side","symbols":["BUY","SELL"]}"#;

fn schema(fields: &[String]) -> String {
    format!(r#"{{"type":"record","name":"Probe","namespace":"sentio.events","fields":[{}]}}"#, fields.join(","))
}

fn named(name: &str, kind: &str, rest: &str) -> String {
    format!(r#"{{"name":"{name}","type":{kind}{rest}}}"#)
}

fn one(shape: Shape, limits: Limits) -> Field {
    Field { branches: vec![Branch { shape, limits }], is_union: false }
}

fn optional(shape: Shape, limits: Limits) -> Field {
    let null = Branch { shape: Shape::Null, limits: Limits::None };
    Field { branches: vec![null, Branch { shape, limits }], is_union: true }
}

fn columns() -> columns::Shape {
    let amount = || DataType::Decimal128(9, 2);
    let columns = [
        ("id", DataType::FixedSizeBinary(16), false),
        ("symbol", DataType::Utf8, false),
        ("amount", amount(), false),
        ("pnl", amount(), true),
        ("side", DataType::Utf8, false),
        ("note", DataType::Utf8, true),
        ("count", DataType::Int32, false),
        ("ratio", DataType::Float64, false),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ];
    let mut words = vec![Vec::new(); columns.len()];
    words[4] = vec!["BUY".to_owned(), "SELL".to_owned()];
    let fields: Vec<Column> = columns.into_iter().map(|(name, kind, nullable)| Column::new(name, kind, nullable)).collect();
    columns::Shape::new(Schema::new(fields), words)
}

fn reader(shape: Option<columns::Shape>) -> Reader {
    let avro = [
        named("id", r#"{"type":"fixed","name":"Id","size":16,"logicalType":"uuid"}"#, ""),
        named("symbol", r#""string""#, ""),
        named("amount", CENTS, ""),
        named("pnl", &format!(r#"["null",{CENTS}]"#), r#","default":null"#),
        named("side", SIDE, ""),
        named("note", r#"["null","string"]"#, r#","default":null"#),
        named("count", r#""int""#, r#","default":1"#),
        named("ratio", r#""double""#, r#","default":0.5"#),
        named("at", r#"{"type":"long","logicalType":"timestamp-micros"}"#, ""),
    ];
    let cents = || Limits::Whole { low: -999_999_999, high: 999_999_999 };
    let fields = || {
        vec![
            one(Shape::Fixed(16), Limits::None),
            one(Shape::String, Limits::Text),
            one(Shape::Decimal, cents()),
            optional(Shape::Decimal, cents()),
            one(Shape::Enum(2), Limits::Symbols(vec![true, true])),
            optional(Shape::String, Limits::Text),
            one(Shape::Int, Limits::Whole { low: 0, high: i32::MAX.into() }),
            one(Shape::Double, Limits::Real { low: 0.0, closed: true, high: 1.0 }),
            one(Shape::Long, Limits::Whole { low: 0, high: 7_258_118_399_999_999 }),
        ]
    };
    let mut older = fields();
    older.drain(6..8);
    older.push(one(Shape::Bytes, Limits::None));
    let older_avro = [&avro[..6], &avro[8..], &[named("blob", r#""bytes""#, "")]].concat();
    let newest = schema(&avro);
    Reader::new(
        newest.clone(),
        vec![
            Version { id: 1, schema: schema(&older_avro), layout: older },
            Version { id: 2, schema: newest, layout: fields() },
        ],
        shape,
    )
    .expect("the schemas are sound")
}

thread_local! {
    static READERS: std::cell::RefCell<[Reader; 2]> = std::cell::RefCell::new([reader(None), reader(Some(columns()))]);
}

// A batch of messages: each begins with its length (one byte) and whether it is to be framed, as which version.
fuzz_target!(|bytes: &[u8]| {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut rest = bytes;
    while let [size, version, tail @ ..] = rest {
        let (body, next) = tail.split_at(tail.len().min(usize::from(*size)));
        let mut message = if version % 4 < 3 { vec![0, 0, 0, 0, version % 3 + 1] } else { Vec::new() };
        message.extend_from_slice(body);
        messages.push(message);
        rest = next;
    }
    let given: Vec<Option<&[u8]>> = messages.iter().map(|message| Some(message.as_slice())).collect();
    let [resolved, as_is] =
        READERS.with_borrow_mut(|readers| readers.each_mut().map(|reader| reader.decode(&given).expect("no disagreement")));
    assert_eq!(resolved.poison, as_is.poison);
    for decoded in [resolved, as_is] {
        let rows: usize = decoded.parts.iter().map(|(batch, _)| batch.num_rows()).sum();
        assert_eq!(rows + decoded.poison.len(), messages.len());
    }
});
