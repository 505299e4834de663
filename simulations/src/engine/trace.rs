//! The trace hash: everything that happened, in order, in 32 bytes.
//! Owns: what is fed for an event: time, place, kind and a number, which of a frame is its size and a checksum of its
//! bytes. Never: keeps what it was fed.

use sha2::{Digest, Sha256};

use super::time::Time;

/// Bytes collected before they are hashed: one call for about a hundred events.
const CHUNK: usize = 4_096;

/// A hash over events as they come.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Sha256,
    chunk: Vec<u8>,
}

impl Trace {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something happened: when, to whom, what, and a number that says more (a size, a sequence, a link).
    pub fn feed(&mut self, at: Time, entity: u32, kind: u16, number: u64) {
        self.chunk.extend_from_slice(&at.nanos().to_le_bytes());
        self.chunk.extend_from_slice(&entity.to_le_bytes());
        self.chunk.extend_from_slice(&kind.to_le_bytes());
        self.chunk.extend_from_slice(&number.to_le_bytes());
        if self.chunk.len() >= CHUNK {
            self.hash.update(&self.chunk);
            self.chunk.clear();
        }
    }

    /// The hash so far, as 64 hexadecimal characters.
    pub fn finish(&self) -> String {
        let hash = self.hash.clone().chain_update(&self.chunk).finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_the_order_count() {
        let hash = |events: &[(u64, u32, u16, u64)]| {
            let mut trace = Trace::new();
            events.iter().for_each(|(at, entity, kind, number)| {
                trace.feed(Time::from_nanos(*at), *entity, *kind, *number);
            });
            trace.finish()
        };
        let base = hash(&[(1, 2, 3, 4), (5, 6, 7, 8)]);
        assert_eq!(base, hash(&[(1, 2, 3, 4), (5, 6, 7, 8)]));
        for other in [
            &[(5, 6, 7, 8), (1, 2, 3, 4)][..],
            &[(2, 2, 3, 4), (5, 6, 7, 8)],
            &[(1, 3, 3, 4), (5, 6, 7, 8)],
            &[(1, 2, 4, 4), (5, 6, 7, 8)],
            &[(1, 2, 3, 5), (5, 6, 7, 8)],
            &[(1, 2, 3, 4)],
        ] {
            assert_ne!(base, hash(other));
        }
    }
}
