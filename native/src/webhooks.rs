//! Bodies of webhooks to swaps, past Python: what `producers/webhooks/{bodies,helius}.py` make of them.
//!
//! It takes only what it knows for certain: JSON as the standard has it, events of the shapes that are sent, values within
//! their limits. An event that is otherwise goes the way through Python, which says what is wrong with it, if anything;
//! so does a body that is otherwise between its events. The rules are those of Python; tests hold the two equal.

use std::collections::HashMap;

use crate::webhook_events::{Event, Meta, Transaction, Transfer, event};
use crate::webhook_text::{Leaf, Text};

const WRAPPED_SOL: &str = "So11111111111111111111111111111111111111112";
const LAMPORTS: u32 = 9;
/// Decimals in which amounts are counted here, the most that a token has.
const SCALE: u32 = 18;
const LARGEST: i128 = 10_i128.pow(20 + SCALE);
/// 2020-03-16, when Solana's chain begins.
const FIRST_S: u64 = 1_584_316_800;
/// Below it every whole number is a float.
const FLOATS_END: f64 = 9_007_199_254_740_992.0;
/// So many digits come out of a float as they went in.
const FLOAT_DIGITS: usize = 15;

pub struct Token {
    pub mint: String,
    pub decimals: u32,
    /// What one is worth in 10^-10 USD if that is always the same: it is money then.
    pub usd: Option<i128>,
    pub quote: bool,
}

/// Those of the file, and where each is by its mint.
pub struct Tokens {
    all: Vec<Token>,
    places: HashMap<String, usize>,
}

impl Tokens {
    pub fn new(all: Vec<Token>) -> Self {
        let places = all.iter().enumerate().map(|(place, token)| (token.mint.clone(), place)).collect();
        Tokens { all, places }
    }

    pub fn at(&self, place: usize) -> Option<&Token> {
        self.all.get(place)
    }

    fn get(&self, mint: &str) -> Option<(usize, &Token)> {
        let place = *self.places.get(mint)?;
        self.at(place).map(|token| (place, token))
    }

    fn decimals(&self, mint: &str) -> Option<u32> {
        self.get(mint).map(|(_, token)| token.decimals)
    }
}

/// A token was exchanged for money or a quote: both by their place among the tokens, in smallest units.
pub struct Deal<'a> {
    pub signature: &'a str,
    pub slot: u64,
    pub at_s: u64,
    pub base: usize,
    pub quote: usize,
    pub base_units: u64,
    pub quote_units: u64,
}

pub enum Outcome<'a> {
    Deal(Deal<'a>),
    /// The event says no price: which kind of event it is.
    None(&'static str),
    /// Python has to look at it.
    Unsure,
}

/// Each event of a body as it stands there, and what it comes to; None where Python has to look at the whole.
pub fn outcomes<'a>(body: &'a [u8], tokens: &Tokens, latest_s: f64) -> Option<Vec<(&'a str, Outcome<'a>)>> {
    let mut text = Text::new(std::str::from_utf8(body).ok()?);
    let mut found = Vec::with_capacity(body.len() / 2_048);
    text.array(|text, _| {
        let (own, outcome) = text.tried(|text| event(text)?.outcome(tokens, latest_s))?;
        found.push((own, outcome.unwrap_or(Outcome::Unsure)));
        Some(())
    })?;
    text.is_at_end().then_some(found)
}

/// By mint, what the trader gained, below zero what was given.
struct Changes<'a>(Vec<(&'a str, i128)>);

impl<'a> Changes<'a> {
    fn add(&mut self, mint: &'a str, amount: i128) -> Option<()> {
        match self.0.iter_mut().find(|(known, _)| *known == mint) {
            Some((_, change)) => *change = change.checked_add(amount)?,
            None => self.0.push((mint, amount)),
        }
        Some(())
    }
}

impl<'a> Event<'a> {
    fn outcome(&self, tokens: &Tokens, latest_s: f64) -> Option<Outcome<'a>> {
        let (signature, time) = match &self.transaction {
            Some(transaction) => (transaction.signature, self.block_time),
            None => (self.signature, self.timestamp),
        };
        let signature = signature.text().filter(|text| (64..=88).contains(&text.len()) && is_base58(text))?;
        if self.transaction.is_none() && self.kind.text()? != "SWAP" {
            return Some(Outcome::None("no_swap"));
        }
        let failed = if self.transaction.is_some() { self.meta.as_ref()?.failed } else { self.failed };
        if failed {
            return Some(Outcome::None("failed"));
        }
        let slot = self.slot.whole().filter(|slot| (1..1 << 63).contains(slot))?;
        let at_s = time.whole().filter(|&at_s| at_s >= FIRST_S && (at_s as f64) <= latest_s)?;
        let changes = match &self.transaction {
            Some(transaction) => raw(transaction, self.meta.as_ref()?, tokens)?,
            None => self.enhanced(tokens)?,
        };
        match legs(&changes, tokens) {
            Ok((base, quote, base_units, quote_units)) => {
                Some(Outcome::Deal(Deal { signature, slot, at_s, base, quote, base_units, quote_units }))
            }
            Err(reason) => reason.map(Outcome::None),
        }
    }

    fn enhanced(&self, tokens: &Tokens) -> Option<Changes<'a>> {
        let transfers = self.transfers.as_ref()?;
        let mut trader = self.fee_payer.text().filter(|text| is_address(text))?;
        let mut changes = transferred(trader, transfers, tokens)?;
        if changes.0.len() < 2 {
            if changes.0.is_empty()
                && let Some(user) = self.summary.gave.or(self.summary.got)
                && let Some(user) = user.maybe_text()?
                && !user.is_empty()
            {
                trader = user; // somebody else paid the fee
                changes = transferred(trader, transfers, tokens)?;
            }
            if changes.0.iter().all(|(mint, _)| *mint != WRAPPED_SOL) {
                let mut lamports = 0_i128;
                for (native, sign) in [(&self.summary.input, -1), (&self.summary.output, 1)] {
                    if native.account.maybe_text()? == Some(trader) {
                        lamports = lamports.checked_add(sign * units(native.amount, LAMPORTS)?)?;
                    }
                }
                if lamports != 0 {
                    changes.add(WRAPPED_SOL, lamports)?;
                }
            }
        }
        Some(changes)
    }
}

/// What is left: hops between pools are not the trader's, and what passes through adds up to nothing.
fn transferred<'a>(trader: &str, transfers: &[Transfer<'a>], tokens: &Tokens) -> Option<Changes<'a>> {
    let mut changes = Changes(Vec::with_capacity(4));
    for transfer in transfers {
        let came = i128::from(transfer.to.maybe_text()? == Some(trader)) - i128::from(transfer.from.maybe_text()? == Some(trader));
        if came == 0 {
            continue;
        }
        let mint = transfer.mint.text().filter(|text| is_address(text))?;
        changes.add(mint, came * amount(transfer.amount, tokens.decimals(mint))?)?;
    }
    changes.0.retain(|(_, change)| *change != 0);
    Some(changes)
}

fn raw<'a>(transaction: &Transaction<'a>, meta: &Meta<'a>, tokens: &Tokens) -> Option<Changes<'a>> {
    let trader = transaction.payer.text().filter(|text| is_address(text))?;
    let mut changes = Changes(Vec::with_capacity(4));
    for (balances, sign) in [(meta.before.as_ref()?, -1), (meta.after.as_ref()?, 1)] {
        for balance in balances {
            if balance.owner.maybe_text()? != Some(trader) {
                continue;
            }
            let mint = balance.mint.text().filter(|text| is_address(text))?;
            let decimals = u32::try_from(balance.decimals.whole()?).ok().filter(|&decimals| decimals <= SCALE)?;
            if tokens.decimals(mint).is_some_and(|known| known != decimals) {
                return None;
            }
            changes.add(mint, sign * units(balance.amount, decimals)?)?;
        }
    }
    Some(changes)
}

/// Base, quote, and how much of each; Err(Some) where there is no price, Err(None) where that is not certain.
fn legs(changes: &Changes<'_>, tokens: &Tokens) -> Result<(usize, usize, u64, u64), Option<&'static str>> {
    let mut left = changes.0.iter().filter(|(_, change)| *change != 0);
    let (Some((one_mint, one)), Some((other_mint, other)), None) = (left.next(), left.next(), left.next()) else {
        let count = changes.0.iter().filter(|(_, change)| *change != 0).count();
        return Err(Some(if count > 2 { "several_tokens" } else { "no_swap" }));
    };
    if (*one > 0) == (*other > 0) {
        return Err(Some("no_swap"));
    }
    let (Some((one_place, one_token)), Some((other_place, other_token))) = (tokens.get(one_mint), tokens.get(other_mint))
    else {
        return Err(Some("unknown_mint"));
    };
    match (one_token.usd.is_some(), other_token.usd.is_some()) {
        (true, true) => return Err(Some("only_money")),
        (false, false) if one_token.quote == other_token.quote => return Err(Some("no_money")),
        _ => {}
    }
    let one_units = whole(*one, one_token).ok_or(None)?;
    let other_units = whole(*other, other_token).ok_or(None)?;
    if one_token.usd.is_some() || (one_token.quote && other_token.usd.is_none()) {
        Ok((other_place, one_place, other_units, one_units))
    } else {
        Ok((one_place, other_place, one_units, other_units))
    }
}

/// In smallest units, without its sign.
fn whole(change: i128, token: &Token) -> Option<u64> {
    let unit = 10_i128.checked_pow(SCALE.checked_sub(token.decimals)?)?;
    (change % unit == 0).then(|| u64::try_from((change / unit).unsigned_abs()).ok())?
}

/// A number of smallest units, written as text or as a number.
fn units(value: Leaf<'_>, decimals: u32) -> Option<i128> {
    let digits = match value {
        Leaf::Text(digits) | Leaf::Number(digits) => digits,
        _ => return None,
    };
    if !(1..=20).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(SCALE.checked_sub(decimals)?)?)
}

/// A number of whole tokens, above zero. Of a known token the nearest whole number of smallest units is what it was.
fn amount(value: Leaf<'_>, decimals: Option<u32>) -> Option<i128> {
    let Leaf::Number(text) = value else { return None };
    if text.starts_with('-') {
        return None;
    }
    let shortest: String;
    let mut digits = text;
    if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        let size = text.parse::<f64>().ok()?;
        if let Some(decimals) = decimals
            && size * 10_f64.powi(i32::try_from(decimals).ok()?) >= FLOATS_END
        {
            return None; // beyond what floats say exactly
        }
        if text.len() > FLOAT_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            shortest = format!("{size:e}");
            digits = &shortest;
        }
    }
    let (mantissa, exponent) = match digits.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (mut number, mut places) = (before.parse::<i128>().ok().filter(|_| before.len() <= 21)?, -exponent);
    if !behind.is_empty() {
        let size = u32::try_from(behind.len()).ok().filter(|&size| size <= 17)?;
        number = number.checked_mul(10_i128.pow(size))?.checked_add(behind.parse::<i128>().ok()?)?;
        places += i32::try_from(size).ok()?;
    }
    let scaled = match (decimals, i32::try_from(SCALE).ok()?) {
        (None, scale) => number.checked_mul(10_i128.checked_pow(u32::try_from(scale - places).ok()?)?)?,
        (Some(decimals), _) => {
            let unit = 10_i128.checked_pow(SCALE.checked_sub(decimals)?)?;
            let shift = i32::try_from(decimals).ok()? - places;
            let power = 10_i128.checked_pow(shift.unsigned_abs())?;
            let units = if shift >= 0 { number.checked_mul(power)? } else { rounded(number, power) };
            units.checked_mul(unit)?
        }
    };
    (scaled > 0 && scaled <= LARGEST).then_some(scaled)
}

/// The nearest whole number, of two the even one; neither is below zero.
pub fn rounded(over: i128, under: i128) -> i128 {
    let (whole, rest) = (over / under, over % under);
    let up = rest > under - rest || (rest == under - rest && whole % 2 == 1);
    whole + i128::from(up)
}

fn is_address(text: &str) -> bool {
    (32..=44).contains(&text.len()) && is_base58(text)
}

fn is_base58(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() && !matches!(byte, b'0' | b'I' | b'O' | b'l'))
}
