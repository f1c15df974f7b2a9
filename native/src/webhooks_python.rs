//! `sentio_native.Webhooks`: the face of `webhooks`. The GIL is released while a body is read.

use pyo3::prelude::*;

use crate::webhooks::{Deal, Outcome, Token, Tokens, outcomes};

/// mint, decimals, whether it is money, whether it is a quote: `producers.webhooks.tokens.Token`.
type PlainToken = (String, u32, bool, bool);
/// index of the event, signature, slot, at_s, places of base and quote among the tokens, units of base and quote.
type PlainDeal<'a> = (usize, &'a str, u64, u64, usize, usize, u64, u64);

#[pyclass(frozen)]
pub struct Webhooks {
    tokens: Tokens,
}

#[pymethods]
impl Webhooks {
    #[new]
    fn new(tokens: Vec<PlainToken>) -> Self {
        let token = |(mint, decimals, money, quote)| Token { mint, decimals, money, quote };
        Webhooks { tokens: Tokens::new(tokens.into_iter().map(token).collect()) }
    }

    /// The deals of a body in the order of their blocks, and why each of the other events says no price; None where
    /// Python has to look at it. No block's time is later than `latest_s`.
    fn read<'a>(&self, py: Python<'_>, body: &'a [u8], latest_s: f64) -> Option<(Vec<PlainDeal<'a>>, Vec<&'static str>)> {
        py.detach(|| {
            let (mut deals, mut ignored) = (Vec::new(), Vec::new());
            for (index, outcome) in outcomes(body, &self.tokens, latest_s)?.into_iter().enumerate() {
                match outcome {
                    Outcome::Deal(deal) => deals.push((index, deal)),
                    Outcome::None(reason) => ignored.push(reason),
                }
            }
            deals.sort_by_key(|(_, deal)| (deal.at_s, deal.slot));
            let plain = |(index, deal): (usize, Deal<'a>)| {
                (index, deal.signature, deal.slot, deal.at_s, deal.base, deal.quote, deal.base_units, deal.quote_units)
            };
            Some((deals.into_iter().map(plain).collect(), ignored))
        })
    }
}
