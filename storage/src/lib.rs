//! Ordered rows: the one mapping that every embedded store of the house stands on.
//! Owns: batches, reads, the row format (checksums, pieces, batch witness), the in-memory engine.
//! Never: a file, a thread, a clock (`storage/runtime` holds the engines that touch a disk), or a word of chat.
//! Limits: [`KEY_BYTES_MAX`], [`VALUE_BYTES_MAX`], [`BATCH_BYTES_MAX`]. Rules: docs/protocol/storage.md.

mod batch;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod copy;
mod engine;
mod error;
mod kv;
mod memory;
mod overlay;
pub mod planted;
mod row;
mod schema;
mod survey;
mod tail;
mod witness;

pub use batch::{Batch, Op};
pub use copy::{Copied, Seen, compare_page, copy, copy_on, copy_page};
pub use engine::{Engine, Growth};
pub use error::StorageError;
pub use kv::{Kv, Totals};
pub use memory::{MemoryEngine, MemoryKv};
pub use overlay::Overlay;
pub use row::{PIECE_BYTES_MAX, damaged};
pub use schema::{Page, SCHEMA_KEY, Schema, Step, bring_up, look_at};
pub use survey::{Damage, SpaceCount, Survey};
pub use tail::{TAIL_BYTES, tail_from_bytes, tail_to_bytes};

/// The longest key, in bytes.
///
/// sled packs up to 256 keys into one index page and moves a page beyond 128 KiB into a file of its own, which it
/// never syncs: 256 keys of this length stay below.
pub const KEY_BYTES_MAX: usize = 384;

/// The longest value, in bytes: a ratchet tree has at most 4 MiB; twice that leaves room.
pub const VALUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The largest batch, keys and values together, in bytes: eight of the largest values.
pub const BATCH_BYTES_MAX: usize = 8 * VALUE_BYTES_MAX;

/// An upper end of a scan that is greater than every key.
pub const KEY_END: [u8; KEY_BYTES_MAX + 1] = [0xff; KEY_BYTES_MAX + 1];

/// One row: key and value, as stored by the caller.
pub type Row = (Vec<u8>, Vec<u8>);

/// Which way a scan walks the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Greatest key first.
    Descending,
}

/// Read access to ordered rows; what a core may be handed.
///
/// Reads see every batch applied so far, durable or not; one call sees a batch whole or not at all.
pub trait Reads {
    /// The value of one key.
    ///
    /// # Errors
    /// The row is damaged or the engine failed.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// At most `limit` rows with `from <= key < to`, in `order`.
    ///
    /// # Errors
    /// A row in the range is damaged or the engine failed.
    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError>;
}

/// An ordered store: reads, atomic batches, and durability on demand.
pub trait OrderedKv: Reads + Send + Sync {
    /// Applies a batch whole or not at all. Reads see it at once; a crash may still undo it until [`OrderedKv::sync`].
    ///
    /// # Errors
    /// [`StorageError::TooLarge`], [`StorageError::Full`] and [`StorageError::Damaged`] refuse the batch with nothing
    /// written. Every other error is sticky: the store must be closed, opened again and verified.
    fn apply(&self, batch: &Batch) -> Result<(), StorageError>;

    /// Makes every batch applied so far durable: when it returns, they survive `kill -9` and power loss.
    ///
    /// # Errors
    /// Every error is sticky, as for [`OrderedKv::apply`].
    fn sync(&self) -> Result<(), StorageError>;
}
