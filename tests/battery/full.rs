//! Full: a small file system fills up. What was acknowledged stays, what is refused is told so, and the store serves
//! again once there is space: by itself when its reserve was kept, after a restart when the disk itself was full.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::child::{Load, Place, start_load, verify};
use crate::{Plan, Verdict};

/// What lies on the disk beside the store, and goes when space is to return: more than the store may get, since an open
/// after a crash copies it first.
const BALLAST_BYTES: usize = 360 * 1024 * 1024;
/// Refusals after which the ballast goes.
const REFUSALS: u64 = 8;
/// What is acknowledged after that, to call it served.
const SERVED: u64 = 10;

pub(crate) fn run(plan: Plan, small_disk: &Path) -> Verdict {
    let (mut acked, mut refused, mut lost, mut torn, mut unopened, mut served) = (0, 0, 0, 0, 0, 0);
    for round in plan.from..plan.from + plan.rounds {
        let dir = small_disk.join("home");
        let _none_yet = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let ballast = lay(small_disk);
        // Every other round nothing is kept free, and the engine meets the end of the disk itself.
        let kept_free = round % 2 == 0;
        let load =
            Load { reserve_percent: if kept_free { 10 } else { 0 }, heavy: true, ..Load::new(plan, &dir, round) };
        let mut place = Place::new();
        let before = (lost, torn, unopened, served);
        let mut notes = Vec::new();
        let mut running = start_load(&load, &[], &place);
        let (mut refusals, mut again) = (0, 0_u64);
        while let Some(line) = running.next() {
            refusals += u64::from(line == "full");
            if line.starts_with("a ") {
                acked += 1;
                again += u64::from(!ballast.exists());
            }
            if line.starts_with("error ") || line.starts_with("failed ") {
                notes.push(line.clone());
            }
            place.ledger.push_str(&line);
            place.ledger.push('\n');
            if refusals >= REFUSALS && ballast.exists() {
                fs::remove_file(&ballast).unwrap();
            }
            if again >= SERVED {
                running.kill();
                break;
            }
        }
        running.end(|line| {
            acked += u64::from(line.starts_with("a "));
            place.ledger.push_str(&line);
            place.ledger.push('\n');
        });
        refused += refusals;
        if kept_free && (again < SERVED || refusals == 0) {
            notes.push(format!("{refusals} refusals, {again} acknowledged once space was back"));
        }
        let _gone_already = fs::remove_file(&ballast);
        let found = verify(plan, &dir, &place.ledger, true, &place);
        lost += found.lost + found.named;
        torn += found.torn;
        unopened += u64::from(found.error.is_some());
        notes.extend(found.error);
        notes.extend(found.notes);
        // A restart with space serves.
        let mut running = start_load(&Load::new(plan, &dir, round + 1_000_000), &[], &place);
        let mut after = 0;
        while let Some(line) = running.next() {
            after += u64::from(line.starts_with("a "));
            if after >= SERVED {
                running.kill();
                break;
            }
        }
        running.end(|_| {});
        served += u64::from(after >= SERVED && (!kept_free || again >= SERVED));
        if (lost, torn, unopened) != (before.0, before.1, before.2) || served == before.3 {
            let noise = fs::read_to_string(place.beside("noise")).unwrap_or_default();
            eprintln!("round {round}, reserve {}: {notes:?}\n{noise}", if kept_free { "kept" } else { "off" });
        }
    }
    let rounds = plan.rounds;
    Verdict {
        counts: vec![
            ("rounds", rounds),
            ("acked", acked),
            ("refused", refused),
            ("lost", lost),
            ("torn", torn),
            ("unopened", unopened),
            ("served", served),
        ],
        kept: lost + torn + unopened == 0 && served == rounds && acked > 0,
        seconds: 0,
    }
}

fn lay(small_disk: &Path) -> PathBuf {
    let path = small_disk.join("ballast");
    let mut file = fs::File::create(&path).unwrap();
    let block = vec![0x5a; 1 << 20];
    for _ in 0..BALLAST_BYTES / block.len() {
        file.write_all(&block).unwrap();
    }
    path
}
