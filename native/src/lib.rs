//! Confluent-framed Avro messages to Arrow columns and back, on Apache arrow-avro.
//!
//! `layout` says how a version lies in bytes, `check` whether a message is sound (so that arrow-avro, which keeps half
//! a row when it fails, is only ever given sound ones), `columns` takes the newest version's values as the check finds
//! them, `json` writes them as text, `codec` decodes and encodes, `events` writes messages from typed events (`avro`
//! says how values are written), `queues` reads messages past the Python client (`librdkafka`, `messages`), `ring`
//! makes messages of what an engine wrote into a ring (`ring_python` is its face; `ring_wait` sees that there is something),
//! `webhooks` makes swaps of webhooks'
//! bodies (`webhook_text` reads their JSON, `webhook_events` finds in it what they say, `prices` says what they come to
//! in USD, `webhooks_python` is its face), `fanout` sends to sockets, `python` is the module's face.
//! The rules are those of `schemas/codec_fastavro.py`; tests hold the two equal.

mod avro;
pub mod check;
pub mod codec;
pub mod columns;
#[cfg(feature = "python")]
mod events;
pub mod layout;
#[cfg(feature = "python")]
mod fanout;
pub mod json;
#[cfg(feature = "python")]
mod librdkafka;
#[cfg(feature = "python")]
mod messages;
#[cfg(feature = "python")]
mod python;
#[cfg(feature = "python")]
mod queues;
pub mod prices;
pub mod ring;
#[cfg(feature = "python")]
mod ring_python;
#[cfg(feature = "python")]
mod ring_wait;
pub mod webhook_events;
pub mod webhook_text;
pub mod webhooks;
#[cfg(feature = "python")]
mod webhooks_python;
