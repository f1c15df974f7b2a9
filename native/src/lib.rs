//! Confluent-framed Avro messages to Arrow columns and back, on Apache arrow-avro.
//!
//! `layout` says how a version lies in bytes, `check` whether a message is sound (so that arrow-avro, which keeps half
//! a row when it fails, is only ever given sound ones), `columns` takes the newest version's values as the check finds
//! them, `codec` decodes and encodes, `events` writes messages from typed events, `python` is the module's face.
//! The rules are those of `schemas/codec_fastavro.py`; tests hold the two equal. `ring` makes columns of what an engine wrote into a
//! ring, `ring_python` is its face.

pub mod check;
pub mod codec;
pub mod columns;
#[cfg(feature = "python")]
mod events;
pub mod layout;
#[cfg(feature = "python")]
mod fanout;
#[cfg(feature = "python")]
mod python;
pub mod ring;
#[cfg(feature = "python")]
mod ring_python;
