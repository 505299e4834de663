//! Export: people who ask for everything their relay keeps of them.
//! Owns: who asks, by the seed; the parts as they come; what the relay keeps, read from its rows.
//! Never: reads those rows as the relay does for an export: it looks at every row there is.

use std::collections::BTreeMap;
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
    /// What was there when they began to ask.
    began: Option<Rows>,
    /// What came.
    rows: Rows,
    /// Where the next part begins.
    after: Vec<u8>,
    waits: bool,
    done: bool,
    /// A row came twice.
    twice: bool,
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
            let Some((account, home)) = self.node(export.who).map(|node| (node.account, node.home)) else { continue };
            // Whoever lies about a log lies about what it keeps.
            if !self.ledger.is_honest(export.who) {
                continue;
            }
            if !export.done {
                self.ledger.ungiven(export.who);
                continue;
            }
            let (Some(began), Some(kept)) = (export.began, self.kept(home, account)) else { continue };
            // What came, went or changed meanwhile may be given or not.
            let whole = began.iter().filter(|(key, value)| kept.get(*key) == Some(*value));
            let missing = whole.filter(|(key, value)| export.rows.get(*key) != Some(*value)).count();
            let known = |key: &&(String, Vec<u8>)| began.contains_key(*key) || kept.contains_key(*key);
            let beyond = export.rows.keys().filter(|key| !known(key)).count() + usize::from(export.twice);
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
        if self.exports.get(number).is_some_and(|export| export.began.is_none()) {
            let Some((account, home)) = self.node(who).map(|node| (node.account, node.home)) else { return };
            let Some(rows) = self.kept(home, account) else {
                return self.engine.after(AGAIN, Event::Export { export: number });
            };
            if let Some(export) = self.exports.get_mut(number) {
                export.began = Some(rows);
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
