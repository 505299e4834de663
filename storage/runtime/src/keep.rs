//! Keep: the files of a store as they were before an engine touched them.
//! sled repairs while it opens: it cuts what it cannot read off its log, and the rest is gone. So a store that was not
//! closed is copied first, and put back byte for byte when the open ends badly; and one that was closed is compared with
//! the checksum its mark holds before anything opens it.
//! Owns: the copy, its way back, the checksum of the database file.
//! Never: decides whether an open ended well.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use whimbrel_storage::StorageError;

use crate::dir::{database, failed, sync_folder};

/// The copy while it is being made; worth nothing.
const COPYING: &str = "set-aside.copying";
/// The copy once it is whole.
const BEFORE: &str = "set-aside.before";

/// The store's files, kept.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
}

impl Kept {
    /// Copies sled's files, durably.
    pub(crate) fn make(path: &Path) -> Result<Self, StorageError> {
        let copying = path.join(COPYING);
        let copied = fs::create_dir(&copying).and_then(|()| {
            for name in engine_files(path)? {
                fs::copy(path.join(&name), copying.join(&name))?;
                File::open(copying.join(&name))?.sync_all()?;
            }
            sync_folder(&copying)?;
            fs::rename(&copying, path.join(BEFORE))?;
            sync_folder(path)
        });
        match copied {
            Ok(()) => Ok(Self { path: path.to_owned() }),
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
        fs::remove_dir_all(self.path.join(BEFORE)).map_err(failed("remove the copy made before the open"))
    }

    /// The open ended badly: everything is put back as it was.
    pub(crate) fn put_back(self) -> Result<(), StorageError> {
        restore(&self.path).map_err(failed("put the store back as it was"))
    }
}

/// Puts back what an open that was itself interrupted had kept; removes half a copy.
pub(crate) fn recover(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path.join(COPYING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove half a copy")(error)),
        _ => {}
    }
    if path.join(BEFORE).is_dir() {
        restore(path).map_err(failed("put the store back as it was"))?;
    }
    Ok(())
}

fn restore(path: &Path) -> io::Result<()> {
    let kept = path.join(BEFORE);
    let names: Vec<_> = fs::read_dir(&kept)?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    // Copied, not moved, so that an interruption here can begin again.
    for name in &names {
        fs::copy(kept.join(name), path.join(name))?;
        File::open(path.join(name))?.sync_all()?;
    }
    for name in engine_files(path)? {
        if !names.iter().any(|kept| *kept == *name) {
            fs::remove_file(path.join(name))?;
        }
    }
    sync_folder(path)?;
    fs::remove_dir_all(kept)
}

/// The names of the files that the engine reads and writes.
fn engine_files(path: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && (name == "db" || name == "conf" || name.starts_with("snap.")) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// What a clean close says of the engine's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint {
    /// Length and checksum of the database file.
    database: (u64, u32),
    /// The same of the others, which the engine can do without.
    others: (u64, u32),
}

impl Fingerprint {
    /// Reads the files as they are now.
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        let mut others = (0, crc32fast::Hasher::new());
        for name in engine_files(path)?.into_iter().filter(|name| name != "db") {
            others.1.update(name.as_bytes());
            others.0 += add(&path.join(name), &mut others.1)?;
        }
        let mut database_sum = crc32fast::Hasher::new();
        let length = add(&database(path), &mut database_sum)?;
        Ok(Self { database: (length, database_sum.finalize()), others: (others.0, others.1.finalize()) })
    }

    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let parts = [self.database, self.others].map(|(length, sum)| (length.to_be_bytes(), sum.to_be_bytes()));
        let all = parts.iter().flat_map(|(length, sum)| length.iter().chain(sum));
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Whether a mark says the same of the database file, and of the others; nothing when it is no mark.
    pub(crate) fn matches(self, mark: &[u8]) -> Option<(bool, bool)> {
        let own = self.to_bytes();
        let (database, others) = mark.split_at_checked(12).filter(|_| mark.len() == own.len())?;
        Some((own.starts_with(database), own.ends_with(others)))
    }
}

fn add(file: &Path, sum: &mut crc32fast::Hasher) -> io::Result<u64> {
    let (mut file, mut length, mut buffer) = (File::open(file)?, 0, vec![0; 1 << 20]);
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
        let mark = Fingerprint::take(folder.path()).unwrap().to_bytes();
        let now = || Fingerprint::take(folder.path()).unwrap().matches(&mark);
        assert_eq!(now(), Some((true, true)));
        write("snap.1", "x");
        assert_eq!(now(), Some((true, false)));
        write("db", "onf");
        assert_eq!(now(), Some((false, false)));
        assert_eq!(Fingerprint::take(folder.path()).unwrap().matches(b"short"), None);
    }

    #[test]
    fn what_was_kept_comes_back_byte_for_byte_even_after_an_interruption() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("db"), "whole").unwrap();
        fs::write(path.join("snap.1"), "snapshot").unwrap();
        let kept = Kept::make(path).unwrap();
        fs::write(path.join("db"), "cut").unwrap();
        fs::remove_file(path.join("snap.1")).unwrap();
        fs::write(path.join("snap.2"), "made since").unwrap();
        // The process that kept them ended here.
        drop(kept);
        recover(path).unwrap();
        assert_eq!(fs::read_to_string(path.join("db")).unwrap(), "whole");
        assert_eq!(fs::read_to_string(path.join("snap.1")).unwrap(), "snapshot");
        assert_eq!(engine_files(path).unwrap(), ["db", "snap.1"]);
        assert!(!path.join(BEFORE).exists());
    }
}
