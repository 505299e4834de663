//! Commands on a store as a whole: `check --store`, `export`, `migrate`.
//! Owns: what they open, what they say. Never: copies or exchanges a store (`crate::stores`).

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use whimbrel_relay::store::kv::SCHEMA;
use whimbrel_storage::{StorageError, look_at};
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options};

use super::{load, output, store_failure, store_options};
use crate::stores::Hold;
use crate::{Exit, Failure, Settings, stores};

/// Reads the configuration of a relay that has a store on its disk.
fn load_with_store(file: &Path) -> Result<Settings, Failure> {
    let (settings, _) = load(file)?;
    if settings.in_memory {
        let message = "url = \"memory:\": the store is in the relay's memory alone, and gone with it";
        return Err(Failure::new(Exit::Usage, "store_in_memory", message)
            .hint("nothing was touched; for what lies in the data folder, write the url it was made with"));
    }
    Ok(settings)
}

/// Opens the store that is there, whichever engine it is on.
fn open_held(settings: &Settings, held: &Hold, prefix: &[OsString], tolerate: bool) -> Result<DiskKv, Failure> {
    stores::finish_exchange(settings, held)?;
    let dir = settings.store_dir();
    let Some(engine) = EngineKind::found_in(&dir) else {
        let message = format!("{}: there is no store", dir.display());
        return Err(Failure::new(Exit::NotFound, "no_store", message).hint("the first start of the relay makes it"));
    };
    let mut options = Options { engine, tolerate, ..store_options(settings, prefix)? };
    if tolerate {
        // Looking brings nothing up to a newer version.
        options.schema = None;
    }
    DiskKv::open(&dir, options).map_err(|error| store_failure(settings, &error))
}

pub(super) fn check(file: &Path, prefix: &[OsString], json: bool) -> Result<(), Failure> {
    let settings = load_with_store(file)?;
    let failed = |error| store_failure(&settings, &error);
    let held = stores::hold(&settings)?;
    if let Some(found) = EngineKind::found_in(&settings.store_dir()).filter(|found| *found != settings.engine) {
        return Err(failed(StorageError::WrongEngine { found: found.name(), asked: settings.engine.name() }));
    }
    let store = open_held(&settings, &held, prefix, true)?;
    drop(held);
    let looked = match look_at(&store, &SCHEMA) {
        // Named again, with all other damage, by the whole reading.
        Err(StorageError::Damaged { .. }) => Ok(None),
        version => version.map(Some),
    };
    let read = looked.and_then(|version| stores::read_whole(&store, version));
    // What was not closed is left so, byte for byte: whoever serves from it next tries and reads it as any other. What
    // was closed and is whole is closed again; what is not is read whole at the next start.
    let ended = match &read {
        Ok(report) if report.is_whole() && store.was_closed() => store.close(),
        // Nothing was read that a start would refuse.
        Err(StorageError::TooNew { .. } | StorageError::WrongRows { .. }) if store.was_closed() => store.close(),
        _ => store.discard(),
    };
    let report = read.map_err(failed)?;
    output(json, &report.text(), json!({ "v": 1, "store": report.json() }));
    ended.map_err(failed)?;
    if report.is_whole() {
        return Ok(());
    }
    let message = format!("{}: the store is not whole", settings.store_dir().display());
    Err(Failure::new(Exit::Internal, "store_damaged", message).hint(
        "nothing was changed; rows that are damaged answer errors, and where rows are missing the relay does not start: \
         put a backup in its place",
    ))
}

pub(super) fn export(file: &Path, into: Option<&Path>, prefix: &[OsString], json: bool) -> Result<(), Failure> {
    let settings = load_with_store(file)?;
    let in_place = into.is_none();
    let held = stores::hold(&settings)?;
    let into = match into {
        Some(into) => std::path::absolute(into).with_context(|| format!("{} is no path", into.display()))?,
        None => std::path::absolute(stores::next_dir(&settings)).context("the data folder is no path")?,
    };
    stores::check_outside(&settings, &into, in_place)?;
    let store = match open_held(&settings, &held, prefix, false) {
        // Under a relay that serves, its store does not change its place.
        Err(failure) if failure.code == "store_in_use" && !in_place => {
            return export_running(&settings, &into, failure, json);
        }
        store => store?,
    };
    if in_place {
        stores::clear_next(&settings)?;
    }
    let bytes_before = store.size_on_disk().map_err(|error| store_failure(&settings, &error))?;
    let copied = stores::copy_into(&store, &into)?;
    store.close().map_err(|error| store_failure(&settings, &error))?;
    if in_place {
        stores::exchange(&settings, &held, false)?;
    }
    let place = if in_place { settings.store_dir() } else { into };
    print_exported(&place, &stores::copied_json(&copied), Some(bytes_before), json);
    Ok(())
}

/// The relay has the store open: it makes the copy itself.
fn export_running(settings: &Settings, into: &Path, busy: Failure, json: bool) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use crate::control::{self, Answer, Question};
        stores::check_target(into)?;
        let question = Question::Export { into: into.to_owned() };
        match control::ask(&settings.data_dir, &question).context("cannot ask the running relay")? {
            Some(Answer::Copied(copied)) => {
                print_exported(into, &copied, None, json);
                return Ok(());
            }
            Some(Answer::Failed(why)) => {
                return Err(Failure::new(Exit::Internal, "export", format!("the running relay did not export: {why}")));
            }
            Some(Answer::Invite(_)) | None => {}
        }
    }
    let _of_no_use_elsewhere = (settings, into, json);
    Err(busy)
}

fn print_exported(place: &Path, copied: &Value, bytes_before: Option<u64>, json: bool) {
    let rows = copied.get("rows").and_then(Value::as_u64).unwrap_or(0);
    let checksum = copied.get("checksum").and_then(Value::as_str).unwrap_or_default();
    let text = format!("{rows} rows, checksum {checksum}, in {}", place.display());
    let value = json!({
        "v": 1,
        "place": place,
        "copied": copied,
        "bytes_before": bytes_before,
    });
    output(json, &text, value);
}

pub(super) fn migrate(file: &Path, to: EngineKind, prefix: &[OsString], json: bool) -> Result<(), Failure> {
    let settings = load_with_store(file)?;
    let held = stores::hold(&settings)?;
    stores::finish_exchange(&settings, &held)?;
    let said = |copied: Option<&Value>, kept: Option<&Path>| {
        let mut lines = Vec::new();
        match copied {
            Some(copied) => lines.push(format!("{copied}")),
            None => lines.push(format!("the store is on {} already", to.name())),
        }
        lines.extend(
            kept.map(|kept| format!("the old store is in {}; remove it once you trust the new one", kept.display())),
        );
        if settings.engine != to {
            lines.push(format!("now write url = \"{to}\" in {}", settings.file.display()));
        }
        let value = json!({ "v": 1, "engine": to.name(), "copied": copied, "old_store": kept });
        output(json, &lines.join("\n"), value);
    };
    if EngineKind::found_in(&settings.store_dir()) == Some(to) {
        said(None, None);
        return Ok(());
    }
    let store = open_held(&settings, &held, prefix, false)?;
    let copied = stores::migrate(&settings, store, to)?;
    let kept = stores::exchange(&settings, &held, true)?;
    said(Some(&stores::copied_json(&copied)), kept.as_deref());
    Ok(())
}
