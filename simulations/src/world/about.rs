//! About: what people do about messages that are there, and the comparison of what becomes of them.
//! Owns: who edits, takes back or signs what, by the seed; also what they may not: a person tries it, and their node must
//! not let it happen to anybody else's text.
//! Never: tells the judge what a node thinks, but for the comparison of screens, once everything has healed.

use std::collections::BTreeMap;

use whimbrel_node::api::Command;
use whimbrel_node::views::{self, Page};
use whimbrel_protocol::id::{AccountId, DeviceId, MessageId, ThreadId};
use whimbrel_protocol::message::Target;

use super::people::{Asked, text};
use super::{HISTORY_MAX, NodeProcess, World};
use crate::net::ProcessNo;

/// Messages a person looks back at.
const BACK: usize = 16;
/// The signs people use.
const SIGNS: [&str; 3] = ["+", "-", "?"];

/// How a message looks on a screen.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Look {
    text: String,
    edited: bool,
    unsent: bool,
    signs: Vec<(AccountId, String)>,
}

impl World {
    /// Somebody who has just written into a thread looks back, and may change something.
    pub(super) fn reconsider(&mut self, who: ProcessNo, thread: ThreadId) {
        if !self.is_awake(who) {
            return;
        }
        let Some(person) = self.person_mut(who) else { return };
        let what = person.afterthoughts.below(100);
        let (pick, sign) = (person.afterthoughts.bits() as usize, person.afterthoughts.bits() as usize);
        if what >= 30 {
            return;
        }
        let Some(node) = self.node(who) else { return };
        let account = node.account;
        let lines = node.reads().and_then(|reads| views::messages(reads, &thread, Page::Newest, BACK).ok());
        let own = !(12..26).contains(&what);
        let fits = |line: &views::Line| {
            let mine = line.message.author.account == account;
            let known = self.ledger.is_named(&line.message.message);
            known && !line.message.unsent && ((18..26).contains(&what) || mine == own)
        };
        let lines: Vec<_> = lines.unwrap_or_default().into_iter().filter(fits).collect();
        let Some(line) = pick.checked_rem(lines.len()).and_then(|at| lines.get(at)) else { return };
        let of = Target { message: line.message.message, author: line.message.author };
        let new = |world: &mut Self| {
            world.spoken += 1;
            text(world.ledger.canaries().mark(), world.spoken, 40)
        };
        let command = match what {
            0..12 => {
                let text = new(self);
                self.ledger.edits(&of.message, text.clone());
                Command::Edit { of, text }
            }
            // What is another's is not theirs to change.
            12..15 => Command::Edit { of, text: new(self) },
            15..18 => Command::Unsend { of },
            18..26 => {
                let sign = SIGNS.get(sign % SIGNS.len()).copied().unwrap_or_default().to_owned();
                Command::React { to: of, sign, stands: pick % 4 != 0 }
            }
            _ => {
                self.ledger.takes_back(&of.message);
                Command::Unsend { of }
            }
        };
        self.command(who, command, Asked::About);
    }

    /// Once all has healed: a message looks the same on every screen it is on. Groups that change are left out: who came
    /// later has not heard what was said before.
    pub(super) fn compare_screens(&mut self) {
        let mut looks: BTreeMap<(MessageId, DeviceId), Vec<(ProcessNo, Look)>> = BTreeMap::new();
        for who in self.nodes.iter().copied().chain(self.linked_seconds()) {
            let Some(reads) = self.node(who).and_then(NodeProcess::reads) else { continue };
            let threads = views::threads(reads).unwrap_or_default();
            for thread in threads.into_iter().filter(|thread| thread.founder.is_none()) {
                let lines = views::messages(reads, &thread.thread, Page::Oldest, HISTORY_MAX).unwrap_or_default();
                for line in lines {
                    let signs = line.reactions;
                    let views::Line { message, edited, .. } = views::Line { reactions: Vec::new(), ..line };
                    let look = Look { text: message.text, edited, unsent: message.unsent, signs };
                    looks.entry((message.message, message.author)).or_default().push((who, look));
                }
            }
        }
        for ((message, _), screens) in looks {
            let Some((_, first)) = screens.first() else { continue };
            if let Some((of, _)) = screens.iter().find(|(_, look)| look != first) {
                self.ledger.diverged(&message, *of);
            }
        }
    }
}
