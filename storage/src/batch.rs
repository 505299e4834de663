//! Batches: what is applied whole or not at all.
//! Owns: the changes in their order, and which of them were said to make a row that is not there.

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets the value of a key.
    Put {
        /// The row's key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Removes a key; nothing happens when it is absent.
    Delete {
        /// The row's key.
        key: Vec<u8>,
    },
}

/// Changes that take effect together. A later change of a key wins over an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
    /// Which of `ops` make a row that is not there, ascending.
    new: Vec<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.ops.push(Op::Put { key, value });
    }

    /// Sets `key`, which the store does not have, to `value`: the store then looks for no old row. What is said wrongly
    /// here leaves the store's totals wrong, which a full check finds.
    pub fn put_new(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.new.push(self.ops.len());
        self.put(key, value);
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.ops.push(Op::Delete { key });
    }

    /// Appends everything `other` holds.
    pub fn extend(&mut self, other: Batch) {
        let before = self.ops.len();
        self.new.extend(other.new.into_iter().map(|place| place + before));
        self.ops.extend(other.ops);
    }

    /// The changes, in the order they were made.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The changes, each with whether it was said to make a row that is not there.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (&Op, bool)> {
        let mut new = self.new.iter().copied().peekable();
        self.ops.iter().enumerate().map(move |(place, op)| (op, new.next_if_eq(&place).is_some()))
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}
