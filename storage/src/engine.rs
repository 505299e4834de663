//! The bottom layer: raw ordered bytes, as an engine keeps them.
//! Owns: what an engine must promise to [`Kv`](crate::Kv).
//! Never: the row format; an engine sees keys and values it does not understand.

use crate::{Op, Order, Row, StorageError};

/// What a batch does to the rows of a store, in bytes of their keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// By how much new rows, and those that become larger, add.
    pub added: u64,
    /// The same, less what is removed or becomes smaller.
    pub net: i64,
}

impl Growth {
    pub(crate) fn count(&mut self, row: i64) {
        self.added = self.added.saturating_add(u64::try_from(row).unwrap_or(0));
        self.net = self.net.saturating_add(row);
    }
}

/// Raw ordered rows. One writer calls `apply` and `sync`; any thread reads.
///
/// [`Kv`](crate::Kv) never calls `apply` while another call but `sync` is running, so an engine needs no isolation of its own.
pub trait Engine: Send + Sync {
    /// The value of one key.
    ///
    /// # Errors
    /// The engine failed.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// At most `limit` rows with `from <= key < to`, in `order`. The caller has checked `from < to`.
    ///
    /// # Errors
    /// The engine failed.
    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError>;

    /// Whether there is room for a batch that writes so many bytes and does this to the rows. Asked before each
    /// [`Engine::apply`] that is to be refused otherwise.
    ///
    /// # Errors
    /// [`StorageError::Full`]: there is none, and the batch is not applied.
    fn admit(&self, written: u64, growth: Growth) -> Result<(), StorageError> {
        let _there_is_always_room = (written, growth);
        Ok(())
    }

    /// Applies the changes together, or none of them; no key occurs twice.
    ///
    /// # Errors
    /// [`StorageError::Full`] promises that nothing was written; after any other error nothing is known.
    fn apply(&self, ops: Vec<Op>) -> Result<(), StorageError>;

    /// Makes everything applied before the call durable.
    ///
    /// # Errors
    /// The engine failed; nothing is known about what is durable.
    fn sync(&self) -> Result<(), StorageError>;
}
