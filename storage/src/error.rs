//! What can go wrong below the ordered rows.

/// Why a store could not read, apply or sync.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A row's checksum does not match its bytes: the disk or the file was damaged. Restore from a backup.
    #[error("damaged row in space {space}: {what}; restore the store from a backup")]
    Damaged {
        /// The row space, the first byte of the key.
        space: u8,
        /// What does not fit.
        what: String,
    },
    /// A sealed row is not as its key's holder left it: somebody changed it, took it away, or put back an old one; or the
    /// key is another.
    #[error("altered row in space {space}: {what}; restore from a backup")]
    Altered {
        /// The row space, the first byte of the key.
        space: u8,
        /// What does not fit.
        what: String,
    },
    /// The newest batches are missing or torn: the file lost its tail. Restore from a backup.
    #[error("the store lost its newest writes: {what}; restore the store from a backup")]
    LostTail {
        /// What was found.
        what: String,
    },
    /// Another process has the store open.
    #[error("the store is in use by another process")]
    InUse,
    /// The engine cannot make sense of its files. Restore from a backup.
    #[error("the store does not open: {what}; restore it from a backup")]
    DoesNotOpen {
        /// What the engine reported.
        what: String,
    },
    /// Another engine made the store. Nothing was touched.
    #[error("the store was made by {found}, and {asked} was asked for")]
    WrongEngine {
        /// What made it.
        found: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// The rows are of another program. Nothing was touched.
    #[error("the store holds the rows of a {found}, not of a {asked}")]
    WrongRows {
        /// Whose they are.
        found: String,
        /// Whose were asked for.
        asked: &'static str,
    },
    /// A newer version wrote the rows. Nothing was touched.
    #[error("the store's rows have version {found}, and this program knows versions up to {known}")]
    TooNew {
        /// Their version.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// The disk is full, the reserve is reached, or the store has reached its bound; nothing was written.
    #[error("no space left for the store")]
    Full,
    /// A batch or a value is over its bound; nothing was written.
    #[error("{what} is over the bound of {max} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The bound, in bytes.
        max: usize,
    },
    /// The engine failed; the store must be closed, opened again and verified.
    #[error("store engine: {0}")]
    Engine(String),
}

impl StorageError {
    /// Whether the store refuses every later call after this error, until it is closed and opened again.
    ///
    /// The others name one row or one batch: nothing was written, and other rows can still be read and exported.
    pub fn is_sticky(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Altered { .. } | Self::TooLarge { .. } | Self::Full => false,
            Self::LostTail { .. }
            | Self::InUse
            | Self::DoesNotOpen { .. }
            | Self::WrongEngine { .. }
            | Self::WrongRows { .. }
            | Self::TooNew { .. }
            | Self::Engine(_) => true,
        }
    }
}
