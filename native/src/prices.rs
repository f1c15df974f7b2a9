//! Deals to prices in USD, exact and rounded once: what `producers/webhooks/prices.py` makes of them. What does not fit
//! into its numbers is left to Python.

use std::collections::HashMap;

use crate::webhooks::{Deal, Tokens, rounded};

/// Seconds by which the price of a quote may be older than a swap, by their blocks' times.
const KNOWN_FOR_S: u64 = 60;

/// Of each quote by its mint what it cost last: the block's time, the slot, the price in 10^-10 USD.
pub type Newest = HashMap<String, (u64, u64, i128)>;

pub struct Price<'a> {
    pub signature: &'a str,
    pub slot: u64,
    pub at_s: u64,
    /// What is priced, by its place among the tokens.
    pub base: usize,
    /// 10^-10 USD; zero where it comes to less than half of one.
    pub units: u64,
}

/// Some(Err) where a deal has no price because its quote has none.
pub fn priced<'a>(deal: &Deal<'a>, tokens: &Tokens, newest: &mut Newest) -> Option<Result<Price<'a>, &'static str>> {
    let (base, quote) = (tokens.at(deal.base)?, tokens.at(deal.quote)?);
    let quoted = match (quote.usd, newest.get(&quote.mint)) {
        (Some(usd), _) => usd,
        (None, Some(&(at_s, _, units))) if deal.at_s.abs_diff(at_s) <= KNOWN_FOR_S => units,
        _ => return Some(Err("quote_without_price")),
    };
    let power = 10_i128.checked_pow(base.decimals.abs_diff(quote.decimals))?;
    let (mut over, mut under) = (quoted.checked_mul(deal.quote_units.into())?, i128::from(deal.base_units));
    let scaled = if base.decimals > quote.decimals { &mut over } else { &mut under };
    *scaled = scaled.checked_mul(power)?;
    let units = u64::try_from(rounded(over, under)).ok()?;
    if units > 0 && base.quote && newest.get(&base.mint).is_none_or(|&(at_s, slot, _)| (deal.at_s, deal.slot) >= (at_s, slot)) {
        newest.insert(base.mint.clone(), (deal.at_s, deal.slot, units.into()));
    }
    Some(Ok(Price { signature: deal.signature, slot: deal.slot, at_s: deal.at_s, base: deal.base, units }))
}
