//! Kill and power: a store that is written to ends at a moment chosen by the seed, and must open with everything it
//! acknowledged, whole.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use crate::chance::Chance;
use crate::child::{Load, Place, start_load, verify};
use crate::{Plan, Verdict};

/// Rounds over one database: segments and tables are used again, and every open follows a crash.
const EPISODE: u64 = 10;
/// What the preload answers when the power went.
const POWER_WENT: i32 = 86;
/// What a writing child answers when its store has failed; and when a thread of its own panicked over it, where a relay
/// aborts.
pub(crate) const STORE_FAILED: [i32; 2] = [3, 101];
/// A child that has acknowledged so much and is not dead yet is killed.
const ACKNOWLEDGED_MAX: u64 = 6_000;
const SIGKILL: i32 = 9;

#[derive(Default)]
struct Totals {
    acked: u64,
    lost: u64,
    torn: u64,
    unopened: u64,
}

pub(crate) fn run(plan: Plan, power: Option<&Path>) -> Verdict {
    let (mut totals, mut place) = (Totals::default(), Place::new());
    // A round stands on those before it over the same database.
    let first = plan.from - plan.from % EPISODE;
    let end = plan.from + plan.rounds;
    for round in first..end {
        if round % EPISODE == 0 {
            place = Place::new();
        }
        let before = (totals.lost, totals.torn, totals.unopened);
        let notes = one(plan, round, power, &mut place, &mut totals);
        if (totals.lost, totals.torn, totals.unopened) != before {
            let mode = if power.is_some() { "power" } else { "kill" };
            eprintln!(
                "round {round}: {notes:?}\n  kept in {}\n  again: tests/crash --target {:?} --store {} --mode {mode} --seed {} \
                 --from {} --rounds {}",
                place.keep().display(),
                plan.target,
                plan.engine.name(),
                plan.seed,
                round - round % EPISODE,
                round % EPISODE + 1,
            );
            place = Place::new();
        }
    }
    let Totals { acked, lost, torn, unopened } = totals;
    let rounds = end - first;
    Verdict {
        counts: vec![("rounds", rounds), ("acked", acked), ("lost", lost), ("torn", torn), ("unopened", unopened)],
        kept: lost + torn + unopened == 0 && acked > 0,
        seconds: 0,
    }
}

/// What makes the power of a child go, or one of its syncs fail.
pub(crate) fn weak_power(
    preload: &Path,
    place: &Place,
    chance: &mut Chance,
    (round, sync_fails): (u64, bool),
) -> Vec<(&'static str, OsString)> {
    let trash = place.beside("trash");
    let _none_yet = fs::remove_dir_all(&trash);
    fs::create_dir(&trash).unwrap();
    let (fuel, fails) = match (chance.skewed(14), chance.skewed(10)) {
        (_, fails) if sync_fails => (u64::from(u32::MAX), fails.to_string()),
        (fuel, _) => (fuel, "-1".to_owned()),
    };
    vec![
        ("POWER_FAILS", fails.into()),
        ("LD_PRELOAD", OsString::from(preload)),
        ("POWER_ROOT", place.dir().into_os_string()),
        ("POWER_TRASH", trash.into_os_string()),
        ("POWER_AFTER", fuel.to_string().into()),
        ("POWER_SEED", chance.next().to_string().into()),
        ("POWER_KEEP", if sync_fails { "0" } else { "30" }.into()),
        ("POWER_TORN", if round.is_multiple_of(2) { "0" } else { "10" }.into()),
    ]
}

fn one(plan: Plan, round: u64, power: Option<&Path>, place: &mut Place, totals: &mut Totals) -> Vec<String> {
    let mut chance = Chance::of(&[plan.seed, round, 1]);
    // Mostly early, when files are being made, and sometimes late.
    let wanted = if power.is_some() { ACKNOWLEDGED_MAX } else { 1 + chance.skewed(11) };
    // Every fifth time it is not the power that goes: a sync fails, and what it was to sync is gone with the process.
    let sync_fails = power.is_some() && round % 5 == 4;
    let environment = power.map(|preload| weak_power(preload, place, &mut chance, (round, sync_fails)));
    let environment = environment.unwrap_or_default();
    let mut running = start_load(&Load::new(plan, &place.dir(), round), &environment, place);
    let (mut acked, mut error, mut killed) = (0, None, false);
    let mut heed = |line: &str, acked: &mut u64| {
        *acked += u64::from(line.starts_with("a "));
        if line.starts_with("error ") || line.starts_with("failed ") {
            error.get_or_insert(line.to_owned());
        }
        place.ledger.push_str(line);
        place.ledger.push('\n');
    };
    while acked < wanted {
        match running.next() {
            Some(line) => heed(&line, &mut acked),
            None => break,
        }
    }
    if acked >= wanted {
        running.kill();
        killed = true;
    }
    let status = running.end(|line| heed(&line, &mut acked));
    totals.acked += acked;
    let as_meant = match status.code() {
        Some(code) if sync_fails && STORE_FAILED.contains(&code) => {
            error = None;
            true
        }
        Some(POWER_WENT) => power.is_some() && !sync_fails,
        _ => killed && status.signal() == Some(SIGKILL),
    };
    if error.is_some() || !as_meant {
        totals.unopened += 1;
        return vec![format!("the writer ended with {status}: {error:?}")];
    }
    let found = verify(plan, &place.dir(), &place.ledger, chance.percent(50), place);
    if let Some(error) = found.error {
        totals.unopened += 1;
        return vec![error];
    }
    totals.lost += found.lost + found.named;
    totals.torn += found.torn;
    found.notes
}
