//! The side file: the newest synced batch number, kept beside the database.
//! Owns: the file `tail`. Never: its encoding (`whimbrel_storage::tail_to_bytes`).
//!
//! It is written after each sync and itself synced only now and then: after `kill -9` it is exact, after a power loss a
//! little old, and never ahead of the database.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use whimbrel_storage::{TAIL_BYTES, tail_from_bytes, tail_to_bytes};

use crate::clock;

/// How old the number on the disk itself may grow while batches are synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Tail {
    file: File,
    /// What the file says; none while it says nothing.
    newest: Option<u64>,
    synced_at: Instant,
}

impl Tail {
    /// Opens or creates the side file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(1 + TAIL_BYTES as u64).read_to_end(&mut bytes)?;
        let newest = tail_from_bytes(&bytes);
        if newest.is_none() && !bytes.is_empty() {
            tracing::warn!("the side file of the store is damaged; a lost tail would not show at this open");
        }
        Ok(Self { file, newest, synced_at: clock::now() })
    }

    /// The number of the newest batch known to have been synced.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Remembers that batch `n` is durable.
    pub(crate) fn record(&mut self, n: u64) -> io::Result<()> {
        if self.newest.is_none_or(|newest| newest < n) {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&tail_to_bytes(n))?;
            self.newest = Some(n);
        }
        let now = clock::now();
        if now.duration_since(self.synced_at) >= SYNC_EVERY {
            self.file.sync_data()?;
            self.synced_at = now;
        }
        Ok(())
    }

    /// Makes the number durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
