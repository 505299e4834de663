//! The tail witness: sixteen bytes beside the store that remember its newest synced batch.
//! Owns: their encoding. Never: the file (`storage/runtime`).
//!
//! A store whose file lost its end loses its newest batch numbers with it and looks whole; the number kept elsewhere shows it.

/// Length of the encoded witness.
pub const TAIL_BYTES: usize = 16;

const MAGIC: [u8; 4] = *b"tai1";

/// Encodes batch number `n`: magic, number, checksum, little-endian.
pub fn tail_to_bytes(n: u64) -> [u8; TAIL_BYTES] {
    let mut bytes = [0; TAIL_BYTES];
    let (magic, rest) = bytes.split_at_mut(4);
    let (number, checksum) = rest.split_at_mut(8);
    magic.copy_from_slice(&MAGIC);
    number.copy_from_slice(&n.to_le_bytes());
    checksum.copy_from_slice(&checksum_of(n).to_le_bytes());
    bytes
}

/// Decodes a witness; `None` when the bytes are no whole witness, which then proves nothing.
pub fn tail_from_bytes(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (number, checksum) = rest.split_first_chunk::<8>()?;
    let n = u64::from_le_bytes(*number);
    (checksum == checksum_of(n).to_le_bytes()).then_some(n)
}

fn checksum_of(n: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&MAGIC);
    hasher.update(&n.to_le_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witness_reads_back_and_any_flipped_byte_voids_it() {
        for n in [0, 1, u64::MAX] {
            let bytes = tail_to_bytes(n);
            assert_eq!(tail_from_bytes(&bytes), Some(n));
            for at in 0..TAIL_BYTES {
                let mut bad = bytes;
                if let Some(byte) = bad.get_mut(at) {
                    *byte ^= 1;
                }
                assert_eq!(tail_from_bytes(&bad), None);
            }
        }
        assert_eq!(tail_from_bytes(&[]), None);
    }
}
