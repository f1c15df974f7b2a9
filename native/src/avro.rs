//! Values as Avro writes them.

/// Of a framed message: byte 0 and the id of its schema.
pub fn frame(id: u32) -> [u8; 5] {
    let [a, b, c, d] = id.to_be_bytes();
    [0, a, b, c, d]
}

pub fn long(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        bytes.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
}

pub fn text(bytes: &mut Vec<u8>, text: &str) {
    sized(bytes, text.as_bytes());
}

/// Two's complement, big-endian, as short as can be.
pub fn decimal(bytes: &mut Vec<u8>, number: i128) {
    let whole = number.to_be_bytes();
    let needless = if number < 0 { number.leading_ones() } else { number.leading_zeros() }.saturating_sub(1) / 8;
    sized(bytes, whole.get(needless as usize..).unwrap_or_default());
}

/// Nothing in memory is longer than a long counts.
fn sized(bytes: &mut Vec<u8>, content: &[u8]) {
    long(bytes, i64::try_from(content.len()).unwrap_or_default());
    bytes.extend_from_slice(content);
}
