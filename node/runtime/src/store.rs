//! Store: the node's rows in a folder of its own, and the account made in it.
//! Owns: the folder's place and permissions (0700, files 0600: keys lie in it), opening, closing, making an account.
//! Never: reads or writes a row but through `whimbrel_node`.
//! Rules: docs/protocol/storage.md.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use whimbrel_crypto::seal::SEALED_SCHEMA;
use whimbrel_crypto::{Chance, Check, RecoveryPhrase, SealKey, SealedKv, Seed};
use whimbrel_node::identity::{self, LoadError};
use whimbrel_node::views;
use whimbrel_protocol::id::{AccountId, Address, Name};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_storage::{Batch, KEY_END, Order, OrderedKv, Reads, Row, SCHEMA_KEY, StorageError, bring_up};
use whimbrel_storage_runtime::DiskKv;

use crate::clock::Clock;
use crate::seal::{self, SealError};

pub use whimbrel_storage_runtime::{EngineKind, Options as StoreOptions, ProbeCommand, Reserve, open_probe};

/// Rows looked at together while an unfinished account is replaced.
const PAGE: usize = 256;

/// Why a store is not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// There is none: no account was made here.
    #[error("no account was made in {0}")]
    Absent(PathBuf),
    /// Another process has it open.
    #[error("the store is in use by another process")]
    InUse,
    /// It is sealed, and no key was given.
    #[error("the store is sealed")]
    Locked,
    /// It lost its newest writes, is damaged, or does not open. Restore from an export.
    #[error(transparent)]
    Damaged(StorageError),
    /// The folder cannot be made or kept from others.
    #[error("{path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system gave no chance.
    #[error("no entropy: {0}")]
    Entropy(getrandom::Error),
    /// Anything else; try again.
    #[error(transparent)]
    Other(StorageError),
}

impl From<StorageError> for OpenStoreError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::InUse => Self::InUse,
            StorageError::Damaged { .. }
            | StorageError::Altered { .. }
            | StorageError::LostTail { .. }
            | StorageError::DoesNotOpen { .. } => Self::Damaged(error),
            error => Self::Other(error),
        }
    }
}

/// Why no account was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is one already, and its relay knows it.
    #[error("there is an account already: {0}")]
    Exists(Address),
    /// There is one, and what it is cannot be read.
    #[error("there is an account already, and it cannot be read: {0}")]
    Unreadable(LoadError),
    /// The device's label does not fit.
    #[error(transparent)]
    Label(#[from] identity::CreateError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The store could not be written.
    #[error(transparent)]
    Write(#[from] StorageError),
    /// The system gave no chance.
    #[error("no entropy: {0}")]
    Entropy(getrandom::Error),
}

/// A new account.
#[derive(Debug)]
pub struct Created {
    /// Its id.
    pub account: AccountId,
    /// To be written down by its owner: shown once, kept nowhere.
    pub recovery: RecoveryPhrase,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Access {
    /// On which engine, with which bounds.
    pub options: StoreOptions,
    /// What a sealed one is sealed with.
    pub key: Option<SealKey>,
}

impl From<StoreOptions> for Access {
    fn from(options: StoreOptions) -> Self {
        Self { options, key: None }
    }
}

/// The open store of a node. Once closed, every call answers an error, whoever still holds it.
#[derive(Debug)]
pub struct NodeStore(RwLock<Option<Rows>>);

/// Rows on a disk, sealed or not.
#[derive(Debug)]
pub(crate) enum Rows {
    Plain(Box<DiskKv>),
    Sealed(Box<SealedKv<DiskKv>>),
}

impl Rows {
    fn kv(&self) -> &dyn OrderedKv {
        match self {
            Self::Plain(store) => &**store,
            Self::Sealed(store) => &**store,
        }
    }
}

impl Reads for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.kv().get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.kv().scan(from, to, order, limit)
    }
}

impl OrderedKv for Rows {
    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        self.kv().apply(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.kv().sync()
    }
}

/// Where the store of a node's home folder lies.
pub fn store_folder(home: &Path) -> PathBuf {
    home.join("store")
}

/// Opens the store in the home folder `home`. Waits for the disk.
///
/// # Errors
/// As [`OpenStoreError`] says; nothing is made when there is none.
pub fn open_store(home: &Path, access: impl Into<Access>) -> Result<NodeStore, OpenStoreError> {
    let folder = store_folder(home);
    seal::recover(home).map_err(OpenStoreError::from)?;
    match folder.try_exists() {
        Ok(true) => open_folder(home, &access.into()),
        Ok(false) => Err(OpenStoreError::Absent(home.to_owned())),
        Err(source) => Err(OpenStoreError::Folder { path: folder, source }),
    }
}

/// Makes an account in the home folder `home`, to be registered at `relay` when the node first runs. Waits for the
/// disk; the account is durable when this returns, and the store closed.
///
/// An account that never got its relay's answer is replaced: nobody was told of it. To go on with it instead, start
/// the node.
///
/// # Errors
/// As [`CreateError`] says.
pub fn create(
    home: &Path,
    name: Name,
    relay: RelayLink,
    label: &str,
    access: impl Into<Access>,
) -> Result<Created, CreateError> {
    let mut chance = Chance::from_seed(seed().map_err(CreateError::Entropy)?);
    let created = identity::create(name, relay, label, &mut chance, Clock::start().now())?;
    private_folder(home)?;
    let store = open_folder(home, &access.into())?;
    let mut batch = match views::account(&store) {
        Err(LoadError::NoAccount) => Batch::new(),
        Ok(views::Account { address: Some(address), .. }) => return Err(CreateError::Exists(address)),
        Ok(_) => removal_of_everything(&store)?,
        Err(error) => return Err(CreateError::Unreadable(error)),
    };
    batch.extend(created.batch);
    store.apply(&batch)?;
    store.close()?;
    Ok(Created { account: created.account, recovery: created.recovery })
}

/// Opens the store in a home folder, and makes it if there is none.
pub(crate) fn make(home: &Path, access: &Access) -> Result<NodeStore, OpenStoreError> {
    private_folder(home)?;
    open_folder(home, access)
}

/// Chance from the operating system, for everything a process decides by chance.
pub(crate) fn seed() -> Result<Seed, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(Seed::from_bytes(bytes))
}

pub(crate) fn removal_of_everything(reads: &dyn Reads) -> Result<Batch, StorageError> {
    let mut batch = Batch::new();
    let mut from = Vec::new();
    loop {
        let page = reads.scan(&from, &KEY_END, Order::Ascending, PAGE)?;
        let full = page.len() == PAGE;
        for (key, _) in page {
            // Which version the rows have stays true of the rows to come.
            if key != SCHEMA_KEY {
                batch.delete(key.clone());
            }
            from = key;
        }
        from.push(0);
        if !full {
            return Ok(batch);
        }
    }
}

fn open_folder(home: &Path, access: &Access) -> Result<NodeStore, OpenStoreError> {
    if seal::is_sealed(home)? && access.key.is_none() {
        return Err(OpenStoreError::Locked);
    }
    Ok(NodeStore(RwLock::new(Some(open_rows(&store_folder(home), access)?))))
}

/// Opens the rows in a folder of their own.
pub(crate) fn open_rows(folder: &Path, access: &Access) -> Result<Rows, OpenStoreError> {
    let rows = open_any(folder, access)?;
    if let Rows::Sealed(sealed) = &rows {
        bring_up(&**sealed, &whimbrel_node::SCHEMA)?;
    }
    Ok(rows)
}

/// As [`open_rows`]; nothing is asked of what is sealed, nor added to it: a copy brings its version along.
pub(crate) fn open_any(folder: &Path, access: &Access) -> Result<Rows, OpenStoreError> {
    private_folder(folder)?;
    let Access { options, key } = access;
    let schema = if key.is_some() { &SEALED_SCHEMA } else { &whimbrel_node::SCHEMA };
    let store = DiskKv::open(folder, StoreOptions { schema: Some(schema), ..options.clone() })?;
    private_files(folder)?;
    let Some(key) = key else { return Ok(Rows::Plain(Box::new(store))) };
    // A store that was not closed is read whole anyway.
    let check = if store.was_left_clean() { Check::Guarded } else { Check::Everything };
    let chance = Chance::from_seed(seed().map_err(OpenStoreError::Entropy)?);
    let sealed = SealedKv::open(store, key, whimbrel_node::KEY_SHAPES, chance, check)?;
    Ok(Rows::Sealed(Box::new(sealed)))
}

impl From<SealError> for OpenStoreError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::File { path, source } => Self::Folder { path, source },
            SealError::Open(error) => error,
            SealError::Entropy(error) => Self::Entropy(error),
            SealError::Store(error) => error.into(),
            // No key is opened on the way to a store.
            SealError::Sealed | SealError::NotSealed | SealError::Key(_) => Self::Locked,
        }
    }
}

/// Makes the folder if need be, for its owner alone; an existing one is closed to others.
pub(crate) fn private_folder(path: &Path) -> Result<(), OpenStoreError> {
    let failed = |source| OpenStoreError::Folder { path: path.to_owned(), source };
    let mut make = fs::DirBuilder::new();
    make.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
    make.create(path).map_err(failed)?;
    restrict(path, 0o700).map_err(failed)
}

/// The folder keeps others out already; this holds should the files ever be moved out of it as they are.
fn private_files(folder: &Path) -> Result<(), OpenStoreError> {
    fn restrict_all(folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let is_folder = entry.file_type()?.is_dir();
            let restricted = match restrict(&entry.path(), if is_folder { 0o700 } else { 0o600 }) {
                Ok(()) if is_folder => restrict_all(&entry.path()),
                other => other,
            };
            match restricted {
                // sled replaces snapshots while it runs, fjall tables.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
    restrict_all(folder).map_err(|source| OpenStoreError::Folder { path: folder.to_owned(), source })
}

#[cfg(unix)]
pub(crate) fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(not(unix))]
pub(crate) fn restrict(_: &Path, _: u32) -> io::Result<()> {
    // Elsewhere the home folder's own access list is what there is.
    Ok(())
}

impl NodeStore {
    /// Reads every row of a sealed store and compares with what the batches left; answers how many there are.
    ///
    /// # Errors
    /// [`StorageError::Altered`]: one was changed, taken away or put back. [`StorageError::Engine`]: it is not sealed.
    pub fn check(&self) -> Result<u64, StorageError> {
        self.with(|rows| match rows {
            Rows::Sealed(sealed) => sealed.check(Check::Everything).map(|()| sealed.rows()),
            Rows::Plain(_) => Err(StorageError::Engine("the store is not sealed".to_owned())),
        })
    }

    /// Syncs and closes the store, so that it can be opened again at once. Waits for the disk. A second call does
    /// nothing.
    ///
    /// # Errors
    /// As for [`DiskKv::close`].
    pub fn close(&self) -> Result<(), StorageError> {
        match self.0.write().unwrap_or_else(PoisonError::into_inner).take() {
            Some(store) => store.close(),
            None => Ok(()),
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&Rows) -> Result<T, StorageError>) -> Result<T, StorageError> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some(store) => ask(store),
            None => Err(StorageError::Engine("the store is closed".to_owned())),
        }
    }
}

impl Reads for NodeStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.with(|store| store.get(key))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.with(|store| store.scan(from, to, order, limit))
    }
}

impl OrderedKv for NodeStore {
    fn apply(&self, batch: &Batch) -> Result<(), StorageError> {
        self.with(|store| store.apply(batch))
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.with(Rows::sync)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use whimbrel_protocol::id::RelayId;

    use super::*;

    fn on(engine: EngineKind) -> StoreOptions {
        StoreOptions { engine, ..StoreOptions::default() }
    }

    fn make(home: &Path) -> Result<Created, CreateError> {
        make_on(EngineKind::Sled, home)
    }

    fn make_on(engine: EngineKind, home: &Path) -> Result<Created, CreateError> {
        let relay = RelayLink {
            domain: "a.example".parse().unwrap(),
            endpoint: "127.0.0.1:1".to_owned(),
            relay: RelayId::from_bytes([1; 32]),
        };
        create(home, "alice".parse().unwrap(), relay, "laptop", on(engine))
    }

    #[test]
    fn an_account_is_there_once_it_was_made_and_nobody_else_can_read_it() {
        for engine in EngineKind::ALL {
            let home = tempfile::tempdir().unwrap();
            let home = home.path().join("whimbrel");
            let created = make_on(engine, &home).unwrap();
            let store = open_store(&home, on(engine)).unwrap();
            assert_eq!(views::account(&store).unwrap().account, created.account);
            #[cfg(unix)]
            for path in [home.clone(), store_folder(&home), store_folder(&home).join("tail"), home.join("store/db")] {
                let Ok(found) = fs::metadata(&path) else { continue };
                let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions());
                assert_eq!(mode & 0o077, 0, "{} is open to others", path.display());
            }
            assert!(matches!(open_store(&home, on(engine)), Err(OpenStoreError::InUse)));
            store.close().unwrap();
            store.close().unwrap();
            assert!(views::account(&store).is_err(), "a closed store answers");
            open_store(&home, on(engine)).unwrap();
        }
    }

    #[test]
    fn a_store_of_another_engine_is_told_of_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let created = make(home.path()).unwrap();
        let opened = open_store(home.path(), on(EngineKind::Fjall));
        assert!(matches!(opened, Err(OpenStoreError::Other(StorageError::WrongEngine { .. }))), "{opened:?}");
        let store = open_store(home.path(), StoreOptions::default()).unwrap();
        assert_eq!(views::account(&store).unwrap().account, created.account);
    }

    #[test]
    fn an_account_that_no_relay_took_in_is_replaced_by_the_next() {
        let home = tempfile::tempdir().unwrap();
        let first = make(home.path()).unwrap();
        let second = make(home.path()).unwrap();
        assert_ne!(first.account, second.account);
        let store = open_store(home.path(), StoreOptions::default()).unwrap();
        assert_eq!(views::account(&store).unwrap().account, second.account);
    }

    #[test]
    fn a_folder_without_an_account_stays_untouched() {
        let home = tempfile::tempdir().unwrap();
        let opened = open_store(home.path(), StoreOptions::default());
        assert!(matches!(opened, Err(OpenStoreError::Absent(_))));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
