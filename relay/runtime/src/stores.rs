//! Stores: what an operator does with a store as a whole: read it, copy it, move it to another engine.
//! Owns: the folders beside the store, the exchange of one store for another, the reports.
//! Never: opens a store that another process has open; a running relay is asked instead (`control`).
//!
//! In the data folder: `store`; `store.new`, a copy that will take its place; `store.before-migration`, what a migration
//! left; `store.exchange`, there while one store is being exchanged for the other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use whimbrel_relay::store::kv;
use whimbrel_storage::{Copied, StorageError, Survey, copy_on};
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options};

use crate::failure::{Exit, Failure};
use crate::{Settings, identity};

/// What a copy came from, beside it: a migration that was interrupted goes on only if its source is still the same.
const SOURCE: &str = "copied-from";

/// The folder in which the next store is made.
pub(crate) fn next_dir(settings: &Settings) -> PathBuf {
    settings.data_dir.join("store.new")
}

/// Where the old store is while the new one takes its place: one that is kept has a name of its own, which no later
/// exchange takes away.
fn before_dir(settings: &Settings, keep: bool) -> PathBuf {
    settings.data_dir.join(if keep { "store.before-migration" } else { "store.old" })
}

/// The right to move stores about in the data folder. Whoever opens a store by its place holds it until it is open; whoever
/// exchanges stores holds it from before the first is opened until the other is in its place.
pub(crate) struct Hold {
    _lock: fs::File,
}

/// Waits for that right.
pub(crate) fn hold(settings: &Settings) -> Result<Hold, Failure> {
    if !settings.data_dir.exists() {
        let message = format!("{}: there is no store", settings.store_dir().display());
        return Err(Failure::new(Exit::NotFound, "no_store", message).hint("the first start of the relay makes it"));
    }
    let path = settings.data_dir.join("store.lock");
    let lock = fs::File::options().create(true).append(true).open(&path);
    let lock = lock.and_then(|lock| lock.lock().map(|()| lock));
    Ok(Hold { _lock: lock.with_context(|| format!("cannot lock {}", path.display()))? })
}

/// Refuses a target among the relay's own files, which an exchange may move or remove.
pub(crate) fn check_outside(settings: &Settings, into: &Path, in_place: bool) -> Result<(), Failure> {
    let own = std::path::absolute(&settings.data_dir).context("the data folder is no path")?;
    if in_place || !into.starts_with(&own) {
        return Ok(());
    }
    let message = format!("{} is in the relay's data folder", into.display());
    Err(Failure::new(Exit::Usage, "own_folder", message).hint("nothing was changed; choose a folder elsewhere"))
}

/// What a full reading found.
pub(crate) struct Report {
    engine: EngineKind,
    /// The version of the rows, if it can be read.
    version: Option<u32>,
    bytes: u64,
    survey: Survey,
    problems: kv::Problems,
}

/// Reads a whole store that is open. Nothing may be written meanwhile.
pub(crate) fn read_whole(store: &DiskKv, version: Option<u32>) -> Result<Report, StorageError> {
    let (engine, bytes, survey) = (store.engine(), store.size_on_disk()?, store.survey()?);
    Ok(Report { engine, version, bytes, survey, problems: kv::check(store, version.unwrap_or(kv::SCHEMA.version))? })
}

impl Report {
    pub(crate) fn is_whole(&self) -> bool {
        self.survey.is_whole() && self.problems.count == 0
    }

    pub(crate) fn json(&self) -> Value {
        let spaces: Vec<Value> = self
            .survey
            .spaces
            .iter()
            .map(|(space, count)| json!({ "space": kv::space_name(*space), "rows": count.rows, "bytes": count.bytes }))
            .collect();
        let damages: Vec<Value> = self
            .survey
            .damages
            .iter()
            .map(|damage| json!({ "space": kv::space_name(damage.space), "key": damage.key, "what": damage.what }))
            .collect();
        json!({
            "engine": self.engine.name(),
            "version": self.version,
            "bytes": self.bytes,
            "newest_batch": self.survey.newest_batch,
            "rows": self.survey.found.rows,
            "spaces": spaces,
            "damage_count": self.survey.damage_count,
            "damages": damages,
            "missing": self.survey.difference(),
            "problem_count": self.problems.count,
            "problems": self.problems.named,
            "whole": self.is_whole(),
        })
    }

    pub(crate) fn text(&self) -> String {
        let mut lines = vec![format!(
            "store     {}, rows of version {}, {} bytes, {} rows in {} batches",
            self.engine.name(),
            self.version.map_or("unknown".to_owned(), |version| version.to_string()),
            self.bytes,
            self.survey.found.rows,
            self.survey.newest_batch
        )];
        for (space, count) in &self.survey.spaces {
            lines.push(format!("  {:<26} {:>10} rows {:>14} bytes", kv::space_name(*space), count.rows, count.bytes));
        }
        for damage in &self.survey.damages {
            lines.push(format!("damaged   {}: {}, key {}", kv::space_name(damage.space), damage.what, damage.key));
        }
        lines.extend(self.survey.difference().map(|what| format!("missing   {what}")));
        lines.extend(self.problems.named.iter().map(|problem| format!("problem   {problem}")));
        lines.push(if self.is_whole() { "whole".to_owned() } else { "not whole".to_owned() });
        lines.join("\n")
    }
}

/// Refuses a target that holds something.
pub(crate) fn check_target(into: &Path) -> Result<(), Failure> {
    let free = match fs::read_dir(into) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if free {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, "exists", format!("{} exists and is not empty", into.display()))
        .hint("nothing was changed; choose another folder"))
}

/// Copies a store into a folder that holds nothing, for its owner's eyes as the store itself is. A copy that was not
/// finished is taken away: it would pass for a whole store with fewer rows.
pub(crate) fn copy_into(store: &DiskKv, into: &Path) -> Result<Copied, Failure> {
    check_target(into)?;
    identity::make_dir(into)?;
    match store.export(into) {
        Ok(copied) => Ok(copied),
        Err(error) => {
            remove(into)?;
            Err(engine_failure(error))
        }
    }
}

/// Makes room for a copy that takes the store's place: an earlier one that did not come to that is of no use.
pub(crate) fn clear_next(settings: &Settings) -> Result<PathBuf, Failure> {
    let next = next_dir(settings);
    remove(&next)?;
    Ok(next)
}

fn remove(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(anyhow::Error::new(error).context(format!("cannot remove {}", folder.display())).into())
        }
        _ => Ok(()),
    }
}

/// Copies a store into a new one on another engine, going on where an earlier attempt stopped. Both are closed after.
pub(crate) fn migrate(settings: &Settings, store: DiskKv, to: EngineKind) -> Result<Copied, Failure> {
    let next = next_dir(settings);
    let totals = store.kv().totals().map_err(engine_failure)?;
    let source = format!(
        "{} {} {} {:x}\n",
        store.engine().name(),
        store.newest_batch().map_err(engine_failure)?,
        totals.rows,
        totals.sum
    );
    let note = next.join(SOURCE);
    let goes_on =
        fs::read_to_string(&note).is_ok_and(|known| known == source) && EngineKind::found_in(&next) == Some(to);
    if !goes_on {
        remove(&next)?;
        identity::make_dir(&next)?;
        fs::write(&note, &source).with_context(|| format!("cannot write {}", note.display()))?;
        identity::sync_dir(&next)?;
    } else {
        eprintln!("going on with the copy in {}", next.display());
    }
    let options = Options { engine: to, reserve: settings.reserve, ..Options::default() };
    let into = DiskKv::open(&next, options).map_err(engine_failure)?;
    let copied = copy_on(&store, &into).map_err(engine_failure)?;
    into.close().map_err(engine_failure)?;
    store.close().map_err(engine_failure)?;
    fs::remove_file(&note).with_context(|| format!("cannot remove {}", note.display()))?;
    Ok(copied)
}

fn engine_failure(error: StorageError) -> Failure {
    match error {
        StorageError::Full => Failure::new(Exit::Limit, "disk_full", error.to_string())
            .hint("a copy takes as much space as what it copies; what was copied stays, and the next attempt goes on"),
        _ => Failure::new(Exit::Internal, "store", error.to_string()),
    }
}

/// Puts the store in `store.new`, closed and complete, in the place of the other; `keep` keeps that.
///
/// A mark says that it began: whatever interrupts it, [`finish_exchange`] brings it to its end.
pub(crate) fn exchange(settings: &Settings, held: &Hold, keep: bool) -> Result<Option<PathBuf>, Failure> {
    let mark = mark(settings);
    let word = if keep { "keep" } else { "drop" };
    fs::write(&mark, word)
        .and_then(|()| fs::File::open(&mark)?.sync_all())
        .with_context(|| format!("cannot write {}", mark.display()))?;
    identity::sync_dir(&settings.data_dir)?;
    finish_exchange(settings, held)
}

/// Ends an exchange that began, if one did. Answers where the old store is, if it was kept.
pub(crate) fn finish_exchange(settings: &Settings, _held: &Hold) -> Result<Option<PathBuf>, Failure> {
    let mark = mark(settings);
    let keep = match fs::read_to_string(&mark) {
        // A mark cut short keeps: space is cheaper than a store.
        Ok(word) => word != "drop",
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot read {}", mark.display())).into());
        }
    };
    let (store, next, old) = (settings.store_dir(), next_dir(settings), before_dir(settings, keep));
    // While the new one has not moved, the old one may not have, either.
    if next.exists() {
        if store.exists() {
            remove(&old)?;
            rename(&store, &old)?;
            identity::sync_dir(&settings.data_dir)?;
        }
        rename(&next, &store)?;
        identity::sync_dir(&settings.data_dir)?;
    }
    if !keep {
        remove(&old)?;
    }
    fs::remove_file(&mark).with_context(|| format!("cannot remove {}", mark.display()))?;
    identity::sync_dir(&settings.data_dir)?;
    Ok(keep.then_some(old))
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn mark(settings: &Settings) -> PathBuf {
    settings.data_dir.join("store.exchange")
}

/// What a copy holds, for programs.
pub(crate) fn copied_json(copied: &Copied) -> Value {
    json!({ "rows": copied.rows, "bytes": copied.bytes, "checksum": format!("{:08x}", copied.checksum) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tempfile::TempDir;
    use whimbrel_storage::{Batch, OrderedKv, tail_from_bytes};

    use super::*;

    #[test]
    fn a_copy_that_fails_midway_is_taken_away_its_source_stays_whole_and_the_next_attempt_succeeds() {
        for engine in EngineKind::ALL {
            let dir = TempDir::new().unwrap();
            let (from, into) = (dir.path().join("store"), dir.path().join("backup"));
            let store = DiskKv::open(&from, Options { engine, ..Options::default() }).unwrap();
            let put = |n: u8| {
                let mut batch = Batch::new();
                batch.put(vec![n], vec![n; 200_000]);
                store.apply(&batch).unwrap();
            };
            (0..250).for_each(put);
            store.sync().unwrap();
            let copied = || fs::read(into.join("tail")).ok().and_then(|tail| tail_from_bytes(&tail)).unwrap_or(0);
            let failure = std::thread::scope(|scope| {
                let copy = scope.spawn(|| copy_into(&store, &into));
                while copied() < 2 {
                    assert!(!copy.is_finished(), "{engine}: it ended before it was to fail");
                    std::thread::yield_now();
                }
                store.end_export();
                copy.join().unwrap().unwrap_err()
            });
            assert_eq!((failure.exit, failure.code), (Exit::Internal, "store"), "{failure:?}");
            assert!(!into.exists(), "{engine}: half a copy was left");
            // It serves on, and another attempt has everything.
            put(255);
            assert_eq!(store.verify().unwrap().rows, 251);
            assert_eq!(copy_into(&store, &into).unwrap().rows, 251);
            store.close().unwrap();
            let copy = DiskKv::open(&into, Options { engine, ..Options::default() }).unwrap();
            assert_eq!(copy.verify().unwrap().rows, 251);
            copy.close().unwrap();
            DiskKv::open(&from, Options { engine, ..Options::default() }).unwrap().close().unwrap();
        }
    }
}
