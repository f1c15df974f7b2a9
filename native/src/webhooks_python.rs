//! `sentio_native.Webhooks`: the face of `webhooks` and `prices`. The GIL is released while a body is read.

use pyo3::prelude::*;

use crate::prices::{Newest, Price, priced};
use crate::webhooks::{Outcome, Token, Tokens, outcomes};

/// mint, decimals, what one is worth in 10^-10 USD if that is always the same, whether it is a quote:
/// `producers.webhooks.tokens.Token`.
type PlainToken = (String, u32, Option<i128>, bool);
/// signature, slot, at_s, the token by its place, 10^-10 USD.
type PlainPrice<'a> = (&'a str, u64, u64, usize, u64);
/// Index of the event, signature, the token by its place.
type Worthless<'a> = (usize, &'a str, usize);
type Read<'a> = (Vec<PlainPrice<'a>>, Vec<Worthless<'a>>, Vec<&'static str>, Newest);

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

    /// The prices of a body in the order of their blocks, those that come to zero, why each of the other events says none,
    /// and what quotes cost last behind it; None where Python has to look at it. No block's time is later than `latest_s`.
    fn read<'a>(&self, py: Python<'_>, body: &'a [u8], latest_s: f64, mut newest: Newest) -> Option<Read<'a>> {
        py.detach(|| {
            let (mut deals, mut ignored) = (Vec::new(), Vec::new());
            for (index, outcome) in outcomes(body, &self.tokens, latest_s)?.into_iter().enumerate() {
                match outcome {
                    Outcome::Deal(deal) => deals.push((index, deal)),
                    Outcome::None(reason) => ignored.push(reason),
                }
            }
            // So a quote has its price before it is used.
            deals.sort_by_key(|(_, deal)| (deal.at_s, deal.slot));
            let (mut prices, mut worthless) = (Vec::with_capacity(deals.len()), Vec::new());
            for (index, deal) in &deals {
                match priced(deal, &self.tokens, &mut newest)? {
                    Ok(Price { units: 0, signature, base, .. }) => worthless.push((*index, signature, base)),
                    Ok(Price { signature, slot, at_s, base, units }) => prices.push((signature, slot, at_s, base, units)),
                    Err(reason) => ignored.push(reason),
                }
            }
            Some((prices, worthless, ignored, newest))
        })
    }
}
