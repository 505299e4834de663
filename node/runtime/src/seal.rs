//! Seal: a node's home whose store is sealed, and the way there from one that is not.
//! Owns: the key file, the order in which a home changes, what an interrupted change leaves and how it is finished.
//! Never: asks anybody for a passphrase, or keeps one. Rules: docs/protocol/at-rest.md.
//!
//! Files of a home: `key` (the wrapped data key: its being there says that the store is sealed), `store`; while a home is
//! being sealed `key.new` and `store.new`, afterwards for a moment `store.plain`; `seal.lock`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use whimbrel_crypto::seal::wrap::{self, Cost, Passphrase, UnwrapError};
use whimbrel_crypto::{Chance, KeyId, SealKey};
use whimbrel_storage::{Copied, StorageError, copy};

use crate::store::{
    Access, OpenStoreError, Rows, StoreOptions, open_any, open_rows, private_folder, restrict, seed, store_folder,
};

/// Why a home was not sealed, or its passphrase not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// It is already.
    #[error("the store is sealed already")]
    Sealed,
    /// It is not.
    #[error("the store is not sealed")]
    NotSealed,
    /// The passphrase is another, or the key file is damaged.
    #[error(transparent)]
    Key(#[from] UnwrapError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The store could not be read or written; it is as it was.
    #[error(transparent)]
    Store(#[from] StorageError),
    /// A file could not be read or written.
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

/// Where a change of a home can be cut: for tests, which cut it everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    KeyWritten,
    HalfCopied,
    Copied,
    Committed,
    PlainAside,
    SealedInPlace,
    Never,
}

/// Whether the store in this home folder is sealed.
///
/// # Errors
/// [`SealError::File`].
pub fn is_sealed(home: &Path) -> Result<bool, SealError> {
    let key = key_file(home);
    key.try_exists().map_err(|source| SealError::File { path: key, source })
}

/// Which data key this home's store is sealed with: it may be known from elsewhere.
///
/// # Errors
/// [`SealError::NotSealed`], [`SealError::Key`], [`SealError::File`].
pub fn key_id(home: &Path) -> Result<KeyId, SealError> {
    Ok(wrap::id_of(&read_key(home)?)?)
}

/// Opens the key file of a home. Takes about a second, and as much memory as the key file says.
///
/// # Errors
/// [`SealError::NotSealed`], [`SealError::Key`], [`SealError::File`].
pub fn unlock(home: &Path, passphrase: &Passphrase) -> Result<SealKey, SealError> {
    Ok(wrap::unwrap(&read_key(home)?, passphrase)?)
}

/// Makes a data key for a home that has no store yet: the one made in it is sealed. When this was done before and no
/// store was made, the key of that time is taken.
///
/// # Errors
/// [`SealError::Key`]: another passphrase than that time. [`SealError::File`].
pub fn prepare(home: &Path, passphrase: &Passphrase, cost: Cost) -> Result<SealKey, SealError> {
    private_folder(home)?;
    let _lock = lock(home)?;
    if is_sealed(home)? {
        return unlock(home, passphrase);
    }
    // A key beside rows that are not sealed with it would lock them up.
    let folder = store_folder(home);
    if folder.try_exists().map_err(|source| SealError::File { path: folder.clone(), source })? {
        return Err(SealError::NotSealed);
    }
    let mut chance = Chance::from_seed(seed().map_err(SealError::Entropy)?);
    let key = SealKey::generate(&mut chance);
    write_new_key(home, &wrap::wrap(&key, passphrase, cost, &mut chance)?)?;
    commit_key(home)?;
    Ok(key)
}

/// Takes back what [`prepare`] made, when no store was made after all.
///
/// # Errors
/// [`SealError::File`].
pub fn forget(home: &Path) -> Result<(), SealError> {
    let key = key_file(home);
    match fs::remove_file(&key) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SealError::File { path: key, source: error }),
        _ => sync(home),
    }
}

/// Wraps the data key anew. Whoever has an old key file and the old passphrase can still open the store: the data key
/// stays.
///
/// # Errors
/// As for [`unlock`]; the old passphrase holds then.
pub fn change_passphrase(home: &Path, old: &Passphrase, new: &Passphrase, cost: Cost) -> Result<(), SealError> {
    let _lock = lock(home)?;
    let key = unlock(home, old)?;
    let mut chance = Chance::from_seed(seed().map_err(SealError::Entropy)?);
    write_new_key(home, &wrap::wrap(&key, new, cost, &mut chance)?)?;
    commit_key(home)
}

/// Seals the store of a home: copies it into a sealed one, reads that back, and puts it in its place. Interrupted
/// anywhere, the home opens as it was or as it will be, whole.
///
/// The old store's files are deleted, not overwritten: what the disk keeps of deleted files is beyond this.
///
/// # Errors
/// As [`SealError`] says. Up to the moment the new key file counts, the store is as it was.
pub fn seal_home(
    home: &Path,
    options: &StoreOptions,
    passphrase: &Passphrase,
    cost: Cost,
) -> Result<Copied, SealError> {
    seal_home_until(home, options, passphrase, cost, Cut::Never)?.ok_or(SealError::Sealed)
}

/// As [`seal_home`]; stops at a cut, as a killed process would, and answers nothing then.
pub(crate) fn seal_home_until(
    home: &Path,
    options: &StoreOptions,
    passphrase: &Passphrase,
    cost: Cost,
    cut: Cut,
) -> Result<Option<Copied>, SealError> {
    if is_sealed(home)? {
        return Err(SealError::Sealed);
    }
    let lock = lock(home)?;
    recover_locked(home, Cut::Never)?;
    let folder = store_folder(home);
    if !folder.try_exists().map_err(|source| SealError::File { path: folder.clone(), source })? {
        return Err(OpenStoreError::Absent(home.to_owned()).into());
    }
    // Open until the sealed one counts: nobody writes what would not be copied.
    let plain = open_rows(&folder, &Access::from(options.clone()))?;
    let mut chance = Chance::from_seed(seed().map_err(SealError::Entropy)?);
    let key = SealKey::generate(&mut chance);
    write_new_key(home, &wrap::wrap(&key, passphrase, cost, &mut chance)?)?;
    if cut == Cut::KeyWritten {
        return Ok(None);
    }
    let sealed = open_any(&new_store(home), &Access { options: options.clone(), key: Some(key) })?;
    if cut == Cut::HalfCopied {
        whimbrel_storage::copy_page(&plain, &sealed, &[])?;
        return Ok(None);
    }
    let copied = copy(&plain, &sealed)?;
    sealed.close()?;
    if cut == Cut::Copied {
        return Ok(None);
    }
    commit_key(home)?;
    plain.close()?;
    if cut == Cut::Committed {
        return Ok(None);
    }
    recover_locked(home, cut)?;
    drop(lock);
    Ok((cut == Cut::Never).then_some(copied))
}

/// Finishes, or takes back, what an interrupted change of a home left.
pub(crate) fn recover(home: &Path) -> Result<(), SealError> {
    let left = [new_store(home), plain_store(home), new_key(home)];
    for path in &left {
        if path.try_exists().map_err(|source| SealError::File { path: path.clone(), source })? {
            let _lock = lock(home)?;
            return recover_locked(home, Cut::Never);
        }
    }
    Ok(())
}

fn recover_locked(home: &Path, cut: Cut) -> Result<(), SealError> {
    let (store, new, plain) = (store_folder(home), new_store(home), plain_store(home));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SealError::File { path, source }
    };
    remove(&new_key(home), |path| fs::remove_file(path))?;
    if !is_sealed(home)? {
        // It never counted.
        return remove(&new, |path| fs::remove_dir_all(path));
    }
    if new.try_exists().map_err(failed(&new))? {
        if store.try_exists().map_err(failed(&store))? {
            fs::rename(&store, &plain).map_err(failed(&store))?;
            sync(home)?;
        }
        if cut == Cut::PlainAside {
            return Ok(());
        }
        fs::rename(&new, &store).map_err(failed(&new))?;
        sync(home)?;
    }
    if cut == Cut::SealedInPlace {
        return Ok(());
    }
    remove(&plain, |path| fs::remove_dir_all(path))?;
    sync(home)
}

fn remove(path: &Path, how: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), SealError> {
    match how(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SealError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn read_key(home: &Path) -> Result<Vec<u8>, SealError> {
    let path = key_file(home);
    let mut bytes = Vec::new();
    let bound = u64::try_from(wrap::WRAPPED_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    match File::open(&path).and_then(|file| file.take(bound).read_to_end(&mut bytes)) {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SealError::NotSealed),
        Err(source) => Err(SealError::File { path, source }),
    }
}

/// Writes a key file that does not count yet, durably.
fn write_new_key(home: &Path, wrapped: &[u8]) -> Result<(), SealError> {
    let path = new_key(home);
    let written = File::create(&path).and_then(|mut file| {
        restrict(&path, 0o600)?;
        file.write_all(wrapped)?;
        file.sync_all()
    });
    written.map_err(|source| SealError::File { path, source })?;
    sync(home)
}

/// From here on it counts.
fn commit_key(home: &Path) -> Result<(), SealError> {
    let path = key_file(home);
    fs::rename(new_key(home), &path).map_err(|source| SealError::File { path, source })?;
    sync(home)
}

/// Keeps other processes from changing the home's files meanwhile.
fn lock(home: &Path) -> Result<File, SealError> {
    let path = home.join("seal.lock");
    let failed = |source| SealError::File { path: path.clone(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    restrict(&path, 0o600).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenStoreError::InUse.into()),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Makes the names in the home folder durable.
fn sync(home: &Path) -> Result<(), SealError> {
    // Elsewhere a folder cannot be opened as a file, and the file system orders names by itself.
    let synced = if cfg!(unix) { File::open(home).and_then(|folder| folder.sync_all()) } else { Ok(()) };
    synced.map_err(|source| SealError::File { path: home.to_owned(), source })
}

fn key_file(home: &Path) -> PathBuf {
    home.join("key")
}

fn new_key(home: &Path) -> PathBuf {
    home.join("key.new")
}

fn new_store(home: &Path) -> PathBuf {
    home.join("store.new")
}

fn plain_store(home: &Path) -> PathBuf {
    home.join("store.plain")
}

impl Rows {
    pub(crate) fn close(self) -> Result<(), StorageError> {
        match self {
            Self::Plain(store) => store.close(),
            Self::Sealed(store) => store.into_below().close(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use whimbrel_node::views;
    use whimbrel_protocol::id::RelayId;
    use whimbrel_protocol::invite::RelayLink;

    use super::*;
    use crate::store::{EngineKind, create, open_store};

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.into()).unwrap()
    }

    fn on(engine: EngineKind) -> StoreOptions {
        StoreOptions { engine, ..StoreOptions::default() }
    }

    fn make(home: &Path, access: impl Into<Access>) -> whimbrel_protocol::id::AccountId {
        let relay = RelayLink {
            domain: "a.example".parse().unwrap(),
            endpoint: "127.0.0.1:1".to_owned(),
            relay: RelayId::from_bytes([1; 32]),
        };
        create(home, "alice".parse().unwrap(), relay, "laptop", access).unwrap().account
    }

    fn with(engine: EngineKind, key: SealKey) -> Access {
        Access { options: on(engine), key: Some(key) }
    }

    #[test]
    fn a_sealed_home_opens_with_its_passphrase_alone() {
        for engine in EngineKind::ALL {
            let home = tempfile::tempdir().unwrap();
            let account = make(home.path(), on(engine));
            let copied = seal_home(home.path(), &on(engine), &passphrase("one"), CHEAP).unwrap();
            assert!(copied.rows > 2, "account, clock and version");
            assert!(matches!(open_store(home.path(), on(engine)), Err(OpenStoreError::Locked)));
            let refused = unlock(home.path(), &passphrase("two")).unwrap_err();
            assert!(matches!(refused, SealError::Key(UnwrapError::Refused)));
            let key = unlock(home.path(), &passphrase("one")).unwrap();
            let store = open_store(home.path(), with(engine, key)).unwrap();
            assert_eq!(views::account(&store).unwrap().account, account);
            store.close().unwrap();
            let again = seal_home(home.path(), &on(engine), &passphrase("one"), CHEAP);
            assert!(matches!(again, Err(SealError::Sealed)));
            // Without its key file it is no plain store either.
            fs::remove_file(key_file(home.path())).unwrap();
            let opened = open_store(home.path(), on(engine));
            assert!(matches!(opened, Err(OpenStoreError::Other(StorageError::WrongRows { .. }))), "{opened:?}");
        }
    }

    #[test]
    fn a_home_whose_sealing_was_cut_anywhere_opens_whole() {
        for engine in EngineKind::ALL {
            for cut in
                [Cut::KeyWritten, Cut::HalfCopied, Cut::Copied, Cut::Committed, Cut::PlainAside, Cut::SealedInPlace]
            {
                let home = tempfile::tempdir().unwrap();
                let account = make(home.path(), on(engine));
                let done = seal_home_until(home.path(), &on(engine), &passphrase("one"), CHEAP, cut).unwrap();
                assert_eq!(done, None);
                let sealed = is_sealed(home.path()).unwrap();
                assert_eq!(sealed, !matches!(cut, Cut::KeyWritten | Cut::HalfCopied | Cut::Copied), "{cut:?}");
                let key = sealed.then(|| unlock(home.path(), &passphrase("one")).unwrap());
                let store = open_store(home.path(), Access { options: on(engine), key }).unwrap();
                assert_eq!(views::account(&store).unwrap().account, account, "{cut:?}");
                store.close().unwrap();
                for left in [new_key(home.path()), new_store(home.path()), plain_store(home.path())] {
                    assert!(!left.exists(), "{cut:?} left {}", left.display());
                }
                if !sealed {
                    seal_home(home.path(), &on(engine), &passphrase("one"), CHEAP).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_changed_passphrase_opens_the_same_store_and_the_old_one_does_not() {
        let home = tempfile::tempdir().unwrap();
        let key = prepare(home.path(), &passphrase("one"), CHEAP).unwrap();
        let account = make(home.path(), with(EngineKind::Sled, key));
        let wrong = change_passphrase(home.path(), &passphrase("two"), &passphrase("three"), CHEAP);
        assert!(matches!(wrong, Err(SealError::Key(UnwrapError::Refused))));
        change_passphrase(home.path(), &passphrase("one"), &passphrase("two"), CHEAP).unwrap();
        assert!(unlock(home.path(), &passphrase("one")).is_err());
        let key = unlock(home.path(), &passphrase("two")).unwrap();
        assert_eq!(key.id(), key_id(home.path()).unwrap());
        let store = open_store(home.path(), with(EngineKind::Sled, key)).unwrap();
        assert_eq!(views::account(&store).unwrap().account, account);
    }

    #[test]
    fn a_key_made_for_a_home_that_came_to_nothing_is_taken_up_or_taken_back() {
        let home = tempfile::tempdir().unwrap();
        let first = prepare(home.path(), &passphrase("one"), CHEAP).unwrap();
        assert_eq!(prepare(home.path(), &passphrase("one"), CHEAP).unwrap().id(), first.id());
        assert!(matches!(prepare(home.path(), &passphrase("two"), CHEAP), Err(SealError::Key(_))));
        forget(home.path()).unwrap();
        forget(home.path()).unwrap();
        assert!(!is_sealed(home.path()).unwrap());
    }

    #[test]
    fn a_store_in_use_is_not_sealed() {
        let home = tempfile::tempdir().unwrap();
        make(home.path(), on(EngineKind::Sled));
        let store = open_store(home.path(), on(EngineKind::Sled)).unwrap();
        let refused = seal_home(home.path(), &on(EngineKind::Sled), &passphrase("one"), CHEAP);
        assert!(matches!(refused, Err(SealError::Open(OpenStoreError::InUse))), "{refused:?}");
        assert!(views::account(&store).is_ok());
    }
}
