//! Trouble: a disk that stalls, and one that has become read-only. Nothing is acknowledged meanwhile, nothing that was is
//! lost, and the store serves again: by itself after a stall, after a restart when the disk can be written again.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::chance::Chance;
use crate::child::{Load, Place, start_load, verify};
use crate::crash::STORE_FAILED;
use crate::{Plan, Verdict};

/// How long a disk stalls: within what a commit may take.
const STALL: Duration = Duration::from_secs(10);
/// What had been written and synced when it began to stall is said by then.
const SETTLE: Duration = Duration::from_millis(500);
/// What is acknowledged after the trouble, to call it served.
const SERVED: u64 = 10;

/// Which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    Stall,
    ReadOnly,
}

#[derive(Default)]
struct Totals {
    acked: u64,
    /// Acknowledged while nothing could be written.
    unbacked: u64,
    lost: u64,
    torn: u64,
    unopened: u64,
    served: u64,
}

pub(crate) fn run(plan: Plan, trouble: Trouble, preload: &Path) -> Verdict {
    let mut totals = Totals::default();
    for round in plan.from..plan.from + plan.rounds {
        let mut place = Place::new();
        let before = (totals.unbacked + totals.lost + totals.torn + totals.unopened, totals.served);
        let notes = one(plan, round, (trouble, preload), &mut place, &mut totals);
        if totals.unbacked + totals.lost + totals.torn + totals.unopened != before.0 || totals.served == before.1 {
            eprintln!("round {round}: {notes:?}\n  kept in {}", place.keep().display());
        }
    }
    let Totals { acked, unbacked, lost, torn, unopened, served } = totals;
    let rounds = plan.rounds;
    Verdict {
        counts: vec![
            ("rounds", rounds),
            ("acked", acked),
            ("unbacked", unbacked),
            ("lost", lost),
            ("torn", torn),
            ("unopened", unopened),
            ("served", served),
        ],
        kept: unbacked + lost + torn + unopened == 0 && served == rounds && acked > 0,
        seconds: 0,
    }
}

fn one(
    plan: Plan,
    round: u64,
    (trouble, preload): (Trouble, &Path),
    place: &mut Place,
    totals: &mut Totals,
) -> Vec<String> {
    let mut chance = Chance::of(&[plan.seed, round, 5]);
    let marks = place.beside("marks");
    fs::create_dir(&marks).unwrap();
    let environment = [
        ("LD_PRELOAD", OsString::from(preload)),
        ("DISK_ROOT", place.dir().into_os_string()),
        ("DISK_MARKS", marks.clone().into_os_string()),
    ];
    let mark = marks.join(if trouble == Trouble::Stall { "stall" } else { "readonly" });
    let mut notes = Vec::new();
    let mut running = start_load(&Load::new(plan, &place.dir(), round), &environment, place);
    let (mut acked, wanted) = (0, 50 + chance.below(500));
    let mut heed = |line: String, place: &mut Place| {
        let is_ack = line.starts_with("a ");
        totals.acked += u64::from(is_ack);
        place.ledger.push_str(&line);
        place.ledger.push('\n');
        is_ack
    };
    while acked < wanted {
        let Some(line) = running.next() else { return vec!["it ended before the trouble began".to_owned()] };
        acked += u64::from(heed(line, place));
    }
    fs::write(&mark, b"").unwrap();
    let mut served = true;
    match trouble {
        Trouble::Stall => {
            for line in running.within(SETTLE) {
                heed(line, place);
            }
            for line in running.within(STALL) {
                totals.unbacked += u64::from(line.starts_with("a "));
                notes.push(format!("during the stall: {line}"));
                heed(line, place);
            }
            fs::remove_file(&mark).unwrap();
            let mut again = 0;
            while again < SERVED {
                let Some(line) = running.next() else { break };
                if line.starts_with("failed ") || line.starts_with("error ") {
                    notes.push(line.clone());
                }
                again += u64::from(heed(line, place));
            }
            served &= again >= SERVED;
            running.kill();
            running.end(|line| {
                heed(line, place);
            });
        }
        Trouble::ReadOnly => {
            // Its store fails and it ends; or it waits for good, and is ended after `child::PATIENCE`.
            let status = running.end(|line| {
                heed(line, place);
            });
            if !status.code().is_some_and(|code| STORE_FAILED.contains(&code)) {
                served = false;
                notes.push(format!("it ended with {status} on a disk that cannot be written"));
            }
            // Nor does it start there, and says so.
            let mut refused = false;
            start_load(&Load::new(plan, &place.dir(), round + 1_000_000), &environment, place).end(|line| {
                totals.unbacked += u64::from(line.starts_with("a "));
                refused |= line.starts_with("error ") || line.starts_with("failed ");
            });
            if !refused {
                served = false;
                notes.push("a start on a disk that cannot be written says nothing".to_owned());
            }
            fs::remove_file(&mark).unwrap();
        }
    }
    let found = verify(plan, &place.dir(), &place.ledger, chance.percent(50), place);
    totals.lost += found.lost + found.named;
    totals.torn += found.torn;
    totals.unopened += u64::from(found.error.is_some());
    notes.extend(found.error);
    notes.extend(found.notes);
    let mut running = start_load(&Load::new(plan, &place.dir(), round + 2_000_000), &[], place);
    let mut after = 0;
    while after < SERVED {
        let Some(line) = running.next() else { break };
        after += u64::from(line.starts_with("a "));
    }
    running.kill();
    running.end(drop);
    totals.served += u64::from(served && after >= SERVED);
    notes
}
