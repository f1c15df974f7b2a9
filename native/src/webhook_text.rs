//! JSON read once from front to end, without making values of what nobody asks for.
//!
//! Stricter than Python's reader, so that whatever is read here Python reads alike: no name of an object twice among those
//! that are read, none with escapes, nothing deeper than `DEEPEST`, no number of more than `NUMBER_BYTES`.

const DEEPEST: usize = 64;
const NUMBER_BYTES: usize = 40;

/// A value that is no object and no array.
#[derive(Clone, Copy, Default)]
pub enum Leaf<'a> {
    /// Or it is not there.
    #[default]
    Null,
    Bool,
    Number(&'a str),
    Text(&'a str),
    /// A text that cannot be compared as it stands, or one of the numbers that JSON does not have and Python reads.
    Odd,
}

impl<'a> Leaf<'a> {
    pub fn text(self) -> Option<&'a str> {
        self.maybe_text()?
    }

    /// Some(None) for what is no text; None where that is not certain.
    pub fn maybe_text(self) -> Option<Option<&'a str>> {
        match self {
            Leaf::Text(text) => Some(Some(text)),
            Leaf::Odd => None,
            _ => Some(None),
        }
    }

    pub fn whole(self) -> Option<u64> {
        match self {
            Leaf::Number(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        }
    }
}

/// Where the reading stands. Every method returns None where the text is not as it should be; there is no going on then.
pub struct Text<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Text<'a> {
    pub fn new(text: &'a str) -> Self {
        Text { text, at: 0, depth: 0 }
    }

    pub fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    pub fn is_null(&mut self) -> bool {
        self.peek() == Some(b'n')
    }

    pub fn is_object(&mut self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Whether a value is not null; reads past it.
    pub fn is_something(&mut self) -> Option<bool> {
        let something = !self.is_null();
        self.skip().map(|()| something)
    }

    /// Each element of an array, with its place: ``each`` reads past it.
    pub fn array(&mut self, mut each: impl FnMut(&mut Self, usize) -> Option<()>) -> Option<()> {
        self.open(b'[')?;
        if self.closes(b']') {
            return Some(());
        }
        for place in 0.. {
            each(self, place)?;
            if self.closes(b']') {
                break;
            }
            self.take(b',')?;
        }
        Some(())
    }

    /// Each field of an object: ``each`` is given the name, reads past the value, and returns a number of the name if it
    /// was wanted, which then may come once only.
    pub fn fields(&mut self, mut each: impl FnMut(&mut Self, &'a str) -> Option<Option<u32>>) -> Option<()> {
        self.open(b'{')?;
        if self.closes(b'}') {
            return Some(());
        }
        let mut seen = 0_u32;
        loop {
            self.peek();
            let Leaf::Text(name) = self.string()? else { return None };
            self.take(b':')?;
            if let Some(place) = each(self, name)? {
                let bit = 1_u32.checked_shl(place)?;
                if seen & bit != 0 {
                    return None;
                }
                seen |= bit;
            }
            if self.closes(b'}') {
                return Some(());
            }
            self.take(b',')?;
        }
    }

    /// A value that is no object and no array; returns ``place``.
    pub fn leaf(&mut self, found: &mut Leaf<'a>, place: u32) -> Option<u32> {
        self.value(found).map(|()| place)
    }

    pub fn value(&mut self, found: &mut Leaf<'a>) -> Option<()> {
        *found = match self.peek()? {
            b'"' => self.string()?,
            b'n' => self.word("null", Leaf::Null)?,
            b't' => self.word("true", Leaf::Bool)?,
            b'f' => self.word("false", Leaf::Bool)?,
            b'N' => self.word("NaN", Leaf::Odd)?,
            b'I' => self.word("Infinity", Leaf::Odd)?,
            b'-' if self.text.as_bytes().get(self.at + 1) == Some(&b'I') => self.word("-Infinity", Leaf::Odd)?,
            _ => self.number()?,
        };
        Some(())
    }

    /// A value as it stands in the text, and what ``read`` makes of it: None where that fails, but the value is sound.
    pub fn tried<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<(&'a str, Option<T>)> {
        self.peek()?;
        let (first, depth) = (self.at, self.depth);
        let found = read(self);
        if found.is_none() {
            (self.at, self.depth) = (first, depth);
            self.skip()?;
        }
        Some((self.text.get(first..self.at)?, found))
    }

    /// Past any value.
    pub fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'[' => self.array(|text, _| text.skip()),
            b'{' => self.skip_object(),
            _ => self.value(&mut Leaf::Null),
        }
    }

    fn skip_object(&mut self) -> Option<()> {
        self.open(b'{')?;
        if self.closes(b'}') {
            return Some(());
        }
        loop {
            self.peek();
            self.string()?;
            self.take(b':')?;
            self.skip()?;
            if self.closes(b'}') {
                return Some(());
            }
            self.take(b',')?;
        }
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn open(&mut self, bracket: u8) -> Option<()> {
        self.take(bracket)?;
        self.depth += 1;
        (self.depth <= DEEPEST).then_some(())
    }

    fn closes(&mut self, bracket: u8) -> bool {
        let found = self.take(bracket).is_some();
        self.depth -= usize::from(found);
        found
    }

    fn word(&mut self, word: &str, leaf: Leaf<'a>) -> Option<Leaf<'a>> {
        self.text.get(self.at..)?.starts_with(word).then(|| {
            self.at += word.len();
            leaf
        })
    }

    fn string(&mut self) -> Option<Leaf<'a>> {
        let bytes = self.text.as_bytes();
        if *bytes.get(self.at)? != b'"' {
            return None;
        }
        let first = self.at + 1;
        let mut escaped = false;
        let mut at = first;
        loop {
            at = special(bytes, at)?;
            match *bytes.get(at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    at += match *bytes.get(at + 1)? {
                        b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        _ => return None,
                    };
                }
                _ => return None,
            }
        }
        self.at = at + 1;
        Some(if escaped { Leaf::Odd } else { Leaf::Text(self.text.get(first..at)?) })
    }

    /// As the grammar of JSON has it, not below zero where it is asked for: `-` is read past.
    fn number(&mut self) -> Option<Leaf<'a>> {
        let bytes = self.text.as_bytes();
        let first = self.at;
        let mut at = first + usize::from(*bytes.get(first)? == b'-');
        let digits = |at: usize| bytes.iter().skip(at).take(NUMBER_BYTES).take_while(|byte| byte.is_ascii_digit()).count();
        let whole = digits(at);
        if whole == 0 || (whole > 1 && bytes.get(at) == Some(&b'0')) {
            return None;
        }
        at += whole;
        if bytes.get(at) == Some(&b'.') {
            let behind = digits(at + 1);
            if behind == 0 {
                return None;
            }
            at += 1 + behind;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at);
            if exponent == 0 || exponent > 2 {
                return None;
            }
            at += exponent;
        }
        self.at = at;
        (at - first <= NUMBER_BYTES).then_some(Leaf::Number(self.text.get(first..at)?))
    }
}

/// Where the next byte is that does not stand for itself in a string: its end, an escape, or what may not be there.
fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    // Eight bytes at once: of every byte that is special its highest bit is set, and of none below the first such.
    while let Some(&word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(word);
        let found = below(word, b' ') | below(word ^ each(b'"'), 1) | below(word ^ each(b'\\'), 1);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    Some(at + bytes.get(at..)?.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ')?)
}

fn below(word: u64, byte: u8) -> u64 {
    word.wrapping_sub(each(byte)) & !word & each(0x80)
}

const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}
