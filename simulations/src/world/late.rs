//! Late: what comes when everything else is done: exports, a message that waits for a month, and accounts that end.
//! Owns: who is away and for how long, who ends their account and when, by the seed; what relays may keep of them.
//! Never: before the rest of the run was judged. What is found here is of these two alone.

use std::collections::BTreeSet;
use std::time::Duration;

use whimbrel_node::api::Command;
use whimbrel_protocol::id::AccountId;
use whimbrel_protocol::limits;
use whimbrel_relay::store::kv;
use whimbrel_storage::{Order, Reads, StorageError};

use super::apart::Stage;
use super::people::{AGAIN, Asked, text};
use super::{Event, Meeting, Process, World};
use crate::engine::Entity;
use crate::net::ProcessNo;
use crate::scenario::Friends;

/// A relay finds out within this time that somebody is away.
const AWAY: Duration = Duration::from_secs(180);
/// A message is at its relay within this time.
const HANDED_IN: Duration = Duration::from_secs(60);
/// All who end their account do so within this time.
const ENDINGS: Duration = Duration::from_secs(60);
/// By when it is done, and by when the rows are gone: a relay looks once a minute.
const ENDED: Duration = Duration::from_secs(600);
/// Rows looked at once.
const PAGE: usize = 1_024;
/// What a relay calls its rows of who may not use somebody's open invites.
const PARTINGS: &str = "people parted with";
/// An account's id in a row's key.
const ID_BYTES: usize = 32;

/// Somebody ends their account.
#[derive(Debug)]
struct Ending {
    who: ProcessNo,
    stage: Stage,
}

/// What is to come.
#[derive(Debug, Default)]
pub(super) struct Late {
    pub(super) absence: Option<Duration>,
    pub(super) leavers: Vec<ProcessNo>,
    endings: Vec<Ending>,
    /// Who is kept from everything: whatever else was to bring them back comes to nothing.
    kept_away: BTreeSet<ProcessNo>,
    /// How long everybody but one relay slept.
    pub(super) slept: Duration,
}

impl Late {
    /// Somebody is kept away from now on.
    pub(super) fn keep_away(&mut self, who: ProcessNo) {
        self.kept_away.insert(who);
    }

    /// They are not any more.
    pub(super) fn let_go(&mut self, who: ProcessNo) {
        self.kept_away.remove(&who);
    }
}

impl World {
    /// Draws who ends their account, and sets who is away.
    pub(super) fn foresee(&mut self, people: &[ProcessNo], friends: &Friends) {
        let mut stream = self.seed.stream(Entity::World, "endings");
        let leavers = people.iter().copied().filter(|_| stream.happens(friends.deletions.0)).collect();
        let absence = friends.absence.map(|absence| absence.0);
        self.late = Late { absence, leavers, ..Late::default() };
    }

    /// Ends the run, after all that was owed has arrived.
    pub(super) fn come_late(&mut self, settle: Duration) {
        self.look_at_cards();
        self.call_phones(settle);
        self.export_accounts();
        if let Some(absence) = self.late.absence {
            self.wait_out(absence, settle);
        }
        self.end_accounts();
    }

    /// One of two friends of one relay is away for so long, and a message waits. Everybody else sleeps: there would be a
    /// month of heartbeats.
    fn wait_out(&mut self, absence: Duration, settle: Duration) {
        let met = |pair: &&super::Pair| matches!(pair.meeting, Meeting::Met);
        let pairs: Vec<_> = self.pairs.iter().filter(met).map(|pair| (pair.inviter, pair.accepter)).collect();
        let found = pairs.into_iter().find_map(|(alice, bob)| {
            // Whose node is down cannot be told anything, and will never answer.
            let home = self.honest_home(alice).filter(|_| self.is_awake(alice))?;
            let home = Some(home).filter(|home| self.honest_home(bob) == Some(*home))?;
            let parted = self.partings.iter().any(|parting| [parting.owner, parting.other].contains(&alice));
            let threads = self.person_of(alice).filter(|_| !parted).map(|person| &person.threads)?;
            let thread = threads.iter().find(|(other, _)| *other == bob).map(|(_, thread)| *thread)?;
            Some((alice, bob, home, thread))
        });
        let Some((alice, bob, home, thread)) = found else { return };
        self.disconnect(bob);
        self.late.kept_away.insert(bob);
        self.run_for(AWAY);
        self.spoken += 1;
        let text = text(self.ledger.canaries().mark(), self.spoken, 40);
        let said = self.write(alice, vec![bob], thread, text);
        self.run_for(HANDED_IN);
        if absence > limits::HOLD_AGE_MAX {
            self.ledger.outlives(said);
        }
        let others = |world: &Self| (0..world.processes.len() as ProcessNo).filter(move |no| *no != home);
        others(self).for_each(|no| self.stop(no));
        self.late.kept_away = others(self).collect();
        self.run_for(absence);
        self.late.kept_away.clear();
        self.late.slept = absence;
        others(self).for_each(|no| {
            self.reconnect(no);
            self.start(no);
        });
        let bound = self.engine.now().plus(settle);
        while self.engine.now() < bound && self.ledger.owes_anybody() {
            self.run_for(Duration::from_secs(1));
        }
    }

    /// Everybody who means to ends their account; for half of the relays that lose somebody so it comes with a crash.
    fn end_accounts(&mut self) {
        let mut stream = self.seed.stream(Entity::World, "how accounts end");
        for who in std::mem::take(&mut self.late.leavers) {
            let (wait, crashes, crash) =
                (stream.between(Duration::ZERO, ENDINGS), stream.happens(0.5), stream.between(Duration::ZERO, ENDINGS));
            let Some(home) = self.honest_home(who) else { continue };
            self.engine.after(wait, Event::End { ending: self.late.endings.len() });
            self.late.endings.push(Ending { who, stage: Stage::Meant });
            if crashes && self.late.endings.iter().filter(|one| self.home_of(one.who) == Some(home)).count() == 1 {
                self.engine.after(crash, Event::Die { process: home });
            }
        }
        if self.late.endings.is_empty() {
            return;
        }
        self.run_for(ENDINGS + ENDED);
        let ended: Vec<_> = self.late.endings.iter().map(|one| (one.who, one.stage == Stage::Done)).collect();
        for (who, done) in ended {
            if !done {
                self.ledger.unended(who);
                continue;
            }
            let Some((account, relay)) = self.node(who).map(|node| (node.account, node.home)) else { continue };
            let blocked: Vec<_> = self.everybody().filter(|(other, _)| self.ledger.blocks(*other, who)).collect();
            let keepers: Vec<_> = blocked.into_iter().map(|(_, account)| account).collect();
            let Some(Process::Relay(process)) = self.processes.get(relay as usize) else { continue };
            let Some(reads) = process.reads() else { continue };
            match rows_about(reads, account, &keepers) {
                Ok(0) => {}
                Ok(rows) => self.ledger.remains(relay, who, rows),
                Err(error) => self.ledger.stopped(relay, error.to_string()),
            }
        }
    }

    /// Somebody tells their node to end their account.
    pub(super) fn end_account(&mut self, number: usize) {
        let Some(Ending { who, stage }) = self.late.endings.get(number) else { return };
        let (who, stage) = (*who, *stage);
        if matches!(stage, Stage::Asked | Stage::Done) {
            return;
        }
        if !self.is_awake(who) {
            return self.engine.after(AGAIN, Event::End { ending: number });
        }
        if let Some(ending) = self.late.endings.get_mut(number) {
            ending.stage = Stage::Asked;
        }
        self.command(who, Command::DeleteAccount, Asked::End(number));
    }

    /// The node answered, or died.
    pub(super) fn account_ended(&mut self, number: usize, done: bool) {
        let Some(ending) = self.late.endings.get_mut(number) else { return };
        ending.stage = if done { Stage::Done } else { Stage::Begun };
        self.struck.endings += u64::from(done);
        if !done {
            self.engine.after(AGAIN, Event::End { ending: number });
        }
    }

    /// Whether somebody is kept from everything just now.
    pub(super) fn keeps_away(&self, who: ProcessNo) -> bool {
        self.late.kept_away.contains(&who)
    }

    /// Whether somebody ends their account, or did.
    pub(super) fn ends(&self, who: ProcessNo) -> bool {
        self.late.endings.iter().any(|one| one.who == who)
    }

    /// Whether anybody does.
    pub(super) const fn somebody_ends(&self) -> bool {
        !self.late.endings.is_empty()
    }

    fn home_of(&self, who: ProcessNo) -> Option<ProcessNo> {
        self.node(who).map(|node| node.home)
    }

    /// Where somebody lives, if neither they nor their relay was ever hostile.
    fn honest_home(&self, who: ProcessNo) -> Option<ProcessNo> {
        self.home_of(who).filter(|home| self.ledger.is_honest(who) && self.ledger.is_honest(*home))
    }

    fn everybody(&self) -> impl Iterator<Item = (ProcessNo, AccountId)> + '_ {
        self.nodes.iter().filter_map(|no| self.node(*no).map(|node| (*no, node.account)))
    }
}

/// Rows of a relay that are about an account: those it owns, and those of others about it. Who is in a thread stays
/// with the thread, whom somebody keeps away stays away (`keepers`), and who may not use open invites may not do so.
fn rows_about(reads: &dyn Reads, account: AccountId, keepers: &[AccountId]) -> Result<u64, StorageError> {
    let (mut from, mut found) = (Vec::new(), 0);
    loop {
        let page = reads.scan(&from, &[u8::MAX; 2 * ID_BYTES], Order::Ascending, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        from.clone_from(last);
        from.push(0);
        for (key, _) in page {
            let Some((owner, rest)) = key.get(1..).and_then(|key| key.split_at_checked(ID_BYTES)) else { continue };
            let parts = key.first().is_some_and(|space| kv::space_name(*space) == PARTINGS);
            let kept = parts || keepers.iter().any(|keeper| keeper.as_bytes() == owner);
            found += u64::from(owner == account.as_bytes() || (rest == account.as_bytes() && !kept));
        }
    }
}
