//! Kind: which engine a store is on, as people write it, and which files in its folder are the engine's.
//! Owns: the names `sled:` and `fjall:`, the list of files. Never: opens one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use whimbrel_storage::StorageError;

/// The folder of fjall's files in a store's folder: both have a file named `lock`.
const FJALL_FOLDER: &str = "fjall";

/// The mark in a store's folder while the store is being made.
pub(crate) const MAKING: &str = "making";

/// An embedded engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum EngineKind {
    /// sled 0.34, the default.
    #[default]
    Sled,
    /// fjall 3, for larger stores.
    Fjall,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Fjall];

    /// What people write, in a configuration and on a command line.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Sled => "sled:",
            Self::Fjall => "fjall:",
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Fjall => "fjall",
        }
    }

    /// The engine that made the store in this folder, if there is one: a store whose making was interrupted is none.
    pub fn found_in(path: &Path) -> Option<Self> {
        if path.join(MAKING).exists() {
            return None;
        }
        Self::ALL.into_iter().find(|kind| kind.has_files_in(path))
    }

    /// Refuses a folder in which another engine's files lie, and touches nothing.
    pub(crate) fn check(self, path: &Path) -> Result<(), StorageError> {
        match Self::ALL.into_iter().find(|kind| *kind != self && kind.has_files_in(path)) {
            Some(other) => Err(StorageError::WrongEngine { found: other.name(), asked: self.name() }),
            None => Ok(()),
        }
    }

    fn has_files_in(self, path: &Path) -> bool {
        match self {
            Self::Sled => path.join("db").exists(),
            Self::Fjall => path.join(FJALL_FOLDER).exists(),
        }
    }

    /// Where the engine's own files begin.
    pub(crate) fn home(self, path: &Path) -> PathBuf {
        match self {
            Self::Sled => path.to_owned(),
            Self::Fjall => path.join(FJALL_FOLDER),
        }
    }

    /// The file without which there is no database.
    pub(crate) fn database(self, path: &Path) -> PathBuf {
        match self {
            Self::Sled => path.join("db"),
            Self::Fjall => path.join(FJALL_FOLDER).join("version"),
        }
    }

    /// The file that the engine locks while it is open.
    pub(crate) fn lock(self, path: &Path) -> PathBuf {
        match self {
            Self::Sled => path.join("db"),
            Self::Fjall => path.join(FJALL_FOLDER).join("lock"),
        }
    }

    /// The files that the engine reads and writes, relative to the store's folder, sorted.
    pub(crate) fn files(self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![match self {
            Self::Sled => PathBuf::new(),
            Self::Fjall => PathBuf::from(FJALL_FOLDER),
        }];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(path.join(&folder)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let (relative, kind) = (folder.join(entry.file_name()), entry.file_type()?);
                match self {
                    Self::Sled if kind.is_file() && is_sleds(&entry.file_name().to_string_lossy()) => {
                        found.push(relative)
                    }
                    Self::Fjall if kind.is_dir() => folders.push(relative),
                    Self::Fjall if kind.is_file() => found.push(relative),
                    Self::Sled | Self::Fjall => {}
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes the engine's files.
    pub(crate) fn remove_files(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Sled => self.files(path)?.into_iter().try_for_each(|file| fs::remove_file(path.join(file))),
            Self::Fjall => match fs::remove_dir_all(self.home(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Whether the engine writes such a file once and never again: its tables.
    pub(crate) fn is_written_once(self, relative: &Path) -> bool {
        self == Self::Fjall && relative.parent().and_then(Path::file_name).is_some_and(|folder| folder == "tables")
    }
}

fn is_sleds(name: &str) -> bool {
    name == "db" || name == "conf" || name.starts_with("snap.")
}

/// There is no such engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownEngine;

impl std::fmt::Display for UnknownEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unknown store, expected `sled:` or `fjall:`")
    }
}

impl std::error::Error for UnknownEngine {}

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        Self::ALL.into_iter().find(|kind| kind.url() == text).ok_or(UnknownEngine)
    }
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_reads_back_as_it_is_written() {
        for kind in EngineKind::ALL {
            assert_eq!(kind.url().parse(), Ok(kind));
        }
        for wrong in ["", "sled", "SLED:", "postgres:", "fjall:/somewhere"] {
            assert_eq!(wrong.parse::<EngineKind>(), Err(UnknownEngine));
        }
    }
}
