//! `sentio_native.Webhooks`: the face of `webhooks` and `prices`. The GIL is released while a body is read.

use pyo3::prelude::*;

use crate::prices::{Newest, Price, priced};
use crate::webhooks::{Outcome, Token, Tokens, outcomes};

/// mint, decimals, what one is worth in 10^-10 USD if that is always the same, whether it is a quote:
/// `producers.webhooks.tokens.Token`.
type PlainToken = (String, u32, Option<i128>, bool);
/// signature, slot, at_s, the token by its place, 10^-10 USD.
type PlainPrice<'a> = (&'a str, u64, u64, usize, u64);
/// An event that Python has to look at, by its index and as it stands in the body.
type Unsure<'a> = (usize, &'a [u8]);
/// One whose price comes to zero, the token by its place.
type Worthless<'a> = (usize, &'a [u8], usize);
type Read<'a> = (Vec<PlainPrice<'a>>, Vec<Unsure<'a>>, Vec<Worthless<'a>>, Vec<&'static str>, Newest);

#[pyclass(frozen)]
pub struct Webhooks {
    tokens: Tokens,
}

#[pymethods]
impl Webhooks {
    #[new]
    fn new(tokens: Vec<PlainToken>) -> Self {
        let token = |(mint, decimals, usd, quote)| Token { mint, decimals, usd, quote };
        Webhooks { tokens: Tokens::new(tokens.into_iter().map(token).collect()) }
    }

    /// The prices of a body in the order of their blocks, the events of which that is not certain, those whose price comes
    /// to zero, why each of the others says none, and what quotes cost last behind it; None where Python has to look at
    /// the whole. No block's time is later than `latest_s`.
    fn read<'a>(&self, py: Python<'_>, body: &'a [u8], latest_s: f64, mut newest: Newest) -> Option<Read<'a>> {
        py.detach(|| {
            let (mut deals, mut unsure, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
            for (index, (text, outcome)) in outcomes(body, &self.tokens, latest_s)?.into_iter().enumerate() {
                match outcome {
                    Outcome::Deal(deal) => deals.push((index, text, deal)),
                    Outcome::None(reason) => ignored.push(reason),
                    Outcome::Unsure => unsure.push((index, text.as_bytes())),
                }
            }
            // So a quote has its price before it is used.
            deals.sort_by_key(|(_, _, deal)| (deal.at_s, deal.slot));
            let (mut prices, mut worthless) = (Vec::with_capacity(deals.len()), Vec::new());
            for (index, text, deal) in &deals {
                match priced(deal, &self.tokens, &mut newest)? {
                    Ok(Price { units: 0, base, .. }) => worthless.push((*index, text.as_bytes(), base)),
                    Ok(Price { signature, slot, at_s, base, units }) => prices.push((signature, slot, at_s, base, units)),
                    Err(reason) => ignored.push(reason),
                }
            }
            Some((prices, unsure, worthless, ignored, newest))
        })
    }
}
