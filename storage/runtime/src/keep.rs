//! Keep: the files of a store as they were before an engine touched them.
//! Engines repair while they open: they cut what they cannot read off their logs, and the rest is gone. So a store that
//! was not closed is copied first, and put back byte for byte when the open ends badly; and one that was closed is
//! compared with the checksum its mark holds before anything opens it. Files that are written once are linked, not
//! copied.
//! Owns: the copy, its way back, the checksum of the engine's files.
//! Never: decides whether an open ended well.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use whimbrel_storage::StorageError;

use crate::dir::{failed, sync_folder};
use crate::kind::EngineKind;

/// The copy while it is being made; worth nothing.
const COPYING: &str = "set-aside.copying";
/// The copy once it is whole.
const BEFORE: &str = "set-aside.before";
/// The copy once it is not needed any more; on its way out.
const GONE: &str = "set-aside.gone";

/// Read and written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The store's files, kept.
#[derive(Debug)]
pub(crate) struct Kept {
    kind: EngineKind,
    path: PathBuf,
}

impl Kept {
    /// Copies the engine's files, durably.
    pub(crate) fn make(kind: EngineKind, path: &Path) -> Result<Self, StorageError> {
        let copying = path.join(COPYING);
        let copied = fs::create_dir(&copying).and_then(|()| {
            for file in kind.files(path)? {
                bring(kind, &file, path, &copying)?;
            }
            sync_folders(&copying)?;
            fs::rename(&copying, path.join(BEFORE))?;
            sync_folder(path)
        });
        match copied {
            Ok(()) => Ok(Self { kind, path: path.to_owned() }),
            Err(error) => {
                let _half_a_copy_is_worth_nothing = fs::remove_dir_all(&copying);
                Err(match error.kind() {
                    io::ErrorKind::StorageFull => StorageError::Full,
                    _ => failed("copy the store before it is opened")(error),
                })
            }
        }
    }

    /// The open ended well: the copy goes.
    pub(crate) fn forget(self) -> Result<(), StorageError> {
        forget(&self.path).map_err(failed("remove the copy made before the open"))
    }

    /// The open ended badly: everything is put back as it was.
    pub(crate) fn put_back(self) -> Result<(), StorageError> {
        restore(self.kind, &self.path).map_err(failed("put the store back as it was"))
    }
}

/// Puts back what an open that was itself interrupted had kept; removes half a copy.
pub(crate) fn recover(kind: EngineKind, path: &Path) -> Result<(), StorageError> {
    for useless in [COPYING, GONE] {
        match fs::remove_dir_all(path.join(useless)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove half a copy")(error)),
            _ => {}
        }
    }
    if path.join(BEFORE).is_dir() {
        restore(kind, path).map_err(failed("put the store back as it was"))?;
    }
    Ok(())
}

fn restore(kind: EngineKind, path: &Path) -> io::Result<()> {
    let kept = path.join(BEFORE);
    let files = kind.files(&kept)?;
    // Copied, not moved, so that an interruption here can begin again.
    for file in &files {
        bring(kind, file, &kept, path)?;
    }
    for file in kind.files(path)? {
        if !files.contains(&file) {
            fs::remove_file(path.join(file))?;
        }
    }
    sync_folders(&kind.home(path))?;
    sync_folder(path)?;
    forget(path)
}

/// Its name goes first, durably: a copy that came back after a power loss, whole or in part, would be put in the place
/// of a store that has gone on since.
fn forget(path: &Path) -> io::Result<()> {
    fs::rename(path.join(BEFORE), path.join(GONE))?;
    sync_folder(path)?;
    fs::remove_dir_all(path.join(GONE))
}

/// Makes a file in `to` what it is in `from`, durably but for its name.
fn bring(kind: EngineKind, file: &Path, from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.join(file), to.join(file));
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if kind.is_written_once(file) {
        match fs::remove_file(&to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if fs::hard_link(&from, &to).is_ok() {
            return Ok(());
        }
    }
    copy_without_holes(&from, &to)
}

/// Copies a file; what is all zeros is left out and reads as zeros. A journal of fjall is 64 MiB long from its beginning
/// and mostly empty.
fn copy_without_holes(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let (mut buffer, mut length) = (vec![0; CHUNK_BYTES], 0_u64);
    loop {
        let read = from.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if bytes.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(length))?;
            to.write_all(bytes)?;
        }
        length += read as u64;
    }
    to.set_len(length)?;
    to.sync_all()
}

/// Makes the names in a folder and in all below it durable.
fn sync_folders(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(path)
}

/// What a clean close says of the engine's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint {
    /// Length and checksum of the files without which there is no store.
    database: (u64, u32),
    /// The same of the others, which the engine can do without.
    others: (u64, u32),
}

impl Fingerprint {
    /// Reads the files as they are now. Of those that are written once, the length must do: every block in them has a
    /// checksum of its own, which is checked when it is read, and they may be many.
    pub(crate) fn take(kind: EngineKind, path: &Path) -> io::Result<Self> {
        let needed = |file: &Path| kind == EngineKind::Fjall || file == Path::new("db");
        let (needed, spare): (Vec<_>, Vec<_>) = kind.files(path)?.into_iter().partition(|file| needed(file));
        let sum_of = |files: Vec<PathBuf>| {
            let (mut length, mut sum) = (0, crc32fast::Hasher::new());
            for file in files {
                sum.update(file.to_string_lossy().as_bytes());
                let full = path.join(&file);
                length += if kind.is_written_once(&file) {
                    let length = fs::metadata(full)?.len();
                    sum.update(&length.to_be_bytes());
                    length
                } else {
                    add(&full, &mut sum)?
                };
            }
            io::Result::Ok((length, sum.finalize()))
        };
        Ok(Self { database: sum_of(needed)?, others: sum_of(spare)? })
    }

    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let parts = [self.database, self.others].map(|(length, sum)| (length.to_be_bytes(), sum.to_be_bytes()));
        let all = parts.iter().flat_map(|(length, sum)| length.iter().chain(sum));
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Whether a mark says the same of the database, and of the other files; nothing when it is no mark.
    pub(crate) fn matches(self, mark: &[u8]) -> Option<(bool, bool)> {
        let own = self.to_bytes();
        let (database, others) = mark.split_at_checked(12).filter(|_| mark.len() == own.len())?;
        Some((own.starts_with(database), own.ends_with(others)))
    }
}

fn add(file: &Path, sum: &mut crc32fast::Hasher) -> io::Result<u64> {
    let (mut file, mut length, mut buffer) = (File::open(file)?, 0, vec![0; CHUNK_BYTES]);
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(length) };
        length += read as u64;
        sum.update(bytes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_the_database_from_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("db", "one");
        write("conf", "two");
        let take = || Fingerprint::take(EngineKind::Sled, folder.path()).unwrap();
        let mark = take().to_bytes();
        let now = || take().matches(&mark);
        assert_eq!(now(), Some((true, true)));
        write("snap.1", "x");
        assert_eq!(now(), Some((true, false)));
        write("db", "onf");
        assert_eq!(now(), Some((false, false)));
        assert_eq!(take().matches(b"short"), None);
    }

    #[test]
    fn what_was_kept_comes_back_byte_for_byte_even_after_an_interruption() {
        for (kind, log, table, later) in [
            (EngineKind::Sled, "db", "snap.1", "snap.2"),
            (EngineKind::Fjall, "fjall/0.jnl", "fjall/keyspaces/1/tables/0", "fjall/keyspaces/1/tables/1"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            fs::create_dir_all(path.join(table).parent().unwrap()).unwrap();
            let whole = [vec![0; 2 * CHUNK_BYTES], b"whole".to_vec(), vec![0; CHUNK_BYTES]].concat();
            fs::write(path.join(log), &whole).unwrap();
            fs::write(path.join(table), "table").unwrap();
            let kept = Kept::make(kind, path).unwrap();
            fs::write(path.join(log), "cut").unwrap();
            fs::remove_file(path.join(table)).unwrap();
            fs::write(path.join(later), "made since").unwrap();
            // The process that kept them ended here.
            drop(kept);
            recover(kind, path).unwrap();
            assert!(fs::read(path.join(log)).unwrap() == whole);
            assert_eq!(fs::read_to_string(path.join(table)).unwrap(), "table");
            assert_eq!(kind.files(path).unwrap(), [PathBuf::from(log), PathBuf::from(table)]);
            assert!(!path.join(BEFORE).exists() && !path.join(GONE).exists());
            // A copy that was let go of is never put back, however much of it a power loss leaves.
            Kept::make(kind, path).unwrap();
            fs::rename(path.join(BEFORE), path.join(GONE)).unwrap();
            fs::write(path.join(log), "newer").unwrap();
            recover(kind, path).unwrap();
            assert_eq!(fs::read_to_string(path.join(log)).unwrap(), "newer");
            assert!(!path.join(GONE).exists());
        }
    }
}
