//! A message's JSON text, as clients of the stream are given it: from checked values, without columns in between.
//! The rules are those of `gateway/stream/documents.py`; tests hold the two equal.

use std::fmt::Write;

use arrow_schema::{DataType, Schema};

use crate::check::Value;

/// How the rows of an event are written.
pub struct Form {
    /// Of each column what stands before its value (`{"name":`, then `,"name":`), and how that is written.
    fields: Vec<(String, Kind)>,
}

enum Kind {
    /// As JSON has it.
    Plain,
    /// Text without an exponent and without trailing zeros.
    Decimal(usize),
    /// RFC 3339 with microseconds and Z.
    Micros,
    /// The words by their numbers.
    Enum(Vec<String>),
}

impl Form {
    /// Of these columns, enums being those that have words; None for one that no event of the house has.
    pub fn new(schema: &Schema, words: &[Vec<String>]) -> Option<Self> {
        let mut fields = Vec::with_capacity(words.len());
        for (field, words) in schema.fields().iter().zip(words) {
            let kind = match field.data_type() {
                DataType::Decimal128(_, scale) => Kind::Decimal(usize::try_from(*scale).ok()?),
                DataType::Timestamp(..) => Kind::Micros,
                DataType::Utf8 if !words.is_empty() => Kind::Enum(words.clone()),
                _ => Kind::Plain,
            };
            let mut before = String::from(if fields.is_empty() { '{' } else { ',' });
            text(&mut before, field.name());
            before.push(':');
            fields.push((before, kind));
        }
        Some(Form { fields })
    }

    /// The object of a row; None where a value is not of its column's type.
    pub fn document(&self, row: &[Value<'_>]) -> Option<String> {
        if row.len() != self.fields.len() {
            return None;
        }
        let mut written = String::with_capacity(512);
        for ((before, kind), value) in self.fields.iter().zip(row) {
            written.push_str(before);
            kind.write(&mut written, *value)?;
        }
        written.push('}');
        Some(written)
    }
}

impl Kind {
    fn write(&self, out: &mut String, value: Value<'_>) -> Option<()> {
        match (self, value) {
            (_, Value::Null) => out.push_str("null"),
            (Kind::Decimal(scale), Value::Decimal(unscaled)) => decimal(out, unscaled, *scale),
            (Kind::Micros, Value::Long(at)) => time(out, at),
            (Kind::Enum(words), Value::Enum(place)) => text(out, words.get(place)?),
            (Kind::Plain, Value::Text(value)) => text(out, value),
            (Kind::Plain, Value::Long(value)) => write!(out, "{value}").ok()?,
            (Kind::Plain, Value::Int(value)) => write!(out, "{value}").ok()?,
            (Kind::Plain, Value::Double(value)) => double(out, value),
            (Kind::Plain, Value::Boolean(value)) => out.push_str(if value { "true" } else { "false" }),
            (Kind::Plain, Value::Fixed(raw)) => uuid(out, raw),
            _ => return None,
        }
        Some(())
    }
}

/// Quoted, in ASCII.
fn text(out: &mut String, value: &str) {
    out.push('"');
    for character in value.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}"); // to a string: it cannot fail
                }
            }
        }
    }
    out.push('"');
}

fn decimal(out: &mut String, unscaled: i128, scale: usize) {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let part = part.trim_end_matches('0');
    out.push('"');
    if unscaled < 0 {
        out.push('-');
    }
    out.push_str(whole);
    if !part.is_empty() {
        out.push('.');
        out.push_str(part);
    }
    out.push('"');
}

/// Microseconds since 1970, UTC. The date by Howard Hinnant's `civil_from_days`.
fn time(out: &mut String, at_us: i64) {
    const DAY_S: i64 = 86_400;
    let (seconds, micros) = (at_us.div_euclid(1_000_000), at_us.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(DAY_S) + 719_468, seconds.rem_euclid(DAY_S));
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153; // months from March on
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    // To a string: it cannot fail.
    let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z\"");
}

/// As Python's repr: the shortest digits that are this number, with an exponent below 1e-4 and from 1e16 on.
fn double(out: &mut String, value: f64) {
    if !value.is_finite() {
        out.push_str("null");
        return;
    }
    // To a string: it cannot fail.
    let size = value.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        let _ = write!(out, "{value:?}");
        return;
    }
    let written = format!("{value:e}");
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
}

fn uuid(out: &mut String, raw: &[u8]) {
    out.push('"');
    for (place, byte) in raw.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        let _ = write!(out, "{byte:02x}"); // to a string: it cannot fail
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn decimals_are_plain_and_end_in_no_zero() {
        for (unscaled, scale, expected) in
            [(0, 10, "0"), (-1, 10, "-0.0000000001"), (1_005_000, 4, "100.5"), (1_200, 0, "1200"), (-120, 2, "-1.2")]
        {
            assert_eq!(written(|out| decimal(out, unscaled, scale)), format!("\"{expected}\""));
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (at, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_827_696_000_001, "2000-02-29T12:34:56.000001Z"),
            (7_258_118_399_999_999, "2199-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(written(|out| time(out, at)), format!("\"{expected}\""));
        }
    }

    #[test]
    fn doubles_are_written_as_python_does() {
        for (value, expected) in [
            (0.0, "0.0"), (0.25, "0.25"), (1e-4, "0.0001"), (1.5e-5, "1.5e-05"), (1e16, "1e+16"), (5e-324, "5e-324"),
            (123_456_789.0, "123456789.0"), (f64::NAN, "null"),
        ] {
            assert_eq!(written(|out| double(out, value)), expected);
        }
    }
}
