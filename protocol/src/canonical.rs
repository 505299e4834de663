//! Deterministic CBOR: one value, one spelling (RFC 8949 §4.2.1).
//! Owns: the check that received bytes are that spelling, and the house's narrower profile: integer map keys,
//! no tags, no floats, no indefinite lengths.
//! Never: allocates for what a length field merely claims.

use minicbor::{Decode, Encode};

use crate::limits;

/// Why bytes are not one well-formed value of the profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// The value ends before it is complete.
    #[error("truncated")]
    Truncated,
    /// Bytes follow the value.
    #[error("{0} bytes after the end")]
    Trailing(usize),
    /// An integer or length is not in its shortest form.
    #[error("integer not in shortest form")]
    LongForm,
    /// Map keys are not unsigned integers in strictly ascending order.
    #[error("map keys out of order, repeated, or not unsigned integers")]
    Keys,
    /// A tag, float, indefinite length or unassigned simple value.
    #[error("an item outside the profile")]
    Profile,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Text,
    /// Nested deeper than [`limits::CBOR_DEPTH_MAX`].
    #[error("nested too deep")]
    Depth,
    /// Well-formed, but not what this kind of value looks like.
    #[error("unexpected shape: {0}")]
    Shape(String),
}

/// Encodes a value. The types of this crate come out in the deterministic form by construction; a test per frame
/// holds them to it.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_onto(value, &mut bytes);
    bytes
}

/// Encodes a value behind what is there.
pub(crate) fn encode_onto<T: Encode<()>>(value: &T, bytes: &mut Vec<u8>) {
    let Ok(()) = minicbor::encode(value, bytes).map_err(|error| {
        // Writing to a vector cannot fail and no encoder here makes errors of its own.
        unreachable_encoding(&error.to_string())
    });
}

fn unreachable_encoding(what: &str) -> std::convert::Infallible {
    unreachable!("encoding into memory failed: {what}")
}

/// Decodes exactly one value in deterministic form.
///
/// # Errors
/// The bytes are malformed, not deterministic, outside the profile, or of another shape.
pub fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, CanonicalError> {
    check(bytes)?;
    minicbor::decode(bytes).map_err(|error| CanonicalError::Shape(error.to_string()))
}

/// Checks that `bytes` are exactly one value of the profile.
///
/// # Errors
/// What does not fit, at the first place it does not.
pub fn check(bytes: &[u8]) -> Result<(), CanonicalError> {
    let mut walk = Walk { rest: bytes };
    walk.item(limits::CBOR_DEPTH_MAX)?;
    match walk.rest.len() {
        0 => Ok(()),
        left => Err(CanonicalError::Trailing(left)),
    }
}

struct Walk<'b> {
    rest: &'b [u8],
}

impl<'b> Walk<'b> {
    fn take(&mut self, count: u64) -> Result<&'b [u8], CanonicalError> {
        let count = usize::try_from(count).map_err(|_| CanonicalError::Truncated)?;
        let (head, rest) = self.rest.split_at_checked(count).ok_or(CanonicalError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Major type and argument of the next item (RFC 8949 §3).
    fn head(&mut self) -> Result<(u8, u64), CanonicalError> {
        let (&initial, rest) = self.rest.split_first().ok_or(CanonicalError::Truncated)?;
        self.rest = rest;
        let (major, info) = (initial >> 5, initial & 0x1f);
        let argument = match info {
            0..=23 => return Ok((major, u64::from(info))),
            24..=27 => {
                let width = 1u64 << (info - 24);
                self.take(width)?.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte))
            }
            _ => return Err(CanonicalError::Profile),
        };
        if major == 7 {
            // Two-byte simple values and floats.
            return Err(CanonicalError::Profile);
        }
        let least = match info {
            24 => 24,
            25 => 1 << 8,
            26 => 1 << 16,
            _ => 1 << 32,
        };
        if argument < least { Err(CanonicalError::LongForm) } else { Ok((major, argument)) }
    }

    fn item(&mut self, depth: usize) -> Result<(), CanonicalError> {
        let (major, argument) = self.head()?;
        match major {
            0 | 1 => Ok(()),
            2 => self.take(argument).map(|_| ()),
            3 => std::str::from_utf8(self.take(argument)?).map(|_| ()).map_err(|_| CanonicalError::Text),
            4 => {
                let inner = depth.checked_sub(1).ok_or(CanonicalError::Depth)?;
                (0..argument).try_for_each(|_| self.item(inner))
            }
            5 => {
                let inner = depth.checked_sub(1).ok_or(CanonicalError::Depth)?;
                let mut last = None;
                for _ in 0..argument {
                    let (0, key) = self.head()? else { return Err(CanonicalError::Keys) };
                    if last.is_some_and(|last| key <= last) {
                        return Err(CanonicalError::Keys);
                    }
                    last = Some(key);
                    self.item(inner)?;
                }
                Ok(())
            }
            // false, true, null.
            7 if (20..=22).contains(&argument) => Ok(()),
            _ => Err(CanonicalError::Profile),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_one_spelling() {
        assert_eq!(check(&[0x17]), Ok(()));
        assert_eq!(check(&[0x18, 0x17]), Err(CanonicalError::LongForm));
        assert_eq!(check(&[0x19, 0x00, 0xff]), Err(CanonicalError::LongForm));
        assert_eq!(check(&[0x1a, 0x00, 0x00, 0xff, 0xff]), Err(CanonicalError::LongForm));
        assert_eq!(check(&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), Err(CanonicalError::LongForm));
        assert_eq!(check(&[0x58, 0x01, 0x00]), Err(CanonicalError::LongForm));
    }

    #[test]
    fn map_keys_ascend_and_do_not_repeat() {
        assert_eq!(check(&[0xa2, 0x00, 0x01, 0x01, 0x01]), Ok(()));
        assert_eq!(check(&[0xa2, 0x01, 0x01, 0x00, 0x01]), Err(CanonicalError::Keys));
        assert_eq!(check(&[0xa2, 0x00, 0x01, 0x00, 0x01]), Err(CanonicalError::Keys));
        assert_eq!(check(&[0xa1, 0x61, b'a', 0x01]), Err(CanonicalError::Keys));
    }

    #[test]
    fn what_the_profile_leaves_out_is_refused() {
        for outside in [&[0x9f, 0xff][..], &[0xc0, 0x00], &[0xf9, 0, 0], &[0xf7], &[0xf8, 0x20], &[0x5f, 0xff]] {
            assert_eq!(check(outside), Err(CanonicalError::Profile), "{outside:02x?}");
        }
        assert_eq!(check(&[0x61, 0xff]), Err(CanonicalError::Text));
        assert_eq!(check(&[0x00, 0x00]), Err(CanonicalError::Trailing(1)));
    }

    #[test]
    fn claimed_lengths_cost_nothing() {
        assert_eq!(check(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(CanonicalError::Truncated));
        assert_eq!(check(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(CanonicalError::Truncated));
    }

    #[test]
    fn nesting_is_bounded() {
        let mut nested = vec![0x81; limits::CBOR_DEPTH_MAX];
        nested.push(0x00);
        assert_eq!(check(&nested), Ok(()));
        nested.insert(0, 0x81);
        assert_eq!(check(&nested), Err(CanonicalError::Depth));
    }
}
