//! What an event of a webhook says of a swap, out of its JSON: the fields that `producers/webhooks/helius.py` looks at.
//!
//! A field is read for what it is, and not judged; None where the JSON is not what is sent. What it comes to: webhooks.rs.

use crate::webhook_text::{Leaf, Text};

#[derive(Default)]
pub struct Event<'a> {
    pub kind: Leaf<'a>,
    pub signature: Leaf<'a>,
    pub slot: Leaf<'a>,
    pub timestamp: Leaf<'a>,
    pub fee_payer: Leaf<'a>,
    pub failed: bool,
    pub transfers: Option<Vec<Transfer<'a>>>,
    pub summary: Summary<'a>,
    pub block_time: Leaf<'a>,
    pub meta: Option<Meta<'a>>,
    pub transaction: Option<Transaction<'a>>,
}

#[derive(Default)]
pub struct Transfer<'a> {
    pub from: Leaf<'a>,
    pub to: Leaf<'a>,
    pub mint: Leaf<'a>,
    pub amount: Leaf<'a>,
}

/// Helius' own, of a swap.
#[derive(Default)]
pub struct Summary<'a> {
    pub input: Native<'a>,
    pub output: Native<'a>,
    /// Of the first of the tokens that went in, and that came out, where there are any.
    pub gave: Option<Leaf<'a>>,
    pub got: Option<Leaf<'a>>,
}

#[derive(Default)]
pub struct Native<'a> {
    pub account: Leaf<'a>,
    pub amount: Leaf<'a>,
}

#[derive(Default)]
pub struct Meta<'a> {
    pub failed: bool,
    pub before: Option<Vec<Balance<'a>>>,
    pub after: Option<Vec<Balance<'a>>>,
}

#[derive(Default)]
pub struct Balance<'a> {
    pub owner: Leaf<'a>,
    pub mint: Leaf<'a>,
    pub amount: Leaf<'a>,
    pub decimals: Leaf<'a>,
}

#[derive(Default)]
pub struct Transaction<'a> {
    pub signature: Leaf<'a>,
    pub payer: Leaf<'a>,
}

pub fn event<'a>(text: &mut Text<'a>) -> Option<Event<'a>> {
    let mut event = Event::default();
    text.fields(|text, name| {
        let place = match name {
            "type" => text.leaf(&mut event.kind, 0)?,
            "signature" => text.leaf(&mut event.signature, 1)?,
            "slot" => text.leaf(&mut event.slot, 2)?,
            "timestamp" => text.leaf(&mut event.timestamp, 3)?,
            "feePayer" => text.leaf(&mut event.fee_payer, 4)?,
            "blockTime" => text.leaf(&mut event.block_time, 5)?,
            "transactionError" => {
                event.failed = text.is_something()?;
                6
            }
            "tokenTransfers" => {
                event.transfers = Some(list(text, transfer)?);
                7
            }
            "events" => {
                optional(text, |text| {
                    text.fields(|text, name| match name {
                        "swap" => optional(text, |text| summary(text, &mut event.summary)).map(|()| Some(0)),
                        _ => text.skip().map(|()| None),
                    })
                })?;
                8
            }
            "meta" => {
                event.meta = Some(meta(text)?);
                9
            }
            "transaction" => {
                event.transaction = Some(transaction(text)?);
                10
            }
            _ => return text.skip().map(|()| None),
        };
        Some(Some(place))
    })?;
    Some(event)
}

fn list<'a, T>(text: &mut Text<'a>, one: impl Fn(&mut Text<'a>) -> Option<T>) -> Option<Vec<T>> {
    let mut found = Vec::with_capacity(4);
    text.array(|text, _| {
        found.push(one(text)?);
        Some(())
    })?;
    Some(found)
}

/// Something, or null.
fn optional<'a>(text: &mut Text<'a>, read: impl FnOnce(&mut Text<'a>) -> Option<()>) -> Option<()> {
    if text.is_null() { text.skip() } else { read(text) }
}

fn transfer<'a>(text: &mut Text<'a>) -> Option<Transfer<'a>> {
    let mut found = Transfer::default();
    text.fields(|text, name| {
        Some(Some(match name {
            "fromUserAccount" => text.leaf(&mut found.from, 0)?,
            "toUserAccount" => text.leaf(&mut found.to, 1)?,
            "mint" => text.leaf(&mut found.mint, 2)?,
            "tokenAmount" => text.leaf(&mut found.amount, 3)?,
            _ => return text.skip().map(|()| None),
        }))
    })?;
    Some(found)
}

fn summary<'a>(text: &mut Text<'a>, found: &mut Summary<'a>) -> Option<()> {
    text.fields(|text, name| {
        Some(Some(match name {
            "nativeInput" => {
                optional(text, |text| native(text, &mut found.input))?;
                0
            }
            "nativeOutput" => {
                optional(text, |text| native(text, &mut found.output))?;
                1
            }
            "tokenInputs" => {
                optional(text, |text| user(text, &mut found.gave))?;
                2
            }
            "tokenOutputs" => {
                optional(text, |text| user(text, &mut found.got))?;
                3
            }
            _ => return text.skip().map(|()| None),
        }))
    })
}

fn native<'a>(text: &mut Text<'a>, found: &mut Native<'a>) -> Option<()> {
    text.fields(|text, name| {
        Some(Some(match name {
            "account" => text.leaf(&mut found.account, 0)?,
            "amount" => text.leaf(&mut found.amount, 1)?,
            _ => return text.skip().map(|()| None),
        }))
    })
}

fn user<'a>(text: &mut Text<'a>, found: &mut Option<Leaf<'a>>) -> Option<()> {
    text.array(|text, place| {
        if place > 0 {
            return text.skip();
        }
        let mut account = Leaf::default();
        text.fields(|text, name| match name {
            "userAccount" => text.leaf(&mut account, 0).map(Some),
            _ => text.skip().map(|()| None),
        })?;
        *found = Some(account);
        Some(())
    })
}

fn meta<'a>(text: &mut Text<'a>) -> Option<Meta<'a>> {
    let mut found = Meta::default();
    text.fields(|text, name| {
        Some(Some(match name {
            "err" => {
                found.failed = text.is_something()?;
                0
            }
            "preTokenBalances" => {
                found.before = Some(list(text, balance)?);
                1
            }
            "postTokenBalances" => {
                found.after = Some(list(text, balance)?);
                2
            }
            _ => return text.skip().map(|()| None),
        }))
    })?;
    Some(found)
}

fn balance<'a>(text: &mut Text<'a>) -> Option<Balance<'a>> {
    let mut found = Balance::default();
    text.fields(|text, name| {
        Some(Some(match name {
            "owner" => text.leaf(&mut found.owner, 0)?,
            "mint" => text.leaf(&mut found.mint, 1)?,
            "uiTokenAmount" => {
                text.fields(|text, name| {
                    Some(Some(match name {
                        "amount" => text.leaf(&mut found.amount, 0)?,
                        "decimals" => text.leaf(&mut found.decimals, 1)?,
                        _ => return text.skip().map(|()| None),
                    }))
                })?;
                2
            }
            _ => return text.skip().map(|()| None),
        }))
    })?;
    Some(found)
}

fn transaction<'a>(text: &mut Text<'a>) -> Option<Transaction<'a>> {
    let mut found = Transaction::default();
    text.fields(|text, name| {
        Some(Some(match name {
            "signatures" => {
                text.array(|text, place| if place > 0 { text.skip() } else { text.value(&mut found.signature) })?;
                0
            }
            "message" => {
                text.fields(|text, name| {
                    if name != "accountKeys" {
                        return text.skip().map(|()| None);
                    }
                    text.array(|text, place| match place {
                        0 if text.is_object() => text.fields(|text, name| match name {
                            "pubkey" => text.leaf(&mut found.payer, 0).map(Some),
                            _ => text.skip().map(|()| None),
                        }),
                        0 => text.value(&mut found.payer),
                        _ => text.skip(),
                    })?;
                    Some(Some(0))
                })?;
                1
            }
            _ => return text.skip().map(|()| None),
        }))
    })?;
    Some(found)
}
