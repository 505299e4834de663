//! Codec: the MLS library's state as bytes, and the little we must know of its shape.
//! Owns: the encoding (CBOR by serde: self-describing, which the library's untagged types need, with byte strings),
//! and three views into the stored message secrets. Never: interprets a secret.
//!
//! The library keeps one value per thread, `{max_epochs, past_epoch_trees: [{epoch, message_secrets, leaves}],
//! message_secrets: {.., added_at}}`, and rewrites it whole with every message. So past epochs are kept out of it, each
//! in a row of its own ([`outgoing`]), and one is put back for the time it takes to open a late message ([`with_past`],
//! [`past_of`]). The shape belongs to the library's version; the contract tests fail when it changes.

use std::ops::Range;

use minicbor::{Decoder, Encoder};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that are not what they must be: another library version wrote them, or they were damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored group state: {0}")]
pub(super) struct CodecError(pub(super) String);

pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    minicbor_serde::to_vec(value).map_err(|error| CodecError(error.to_string()))
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    minicbor_serde::from_slice(bytes).map_err(|error| CodecError(error.to_string()))
}

/// Takes the wall-clock reading out of stored message secrets: the library notes one, unasked, and nothing of ours
/// reads it; with it the rows of two equal runs would differ.
///
/// It is the very last thing in the value, so it is found from the end: walking there costs more than all the rest.
pub(super) fn without_clock(mut store: Vec<u8>) -> Result<Vec<u8>, CodecError> {
    const KEY: &[u8] = b"\x68added_at";
    const TIME_BYTES_MAX: usize = 64;
    let from = store.len().saturating_sub(TIME_BYTES_MAX);
    let missing = || CodecError("no added_at at the end".to_owned());
    let tail = store.get(from..).unwrap_or_default();
    let key = tail.windows(KEY.len()).rposition(|window| window == KEY).ok_or_else(missing)?;
    let value = from + key + KEY.len();
    let mut decoder = at(&store, value)?;
    let is_time = decoder.skip().is_ok() && value + decoder.position() == store.len();
    if !is_time {
        return Err(missing());
    }
    store.truncate(value);
    store.push(0xf6); // null
    Ok(store)
}

/// The present epoch's secrets, encoded, out of a thread's stored message secrets.
pub(super) fn outgoing(store: &[u8]) -> Result<&[u8], CodecError> {
    part(store, field(store, 0, "message_secrets")?)
}

/// A thread's stored message secrets with one past epoch in them.
pub(super) fn with_past(live: &[u8], epoch: u64, past: &[u8], leaves: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut encoder = Encoder::new(Vec::with_capacity(live.len() + past.len() + leaves.len() + 128));
    let mut write = || -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        encoder.map(3)?.str("max_epochs")?.u8(1)?;
        encoder.str("past_epoch_trees")?.array(1)?;
        encoder.map(3)?.str("epoch")?.u64(epoch)?.str("message_secrets")?;
        encoder.writer_mut().extend_from_slice(past);
        encoder.str("leaves")?;
        encoder.writer_mut().extend_from_slice(leaves);
        encoder.str("message_secrets")?;
        Ok(())
    };
    write().map_err(|error| CodecError(error.to_string()))?;
    let mut bytes = encoder.into_writer();
    bytes.extend_from_slice(outgoing(live)?);
    Ok(bytes)
}

/// The past epoch's secrets, encoded, out of a value of [`with_past`] that the library wrote back.
pub(super) fn past_of(store: &[u8]) -> Result<&[u8], CodecError> {
    let trees = field(store, 0, "past_epoch_trees")?;
    let mut decoder = at(store, trees.start)?;
    match decoder.array() {
        Ok(Some(1)) => part(store, field(store, trees.start + decoder.position(), "message_secrets")?),
        _ => Err(CodecError("not one past epoch".to_owned())),
    }
}

/// Where the value of `key` stands, in the map that begins at `start`.
fn field(bytes: &[u8], start: usize, key: &str) -> Result<Range<usize>, CodecError> {
    let missing = |_| CodecError(format!("no {key}"));
    let mut decoder = at(bytes, start)?;
    let mut pairs = decoder.map().map_err(missing)?.unwrap_or(u64::MAX);
    while pairs > 0 {
        let found = decoder.str().map_err(missing)? == key;
        let value = start + decoder.position();
        decoder.skip().map_err(missing)?;
        if found {
            return Ok(value..start + decoder.position());
        }
        pairs -= 1;
    }
    Err(CodecError(format!("no {key}")))
}

fn at(bytes: &[u8], start: usize) -> Result<Decoder<'_>, CodecError> {
    Ok(Decoder::new(part(bytes, start..bytes.len())?))
}

fn part(bytes: &[u8], range: Range<usize>) -> Result<&[u8], CodecError> {
    bytes.get(range).ok_or_else(|| CodecError("cut short".to_owned()))
}
