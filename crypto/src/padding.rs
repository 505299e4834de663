//! Padding: how long a sealed body may look.
//! Owns: the arithmetic that makes the whole MLS message, not its content, as long as a bucket.
//! Limits: `limits::PADDING_BUCKETS`, `limits::ENVELOPE_BODY_BYTES_MAX`. Source: RFC 9420 §6.3.1 (the padding is zero
//! bytes inside the encryption, at no cost of its own), §2.1.2 (variable-size lengths).

use whimbrel_protocol::limits::{ENVELOPE_BODY_BYTES_MAX, PADDING_BUCKETS};

/// Everything of a PrivateMessage before its ciphertext's length: version 2, wire format 2, group id 1 + 32, epoch 8,
/// content type 1, no authenticated data 1, sender data 1 + 12 + 16.
const HEAD: usize = 2 + 2 + 33 + 8 + 1 + 1 + 29;
/// The authentication tag of AES-128-GCM.
const TAG: usize = 16;
/// A signature with its length.
const SIGNATURE: usize = 2 + 64;

/// How long the whole message of a content of so many bytes is. `None` as for [`ciphertext_len`].
#[cfg(any(test, feature = "stand-in"))]
pub(crate) fn message_len(content_len: usize) -> Option<usize> {
    ciphertext_len(content_len).map(|len| HEAD + vector_len(len))
}

/// How long the ciphertext of a content of so many bytes is to be, so that the message fills its bucket.
/// `None`: the content is larger than an envelope's body may be.
pub(crate) fn ciphertext_len(content_len: usize) -> Option<usize> {
    let least = vector_len(content_len) + SIGNATURE + TAG;
    let bucket = bucket(HEAD + vector_len(least))?;
    let body = bucket - HEAD;
    Some(if body - 2 < 16_384 { body - 2 } else { body - 4 })
}

/// The bucket that a message of so many bytes fills.
fn bucket(message_len: usize) -> Option<usize> {
    let largest = PADDING_BUCKETS.iter().copied().max()?;
    PADDING_BUCKETS
        .into_iter()
        .find(|bucket| message_len <= *bucket)
        .or_else(|| message_len.checked_next_multiple_of(largest))
        .filter(|bucket| *bucket <= ENVELOPE_BODY_BYTES_MAX)
}

/// Bytes of a vector with its length in front.
const fn vector_len(len: usize) -> usize {
    len + match len {
        0..64 => 1,
        64..16_384 => 2,
        _ => 4,
    }
}

/// The largest content that can be sealed, in bytes.
pub const CONTENT_BYTES_MAX: usize = {
    let largest = PADDING_BUCKETS[2];
    ENVELOPE_BODY_BYTES_MAX / largest * largest - HEAD - 4 - SIGNATURE - TAG - 4
};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_message_fills_a_bucket_whatever_its_content() {
        for content in (0..9_000).chain(16_000..21_000).chain([CONTENT_BYTES_MAX]) {
            let message = message_len(content).unwrap();
            assert!(PADDING_BUCKETS.contains(&message) || message.is_multiple_of(4_096), "{content}: {message}");
            assert!(message >= HEAD + vector_len(vector_len(content) + SIGNATURE + TAG), "{content}");
        }
        assert_eq!(ciphertext_len(CONTENT_BYTES_MAX + 1), None);
        assert_eq!(ciphertext_len(usize::MAX / 2), None);
    }

    #[test]
    fn a_short_message_takes_the_smallest_bucket() {
        // 288 less what surrounds the content.
        assert_eq!(message_len(126), Some(288));
        assert_eq!(message_len(127), Some(1_024));
    }
}
