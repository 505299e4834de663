//! The folder of one store: which files lie in it, and whose they are.
//! Owns: the lock, the marks of a creation and of a clean close, the setting aside of snapshots, the syncing of the
//! folder. Never: the contents of an engine's files.
//!
//! sled's: `db`, `conf`, `blobs/`, `snap.*`. fjall's: `fjall/`. Ours: `lock`, `making`, `clean`, `tail`, `set-aside.*`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use whimbrel_storage::StorageError;

use crate::clock;
use crate::keep::Fingerprint;
use crate::kind::{EngineKind, MAKING};

/// How long an engine that was dropped may take to let go of its file.
const RELEASE_MAX: Duration = Duration::from_secs(5);
/// Between two looks whether it has.
const RELEASE_POLL: Duration = Duration::from_millis(5);
/// What the names of set aside snapshots begin with.
const ASIDE: &str = "set-aside.snap.";
/// How many of them stay: the first, which tells most, and the newest.
const ASIDE_MAX: usize = 2;

/// How the last process left the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// There was none.
    New,
    /// It closed the store.
    Clean,
    /// It was killed, crashed, or lost power.
    Unclean,
}

/// A snapshot that was set aside.
#[derive(Debug)]
pub(crate) struct Aside {
    /// Its name for sled.
    from: PathBuf,
    /// Where it is now.
    to: PathBuf,
    /// Whether nothing with the same content was there before.
    new: bool,
}

/// A store's folder, locked against other processes while this lives.
#[derive(Debug)]
pub(crate) struct Dir {
    path: PathBuf,
    kind: EngineKind,
    _lock: File,
}

impl Dir {
    /// Creates the folder if need be and locks it.
    ///
    /// # Errors
    /// [`StorageError::WrongEngine`]: another engine's files lie in it. Nothing was touched.
    pub(crate) fn lock(kind: EngineKind, path: &Path) -> Result<Self, StorageError> {
        kind.check(path)?;
        fs::create_dir_all(path).map_err(failed("create the folder"))?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(path.join("lock"));
        let lock = lock.map_err(failed("open the lock file"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), kind, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StorageError::InUse),
            Err(TryLockError::Error(error)) => Err(failed("lock the folder")(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn tail(&self) -> PathBuf {
        self.path.join("tail")
    }

    /// Tells how the store was left and takes the mark of a clean close away, durably: from here on the store counts as
    /// left unclean until it is closed again.
    ///
    /// # Errors
    /// [`StorageError::DoesNotOpen`]: the database is not as the mark says. The mark stays, and nothing is touched.
    pub(crate) fn take_mark(&self) -> Result<Left, StorageError> {
        if self.making().exists() {
            // Nothing was acknowledged in a store that never came to be.
            self.kind.remove_files(&self.path).map_err(failed("remove an unfinished store"))?;
            return Ok(Left::New);
        }
        let there = self.kind.database(&self.path).exists();
        let mut left = if there { Left::Unclean } else { Left::New };
        let mark = match fs::read(self.mark()) {
            Ok(mark) => mark,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(left),
            Err(error) => return Err(failed("read the mark of a clean close")(error)),
        };
        if there {
            let found = Fingerprint::take(self.kind, &self.path).map_err(failed("read the store's files"))?;
            match found.matches(&mark) {
                Some((false, _)) => {
                    let what = "its files are not as they were when the store was closed".to_owned();
                    return Err(StorageError::DoesNotOpen { what });
                }
                Some((true, true)) => left = Left::Clean,
                // What the engine can do without was changed, or the mark was cut short by power loss.
                Some((true, false)) | None => {}
            }
        }
        fs::remove_file(self.mark()).map_err(failed("remove the mark of a clean close"))?;
        sync_folder(&self.path).map_err(failed("sync the folder"))?;
        Ok(left)
    }

    /// Marks the store as one that is being made, durably.
    pub(crate) fn begin_making(&self) -> Result<(), StorageError> {
        let made = File::create(self.making()).and_then(|mark| mark.sync_all()).and_then(|()| sync_folder(&self.path));
        made.map_err(failed("mark a new store"))
    }

    /// The store is made, durably.
    pub(crate) fn end_making(&self) -> Result<(), StorageError> {
        let ended = fs::remove_file(self.making()).and_then(|()| sync_folder(&self.path));
        ended.map_err(failed("take the mark of a new store away"))
    }

    /// Marks a clean close, durably.
    pub(crate) fn set_mark(&self) -> Result<(), StorageError> {
        let written = Fingerprint::take(self.kind, &self.path).and_then(|fingerprint| {
            let mut mark = File::create(self.mark())?;
            mark.write_all(&fingerprint.to_bytes())?;
            mark.sync_all()?;
            sync_folder(&self.path)
        });
        written.map_err(failed("mark a clean close"))
    }

    /// Removes snapshots that were being written when the process ended. sled would take the newest of them for whole,
    /// since it goes by the name's beginning alone, and fail.
    pub(crate) fn remove_unfinished_snapshots(&self) -> Result<(), StorageError> {
        for snapshot in self.snapshots()? {
            if snapshot.extension().is_some_and(|extension| extension == "generating") {
                fs::remove_file(&snapshot).map_err(failed("remove an unfinished snapshot"))?;
            }
        }
        Ok(())
    }

    /// Moves the snapshots to names sled does not look at; it then rebuilds its state from the whole log. One that is
    /// there already, from a start that was interrupted, is not kept twice.
    pub(crate) fn set_snapshots_aside(&self) -> Result<Vec<Aside>, StorageError> {
        let doing = || failed("set a snapshot aside");
        let mut moves = Vec::new();
        for from in self.snapshots()? {
            let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let places = (1_u32..).map(|i| self.path.join(format!("set-aside.{name}.corrupt-{i}")));
            for to in places {
                if !to.exists() {
                    fs::rename(&from, &to).map_err(doing())?;
                    moves.push(Aside { from, to, new: true });
                } else if is_same(&from, &to).map_err(doing())? {
                    fs::remove_file(&from).map_err(doing())?;
                    moves.push(Aside { from, to, new: false });
                } else {
                    continue;
                }
                break;
            }
            tracing::warn!(snapshot = %name, "set aside a snapshot with which the store does not open");
        }
        Ok(moves)
    }

    /// Undoes [`Dir::set_snapshots_aside`] when it did not help.
    pub(crate) fn put_snapshots_back(&self, moves: Vec<Aside>) -> Result<(), StorageError> {
        let back = |Aside { from, to, new }| if new { fs::rename(to, from) } else { fs::copy(to, from).map(drop) };
        moves.into_iter().try_for_each(back).map_err(failed("put a snapshot back"))
    }

    /// The snapshots are back under their own names: what was set aside now is not needed, what was before stays.
    pub(crate) fn forget_snapshots(&self, moves: Vec<Aside>) -> Result<(), StorageError> {
        for Aside { to, .. } in moves.into_iter().filter(|aside| aside.new) {
            match fs::remove_file(to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove a second copy of a snapshot")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes all set aside snapshots but the first and the newest. Only after the store was read whole without them:
    /// nothing that anybody needs is in them then.
    pub(crate) fn bound_snapshots_aside(&self) -> Result<(), StorageError> {
        let aside = self.files(ASIDE)?;
        let surplus = aside.len().saturating_sub(ASIDE_MAX);
        // By the place in sled's log, which their names begin with.
        for surplus in aside.iter().skip(1).take(surplus) {
            fs::remove_file(surplus).map_err(failed("remove an old snapshot"))?;
        }
        Ok(())
    }

    fn snapshots(&self) -> Result<Vec<PathBuf>, StorageError> {
        self.files("snap.")
    }

    /// The files whose names begin so, sorted.
    fn files(&self, begin: &str) -> Result<Vec<PathBuf>, StorageError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed("list the folder"))? {
            let entry = entry.map_err(failed("list the folder"))?;
            if entry.file_name().to_string_lossy().starts_with(begin) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    fn mark(&self) -> PathBuf {
        self.path.join("clean")
    }

    fn making(&self) -> PathBuf {
        self.path.join(MAKING)
    }
}

/// Waits until no engine holds its files: an engine's threads may outlive the handle that was dropped by a moment.
pub(crate) fn wait_until_released(kind: EngineKind, path: &Path) -> Result<(), StorageError> {
    let begun = clock::now();
    loop {
        let database = match OpenOptions::new().write(true).open(kind.lock(path)) {
            Ok(database) => database,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("open the database file")(error)),
        };
        match database.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(failed("lock the database file")(error)),
            Err(TryLockError::WouldBlock) if clock::now().duration_since(begun) >= RELEASE_MAX => {
                return Err(StorageError::InUse);
            }
            Err(TryLockError::WouldBlock) => clock::pause(RELEASE_POLL),
        }
    }
}

/// Whether two files have the same content.
fn is_same(left: &Path, right: &Path) -> io::Result<bool> {
    Ok(fs::metadata(left)?.len() == fs::metadata(right)?.len() && fs::read(left)? == fs::read(right)?)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and the file system orders names by itself.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Turns a failed file operation into an error that says what was being done.
pub(crate) fn failed(doing: &'static str) -> impl Fn(io::Error) -> StorageError {
    move |error| StorageError::Engine(format!("could not {doing}: {error}"))
}
