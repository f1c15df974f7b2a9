//! Decode and encode the messages of one event. No Python here: the fuzz target calls it as it is.

use arrow_array::RecordBatch;
use arrow_avro::errors::AvroError;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{
    AvroSchema, Fingerprint, FingerprintAlgorithm, FingerprintStrategy, SCHEMA_METADATA_KEY, SchemaStore,
};
use arrow_avro::writer::format::AvroSoeFormat;
use arrow_avro::writer::{EncodedRows, Encoder, WriterBuilder};
use arrow_schema::{ArrowError, Schema};

use crate::check::{self, Fault, Value};
use crate::columns::Shape;
use crate::layout::Field;

/// Byte 0 and a 4-byte big-endian schema id.
const FRAME: usize = 5;

/// Arrow's strings are addressed by 31 bits; a batch stays well below.
const MOST_BYTES: usize = 1 << 30;

/// One version of the event's schema, as some writer uses it.
pub struct Version {
    pub id: u32,
    pub schema: String,
    pub layout: Vec<Field>,
}

/// Why one message cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    NoValue,
    Unframed,
    UnknownId,
    Fault(Fault),
}

#[derive(Debug)]
pub enum Failure {
    /// More bytes than one batch of columns can hold.
    TooLarge(usize),
    /// A message that `check` finds sound and arrow-avro does not, or the reverse: a defect of one of them.
    Disagreement(String),
    Arrow(String),
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        Failure::Arrow(error.to_string())
    }
}

impl From<AvroError> for Failure {
    fn from(error: AvroError) -> Self {
        Failure::Arrow(error.to_string())
    }
}

/// What became of the messages: a batch and the indexes of its rows for each writer id met, and what is unusable.
pub struct Decoded {
    pub parts: Vec<(RecordBatch, Vec<usize>)>,
    pub poison: Vec<(usize, Reason)>,
}

pub struct Reader {
    schema: String,
    versions: Vec<Version>,
    decoder: Decoder,
    shape: Option<Shape>,
    /// Of each version, whether columns of that shape take its values as they are.
    as_is: Vec<bool>,
}

impl Reader {
    /// A reader of any of the `versions`, to the columns of `schema`. With their `shape` what was written in that very
    /// schema is not given to arrow-avro, which would walk it once more; the older versions need it to become the newest.
    pub fn new(schema: String, versions: Vec<Version>, shape: Option<Shape>) -> Result<Self, Failure> {
        let decoder = decoder(&schema, &versions)?;
        let as_is = versions.iter().map(|version| shape.is_some() && version.schema == schema).collect();
        Ok(Reader { schema, versions, decoder, shape, as_is })
    }

    pub fn decode(&mut self, messages: &[Option<&[u8]>]) -> Result<Decoded, Failure> {
        let size: usize = messages.iter().flatten().map(|message| message.len()).sum();
        if size > MOST_BYTES {
            return Err(Failure::TooLarge(size));
        }
        let mut sound: Vec<Vec<usize>> = vec![Vec::new(); self.versions.len()];
        let mut newest = Vec::new();
        let mut poison = Vec::new();
        let mut row = Vec::new();
        let mut columns = self.shape.as_ref().map(|shape| shape.columns(messages.len())).transpose()?;
        for (index, message) in messages.iter().enumerate() {
            let checked = framed(&self.versions, *message).and_then(|(version, body)| {
                check::row(&self.versions[version].layout, body, &mut row).map_err(Reason::Fault)?;
                Ok(version)
            });
            match (checked, &mut columns) {
                (Ok(version), Some(columns)) if self.as_is[version] => {
                    if columns.append(&row).is_none() {
                        return Err(Failure::Disagreement(format!("message {index}: not of the columns' types")));
                    }
                    newest.push(index);
                }
                (Ok(version), _) => sound[version].push(index),
                (Err(reason), _) => poison.push((index, reason)),
            }
        }
        let mut parts = Vec::new();
        if let Some(columns) = columns
            && !newest.is_empty()
        {
            parts.push((columns.finish()?, newest));
        }
        for rows in sound.into_iter().filter(|rows| !rows.is_empty()) {
            match self.resolved(messages, &rows) {
                Ok(batch) => parts.push((batch, rows)),
                Err(failure) => {
                    // Half a row may be in it.
                    self.decoder = decoder(&self.schema, &self.versions)?;
                    return Err(failure);
                }
            }
        }
        Ok(Decoded { parts, poison })
    }

    /// The values of each sound message, one after the other, and what is unusable. None as soon as `take` says so, or a
    /// message is not of the newest version: `decode` can make something of it.
    pub fn rows<'a>(
        &self,
        messages: &[Option<&'a [u8]>],
        mut take: impl FnMut(usize, &[Value<'a>]) -> Option<()>,
    ) -> Option<Vec<(usize, Reason)>> {
        let mut poison = Vec::new();
        let mut row = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            match framed(&self.versions, *message) {
                Ok((version, body)) if self.as_is[version] => {
                    match check::row(&self.versions[version].layout, body, &mut row) {
                        Ok(()) => take(index, &row)?,
                        Err(fault) => poison.push((index, Reason::Fault(fault))),
                    }
                }
                Ok(_) => return None,
                Err(reason) => poison.push((index, reason)),
            }
        }
        Some(poison)
    }

    /// Columns of sound messages of one version, by arrow-avro.
    fn resolved(&mut self, messages: &[Option<&[u8]>], rows: &[usize]) -> Result<RecordBatch, Failure> {
        for &row in rows {
            let message = messages[row].unwrap_or_default();
            match self.decoder.decode(message) {
                Ok(consumed) if consumed == message.len() => {}
                Ok(consumed) => {
                    return Err(Failure::Disagreement(format!("message {row}: {consumed} of {} bytes", message.len())));
                }
                Err(error) => return Err(Failure::Disagreement(format!("message {row}: {error}"))),
            }
        }
        match self.decoder.flush()? {
            Some(batch) if batch.num_rows() == rows.len() => Ok(batch),
            _ => Err(Failure::Disagreement(format!("not {} rows", rows.len()))),
        }
    }
}

/// Place among the versions of the message's writer, and its body.
fn framed<'a>(versions: &[Version], message: Option<&'a [u8]>) -> Result<(usize, &'a [u8]), Reason> {
    let message = message.ok_or(Reason::NoValue)?;
    let (frame, body) = message.split_first_chunk::<FRAME>().ok_or(Reason::Unframed)?;
    let [0, id @ ..] = *frame else { return Err(Reason::Unframed) };
    let id = u32::from_be_bytes(id);
    let found = versions.iter().position(|version| version.id == id).ok_or(Reason::UnknownId)?;
    Ok((found, body))
}

fn decoder(schema: &str, versions: &[Version]) -> Result<Decoder, Failure> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    for version in versions {
        store.set(Fingerprint::Id(version.id), AvroSchema::new(version.schema.clone()))?;
    }
    Ok(ReaderBuilder::new()
        .with_writer_schema_store(store)
        .with_reader_schema(AvroSchema::new(schema.to_owned()))
        .with_batch_size(i32::MAX as usize)
        .build_decoder()?)
}

pub struct Writer {
    encoder: Encoder,
}

impl Writer {
    /// A writer of rows with these columns (enums as dictionaries) in the Avro schema `schema`.
    pub fn new(columns: &Schema, schema: &str, id: u32) -> Result<Self, Failure> {
        let metadata: std::collections::HashMap<String, String> = [(SCHEMA_METADATA_KEY.to_owned(), schema.to_owned())].into();
        let columns = Schema::new_with_metadata(columns.fields().clone(), metadata);
        let encoder = WriterBuilder::new(columns)
            .with_fingerprint_strategy(FingerprintStrategy::Id(id))
            .build_encoder::<AvroSoeFormat>()?;
        Ok(Writer { encoder })
    }

    /// The framed message of each row.
    pub fn encode(&mut self, rows: &RecordBatch) -> Result<EncodedRows, Failure> {
        let outcome = self.encoder.encode(rows);
        let encoded = self.encoder.flush();
        outcome?;
        if encoded.len() != rows.num_rows() {
            return Err(Failure::Arrow(format!("{} messages of {} rows", encoded.len(), rows.num_rows())));
        }
        Ok(encoded)
    }
}

/// Short names of the reasons, as `schemas/codec_fastavro.py` has them.
impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::NoValue => "no value",
            Reason::Unframed => "unframed",
            Reason::UnknownId => "unknown id",
            Reason::Fault(Fault::Malformed) => "malformed",
            Reason::Fault(Fault::Trailing) => "trailing",
            Reason::Fault(Fault::OutOfRange) => "out of range",
        }
    }
}
