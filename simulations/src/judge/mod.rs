//! The judge: what ought to be shown, and whether it was.
//! Owns: the reference model (`ledger`) and its words (`verdict`), what relays said (`wire`), who
//! let whom reach and see them (`consent`), wake-ups, lists and rates (`services`), who can be blamed (`excuse`), the search for plain text (`canary`), and the list of promises with what a run can say of each.
//! Never: asks a node or a relay what it thinks. What it shares with the code it judges is the words of the protocol
//! (frames, ids) and a node's own view of its history, which is what people see.

pub mod canary;
mod circle;
pub mod consent;
mod excuse;
pub mod ledger;
mod services;
pub mod verdict;
mod wire;

use std::time::Duration;

use serde::Serialize;

use crate::faults::{Kind, Plan};

/// P6: the devices of a thread are in one place so long after everything has healed.
pub const CONVERGE: Duration = Duration::from_secs(60);
/// Longer than this a thread must not be apart once all has healed. A device that has just failed to call waits up to
/// `limits::RELAY_BACKOFF_MAX` before it calls again, a relay that found an inbox full `limits::FULL_RETRY_AFTER`, a dead link is
/// found within seconds of its own; each of the two comes once.
pub const CONVERGE_MAX: Duration = Duration::from_secs(180);

/// How far one of the promises of docs/threat-model.md is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Promise {
    /// Its name there.
    pub id: &'static str,
    /// Whether a run that breaks it is found out.
    pub checked: bool,
    /// How, or why not.
    pub how: &'static str,
}

/// What is known of the runs whose promises are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Threads were sealed with real cryptography.
    pub real: bool,
    /// A clock lied.
    pub clocks: bool,
    /// A run was repeated and compared.
    pub replayed: bool,
    /// The log lines of relays were listened to.
    pub listened: bool,
    /// Groups whose members change were made.
    pub circles: bool,
    /// Somebody ended that a friend reaches or sees them, or hid.
    pub apart: bool,
}

impl Seen {
    /// What one run adds to that: its faults, and what happened in it, by name.
    pub fn saw(&mut self, plan: &Plan, struck: &[(&'static str, u64)], lines_heard: u64) {
        self.listened |= lines_heard > 0;
        let happened = |what| struck.iter().any(|(kind, times)| *kind == what && *times > 0);
        self.circles |= happened("circles");
        self.apart |= happened("partings") || happened("hidings");
        self.clocks |= plan.faults.iter().any(|fault| matches!(fault.kind, Kind::Clock { .. }));
    }
}

const fn is(id: &'static str, checked: bool, how: &'static str) -> Promise {
    Promise { id, checked, how }
}

/// Every promise, with what these runs say of it.
pub const fn promises(seen: Seen) -> [Promise; 12] {
    [
        is(
            "P1",
            true,
            "what was acknowledged is shown to everybody it was said to, or its author is told; a receipt is for what stands there",
        ),
        is(
            "P2",
            true,
            "never twice, never under another author, text, thread or place; what its author alone changed looks the same everywhere in the end; no log has an envelope twice",
        ),
        is("P3", true, "its author is a device its account's owner added, of a person in the thread"),
        match (seen.real, seen.listened) {
            (true, true) => is("P4", true, "a mark in every text is in no relay's rows and in none of its log lines"),
            (true, false) => is("P4", true, "a mark in every text is in no relay's rows; log lines were not heard"),
            (false, true) => is("P4", true, "in log lines alone: the stand-in engine hides nothing in the rows"),
            (false, false) => is("P4", false, "the stand-in engine hides nothing, and log lines were not heard"),
        },
        is(
            "P5",
            true,
            "no thread and no contact with anybody one was not introduced to; what is said in a group that changes is shown to nobody its author did not take to be in it",
        ),
        is(
            "P6",
            true,
            match seen.circles {
                true => {
                    "within three minutes after all has healed (those of more than one are counted: converged_late) every device with a leaf in a thread is at its epoch, by the same commits and with the same members; nobody is in a group whose admin's node said that they are out; what was asked of a group is answered, and after all has healed each can be changed once more by its admin and by a member"
                }
                false => {
                    "within three minutes after all has healed (those of more than one are counted: converged_late) every device with a leaf in a thread is at its epoch, by the same commits and with the same members; no group whose members change was made"
                }
            },
        ),
        is("P7", true, "what was acknowledged or shown is there after every crash; a log's places keep their entries"),
        is(
            "P8",
            false,
            "bounds are for the tests that strike bytes and the system tests; a stop or a standstill is found all the same",
        ),
        is("P9", false, "there is no load to be fair under"),
        match seen.apart {
            true => is(
                "P10",
                true,
                "nobody reaches or sees whom they may not, from when it was said to be so; whoever may, does in the end; whoever is silent for minutes is shown no more; no node dials another whose owner, or its own, wants no direct links, or, from the device that was parted on, one that its owner has parted with; who else learns an address, and what relays learn of lists, is not judged",
            ),
            false => is("P10", false, "nobody ended or hid anything"),
        },
        match seen.clocks {
            true => {
                is("P11", true, "clocks drifted, jumped or lied, by a year at most; everything above held all the same")
            }
            false => is("P11", false, "no clock lied in these runs"),
        },
        match seen.replayed {
            true => is("P12", true, "runs were repeated, and their traces agreed"),
            false => is("P12", false, "no run was repeated"),
        },
    ]
}
