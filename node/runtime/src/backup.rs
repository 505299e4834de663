//! Backup: a sealed file of what is worth keeping of a home, and back.
//! Owns: the file: made whole or not at all, read whole before anything is put back. Never: what is in it
//! (`whimbrel_node::backup`), or its format (`whimbrel_crypto::backup`). Rules: docs/protocol/backup.md.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use whimbrel_crypto::Chance;
use whimbrel_crypto::backup::{self as container, BackupError};
use whimbrel_crypto::seal::wrap::Passphrase;
use whimbrel_node::backup::{self, Backup, ReadError, Summary};
use whimbrel_node::identity::LoadError;
use whimbrel_node::views;
use whimbrel_protocol::limits;
use whimbrel_storage::{OrderedKv as _, StorageError};

use crate::clock;
use crate::store::{Access, NodeStore, OpenStoreError, open_store, restrict, seed};

/// Why a backup was not made, read or put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupFailure {
    /// It does not open.
    #[error(transparent)]
    Sealed(#[from] BackupError),
    /// It opens, and is not whole.
    #[error(transparent)]
    Records(#[from] ReadError),
    /// It is another account's. Nothing was put back.
    #[error("the backup is of another account")]
    OtherAccount,
    /// It could not be made.
    #[error(transparent)]
    Create(#[from] backup::CreateError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// There is no account to put it back to.
    #[error(transparent)]
    Account(#[from] LoadError),
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] StorageError),
    /// The file is over the bound of a backup.
    #[error("a backup has at most {} bytes", limits::BACKUP_FILE_BYTES_MAX)]
    TooLarge,
    /// The file is there already, cannot be written or read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system gave no chance.
    #[error("no entropy: {0}")]
    Entropy(getrandom::Error),
}

/// Writes a backup of the home's store to a new file, and reads it back. A guess at its passphrase costs 2^`work` rounds.
///
/// # Errors
/// As [`BackupFailure`] says; no file is left then.
pub fn create_backup(
    home: &Path,
    access: Access,
    passphrase: &Passphrase,
    work: u8,
    file: &Path,
) -> Result<Summary, BackupFailure> {
    let store = open_store(home, access)?;
    let records = backup::create(&store, clock::wall());
    store.close()?;
    let mut chance = Chance::from_seed(seed().map_err(BackupFailure::Entropy)?);
    let sealed = container::seal(&records?, passphrase, work, &mut chance)?;
    let failed = |source| BackupFailure::File { path: file.to_owned(), source };
    let mut out = OpenOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
    let written = restrict(file, 0o600).and_then(|()| out.write_all(&sealed)).and_then(|()| out.sync_all());
    // Its name is to stand as long as its bytes.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = written.and_then(|()| File::open(folder)?.sync_all());
    let checked = written.map_err(failed).and_then(|()| check_backup(file, passphrase));
    if checked.is_err() {
        // Nobody takes a part for the whole.
        let _ = fs::remove_file(file);
    }
    checked
}

/// Opens a backup and reads it to its end.
///
/// # Errors
/// As [`BackupFailure`] says.
pub fn check_backup(file: &Path, passphrase: &Passphrase) -> Result<Summary, BackupFailure> {
    read(file, passphrase).map(|backup| backup.summary().clone())
}

/// Puts a backup back into the home of the same account. What is there stays; interrupted, it is begun again.
///
/// # Errors
/// As [`BackupFailure`] says. The backup is read whole, and its account compared, before anything is written.
pub fn restore_backup(
    home: &Path,
    access: Access,
    passphrase: &Passphrase,
    file: &Path,
) -> Result<Summary, BackupFailure> {
    let backup = read(file, passphrase)?;
    let store = open_store(home, access)?;
    let restored = put_back(&store, &backup);
    store.close()?;
    restored.map(|()| backup.summary().clone())
}

fn put_back(store: &NodeStore, backup: &Backup) -> Result<(), BackupFailure> {
    if views::account(store)?.account != backup.summary().account {
        return Err(BackupFailure::OtherAccount);
    }
    let mut from = Some(0);
    while let Some(at) = from {
        let (batch, next) = backup.restore(store, at)?;
        if !batch.is_empty() {
            store.apply(&batch)?;
            store.sync()?;
        }
        from = next;
    }
    Ok(())
}

fn read(file: &Path, passphrase: &Passphrase) -> Result<Backup, BackupFailure> {
    let failed = |source| BackupFailure::File { path: file.to_owned(), source };
    let bound = u64::try_from(limits::BACKUP_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut sealed = Vec::new();
    File::open(file).and_then(|file| file.take(bound.saturating_add(1)).read_to_end(&mut sealed)).map_err(failed)?;
    if sealed.len() > limits::BACKUP_FILE_BYTES_MAX {
        return Err(BackupFailure::TooLarge);
    }
    Ok(Backup::read(&container::open(&sealed, passphrase)?)?)
}
