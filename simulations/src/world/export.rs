//! Export: people who ask for everything their relay keeps of them.
//! Owns: who asks, by the seed; the parts as they come; what the relay keeps, read from its rows.
//! Never: reads those rows as the relay does for an export: it looks at every row there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_node::api::{Command, Reply};
use whimbrel_protocol::id::AccountId;
use whimbrel_relay::store::kv;
use whimbrel_storage::{Order, Reads, StorageError};

use super::people::{AGAIN, Asked};
use super::{Event, Process, World};
use crate::engine::Entity;
use crate::net::ProcessNo;
use crate::scenario::Friends;

/// All who ask do so within this time.
const ASKING: Duration = Duration::from_secs(20);
/// By when they have everything.
const GIVEN: Duration = Duration::from_secs(300);
/// Rows looked at once.
const PAGE: usize = 1_024;
/// An account's id in a row's key.
const ID_BYTES: usize = 32;

/// What a row is called, and the part of its key behind whom it is about; and its value.
type Rows = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// Somebody asks for their data.
#[derive(Debug, Default)]
pub(super) struct Export {
    who: ProcessNo,
    /// What was there when they began to ask, as far as it was there ever since.
    steady: Option<Rows>,
    /// Every value that every row had at any moment since.
    seen: BTreeMap<(String, Vec<u8>), BTreeSet<Vec<u8>>>,
    /// What came.
    rows: Rows,
    /// Where the next part begins.
    after: Vec<u8>,
    waits: bool,
    done: bool,
    /// A row came twice.
    twice: bool,
}

impl Export {
    /// What the relay keeps at this moment.
    fn note(&mut self, rows: Rows) {
        for (key, value) in &rows {
            let seen = self.seen.entry(key.clone()).or_default();
            if !seen.contains(value) {
                seen.insert(value.clone());
            }
        }
        match &mut self.steady {
            Some(steady) => steady.retain(|key, value| rows.get(key) == Some(value)),
            None => self.steady = Some(rows),
        }
    }

    /// How many rows are missing, and how many should not be there, of what came. What came, went or changed meanwhile may
    /// be given or not; if it is, as it was at some moment.
    fn wrong(&self) -> (usize, usize) {
        let steady = self.steady.iter().flatten();
        let missing = steady.filter(|(key, value)| self.rows.get(*key) != Some(*value)).count();
        let was = |key, value| self.seen.get(key).is_some_and(|seen| seen.contains(value));
        let beyond = self.rows.iter().filter(|(key, value)| !was(*key, *value)).count() + usize::from(self.twice);
        (missing, beyond)
    }
}

impl World {
    /// Draws who asks.
    pub(super) fn exporters(&mut self, people: &[ProcessNo], friends: &Friends) {
        let mut stream = self.seed.stream(Entity::World, "exports");
        let ask = people.iter().copied().filter(|_| stream.happens(friends.exports.0));
        self.exports = ask.map(|who| Export { who, ..Export::default() }).collect();
    }

    /// Everybody who means to asks, while one of their relays dies and comes back; what they were given is what it keeps.
    pub(super) fn export_accounts(&mut self) {
        let mut stream = self.seed.stream(Entity::World, "how exports go");
        for number in 0..self.exports.len() {
            let wait = stream.between(Duration::ZERO, ASKING);
            self.engine.after(wait, Event::Export { export: number });
        }
        let homes = self.exports.iter().filter_map(|export| self.node(export.who)).map(|node| node.home);
        let homes: Vec<_> = homes.collect();
        if let (Some(home), true) = (stream.pick(&homes).copied(), stream.happens(0.5)) {
            let wait = stream.between(Duration::ZERO, ASKING);
            self.engine.after(wait, Event::Die { process: home });
        }
        if self.exports.is_empty() {
            return;
        }
        self.run_for(ASKING + GIVEN);
        for export in std::mem::take(&mut self.exports) {
            // Whoever lies about a log lies about what it keeps.
            if !self.ledger.is_honest(export.who) {
                continue;
            }
            if !export.done {
                self.ledger.ungiven(export.who);
                continue;
            }
            let (missing, beyond) = export.wrong();
            if missing + beyond > 0 {
                self.ledger.misgiven(export.who, missing, beyond);
            }
        }
    }

    /// What a relay that runs keeps of somebody.
    fn kept(&mut self, home: ProcessNo, account: AccountId) -> Option<Rows> {
        let Some(Process::Relay(process)) = self.processes.get(home as usize) else { return None };
        match kept(process.reads()?, account) {
            Ok(kept) => Some(kept),
            Err(error) => {
                self.ledger.stopped(home, error.to_string());
                None
            }
        }
    }

    /// The rows of a relay may have changed, by a batch that was applied or by what a crash left: what is there now is
    /// noted for those who are being given it.
    pub(super) fn note_kept(&mut self, relay: ProcessNo) {
        for number in 0..self.exports.len() {
            let Some(export) = self.exports.get(number).filter(|export| export.steady.is_some() && !export.done) else {
                continue;
            };
            let home = self.node(export.who).map(|node| (node.account, node.home));
            let Some((account, _)) = home.filter(|(_, home)| *home == relay) else { continue };
            let Some(rows) = self.kept(relay, account) else { continue };
            if let Some(export) = self.exports.get_mut(number) {
                export.note(rows);
            }
        }
    }

    /// Somebody asks for the next part.
    pub(super) fn export(&mut self, number: usize) {
        let Some(Export { who, after, waits, done, .. }) = self.exports.get(number) else { return };
        let (who, after) = (*who, after.clone());
        if *waits || *done {
            return;
        }
        if !self.is_awake(who) {
            return self.engine.after(AGAIN, Event::Export { export: number });
        }
        if self.exports.get(number).is_some_and(|export| export.steady.is_none()) {
            let Some((account, home)) = self.node(who).map(|node| (node.account, node.home)) else { return };
            let Some(rows) = self.kept(home, account) else {
                return self.engine.after(AGAIN, Event::Export { export: number });
            };
            if let Some(export) = self.exports.get_mut(number) {
                export.note(rows);
            }
        }
        if let Some(export) = self.exports.get_mut(number) {
            export.waits = true;
        }
        self.command(who, Command::Export { after }, Asked::Export(number));
    }

    /// A part came, or nothing did.
    pub(super) fn exported(&mut self, number: usize, reply: Option<Reply>) {
        let Some(export) = self.exports.get_mut(number) else { return };
        export.waits = false;
        let wait = match reply {
            Some(Reply::Exported { rows, next }) => {
                for row in rows {
                    export.twice |= export.rows.insert((row.kind, row.key), row.value).is_some();
                }
                export.done = next.is_none();
                self.struck.exports += u64::from(export.done);
                export.after = next.unwrap_or_default();
                Duration::ZERO
            }
            _ => AGAIN,
        };
        if !export.done {
            self.engine.after(wait, Event::Export { export: number });
        }
    }
}

/// Every row of a relay whose key names an account first, but for its devices' KeyPackages, which it puts there for others
/// to take; and the entries of its inbox.
fn kept(reads: &dyn Reads, account: AccountId) -> Result<Rows, StorageError> {
    let inbox = kv::account(reads, account)?.map(|account| account.inbox);
    let (mut from, mut kept) = (Vec::new(), Rows::new());
    loop {
        let page = reads.scan(&from, &[u8::MAX; 2 * ID_BYTES], Order::Ascending, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(kept) };
        from.clone_from(last);
        from.push(0);
        for (key, value) in page {
            let Some((space, rest)) = key.split_first() else { continue };
            let kind = kv::space_name(*space);
            let owner = rest.strip_prefix(account.as_bytes().as_slice()).filter(|_| !kind.contains("KeyPackage"));
            let entry = inbox.as_ref().and_then(|inbox| rest.strip_prefix(inbox.as_bytes().as_slice()));
            if let Some(rest) = owner.or(entry.filter(|_| kind == "entries")) {
                kept.insert((kind.to_owned(), rest.to_vec()), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(u8, u8)]) -> Rows {
        rows.iter().map(|(key, value)| (("rows".to_owned(), vec![*key]), vec![*value])).collect()
    }

    fn wrong(moments: &[&[(u8, u8)]], given: &[(u8, u8)]) -> (usize, usize) {
        let mut export = Export { rows: rows(given), ..Export::default() };
        moments.iter().for_each(|moment| export.note(rows(moment)));
        export.wrong()
    }

    #[test]
    fn what_was_there_all_along_must_be_given_and_nothing_that_was_there_at_no_moment() {
        assert_eq!(wrong(&[&[(1, 1), (2, 2)]], &[(1, 1), (2, 2)]), (0, 0));
        assert_eq!(wrong(&[&[(1, 1), (2, 2)], &[(1, 1), (2, 2), (3, 3)]], &[(1, 1)]), (1, 0));
        assert_eq!(wrong(&[&[(1, 1)]], &[(1, 1), (2, 2)]), (0, 1));
        assert_eq!(wrong(&[&[(1, 1)]], &[(1, 9)]), (1, 1), "another value");
        // It came and went, and its values changed there and back: it may be given or not, as it was.
        let moments: [&[(u8, u8)]; 3] = [&[(1, 1)], &[(1, 2), (2, 2)], &[(1, 1)]];
        for given in [&[(1, 1)][..], &[(1, 2), (2, 2)], &[]] {
            assert_eq!(wrong(&moments, given), (0, 0), "{given:?}");
        }
        assert_eq!(wrong(&moments, &[(1, 3), (2, 3)]), (0, 2));
    }
}
