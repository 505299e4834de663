//! Check: whether the rows fit together, beyond each being as it was written.
//! Owns: the counts that rows keep of other rows, and the rows that others name. Never: changes a row.
//! Limits: [`PROBLEMS_NAMED_MAX`].

use whimbrel_crypto::{transparency, tree};
use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::id::{AccountId, BlobId, DeviceId, Epoch, ThreadId, TreeHash};
use whimbrel_protocol::limits;
use whimbrel_protocol::push::LogRef;
use whimbrel_storage::{Order, Reads, StorageError};

use super::rows::{
    self, CursorRow, EntryRow, EpochRow, FriendRow, Home, LeafRow, LogRow, Member, OwnRow, OwnerRow, PublicRow,
    StockRow, ThreadMeta, space,
};
use crate::store::{Account, MailboxId, Pin, PinnedBy};

/// How many problems are named; the check goes on and counts.
const PROBLEMS_NAMED_MAX: usize = 64;
/// Rows read at once.
const PAGE: usize = 64;

/// What does not fit.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Problems {
    /// The first of them, each in a sentence.
    pub named: Vec<String>,
    /// How many there are.
    pub count: u64,
}

impl Problems {
    fn note(&mut self, key: &[u8], what: &str) {
        self.count += 1;
        if self.named.len() < PROBLEMS_NAMED_MAX {
            let first = key.first().copied().unwrap_or(0);
            let id: String = key.iter().skip(1).take(8).map(|byte| format!("{byte:02x}")).collect();
            self.named.push(format!("{} {id}: {what}", super::space_name(first)));
        }
    }

    fn expect(&mut self, key: &[u8], what: &str, counted: u64, found: u64) {
        if counted != found {
            self.note(key, &format!("{counted} {what} counted, {found} there"));
        }
    }
}

/// Reads every row that keeps a count or names another, and compares. Rows of an older version are held against what that
/// one kept.
///
/// # Errors
/// The engine failed. A damaged row is a problem, not an error.
pub fn check(reads: &dyn Reads, version: u32) -> Result<Problems, StorageError> {
    let mut check = Check { reads, problems: Problems::default(), names: Named::default() };
    check.accounts()?;
    check.owners()?;
    check.stocks()?;
    check.threads()?;
    check.logs()?;
    check.cursors()?;
    check.queues()?;
    check.members()?;
    check.commits()?;
    check.tails()?;
    check.tags()?;
    check.friends()?;
    check.pins()?;
    if version >= 3 {
        check.bodies()?;
    }
    if version >= 4 {
        check.tree()?;
    }
    Ok(check.problems)
}

struct Check<'r> {
    reads: &'r dyn Reads,
    problems: Problems,
    names: Named,
}

impl Check<'_> {
    /// Shows `visit` every row of a space. What is damaged is noted, and the rest of its page passed over.
    fn each(
        &mut self,
        prefix: &[u8],
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<(), StorageError>,
    ) -> Result<u64, StorageError> {
        let (mut from, to, mut count) = (prefix.to_vec(), rows::end(prefix), 0);
        loop {
            let page = match self.reads.scan(&from, &to, Order::Ascending, PAGE) {
                Ok(page) => page,
                Err(StorageError::Damaged { what, .. }) => {
                    self.problems.note(&from, &format!("cannot be read from here on: {what}"));
                    return Ok(count);
                }
                Err(error) => return Err(error),
            };
            let full = page.len() == PAGE;
            for (key, value) in page {
                count += 1;
                match visit(self, &key, &value) {
                    Err(StorageError::Damaged { what, .. }) => self.problems.note(&key, &what),
                    other => other?,
                }
                from = rows::after(&key);
            }
            if !full {
                return Ok(count);
            }
        }
    }

    fn count(&mut self, prefix: &[u8]) -> Result<u64, StorageError> {
        self.each(prefix, |_, _, _| Ok(()))
    }

    fn there(&self, key: &[u8]) -> Result<bool, StorageError> {
        Ok(self.reads.get(key)?.is_some())
    }

    fn accounts(&mut self) -> Result<(), StorageError> {
        self.each(&[space::ACCOUNT], |check, key, value| {
            let account: Account = rows::read(key, value)?;
            let holder = check.reads.get(&rows::name(&account.name))?;
            if !holder.is_some_and(|holder| holder.ends_with(key.get(1..).unwrap_or_default())) {
                check.problems.note(key, "its name is not its own");
            }
            for (needed, what) in [
                (beside(space::ACCOUNT_LOG, key), "its log is missing"),
                (rows::log(account.inbox), "its inbox is missing"),
            ] {
                if !check.there(&needed)? {
                    check.problems.note(key, what);
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Every node above the leaves is made of the two below it, every leaf is there, and every account's newest is its own.
    fn tree(&mut self) -> Result<(), StorageError> {
        let size = super::tree::size(self.reads)?;
        let nodes = self.each(&[space::TREE_NODE], |check, key, value| {
            let place: [u8; 9] = rows::rest(key, 1)?;
            let (level, index) = place.split_first().ok_or_else(|| rows::damaged(key, "no place"))?;
            let index = index.try_into().map(u64::from_be_bytes).map_err(|_| rows::damaged(key, "no place"))?;
            let hash = TreeHash::try_from(value).map_err(|_| rows::damaged(key, "no tree hash"))?;
            let Some(below) = level.checked_sub(1) else {
                if index >= size {
                    check.problems.note(key, "a leaf beyond the tree's size");
                }
                return Ok(());
            };
            let child = |index: u64| -> Result<Option<TreeHash>, StorageError> {
                let found = check.reads.get(&rows::tree_node(below, index))?;
                Ok(found.and_then(|found| TreeHash::try_from(found.as_slice()).ok()))
            };
            let left = index.saturating_mul(2);
            let made = child(left)?.zip(child(left.saturating_add(1))?).map(|(left, right)| tree::join(&left, &right));
            if made != Some(hash) {
                check.problems.note(key, "a node that is not made of those below it");
            }
            Ok(())
        })?;
        // Each leaf, and each node above whose leaves are all there (RFC 9162 §2.1).
        let all = size.saturating_mul(2).saturating_sub(size.count_ones().into());
        self.problems.expect(&[space::TREE_SIZE], "nodes", all, nodes);
        self.each(&[space::ACCOUNT], |check, key, value| {
            let account: Account = rows::read(key, value)?;
            let id = AccountId::from_bytes(rows::rest(key, 1)?);
            let leaf: Option<LeafRow> = rows::get(check.reads, &beside(space::LEAF, key))?;
            let Some(leaf) = leaf.filter(|leaf| (leaf.seq, leaf.hash) == (account.log_seq, account.log_hash)) else {
                check.problems.note(key, "the newest entry of its log is no leaf of the tree");
                return Ok(());
            };
            let salt = transparency::salt(account.inbox.as_bytes());
            let hash = transparency::leaf(&salt, &id, leaf.seq, &leaf.hash);
            if check.reads.get(&rows::tree_node(0, leaf.index))?.as_deref() != Some(hash.as_bytes().as_slice()) {
                check.problems.note(key, "its leaf says something else");
            }
            Ok(())
        })?;
        Ok(())
    }

    fn owners(&mut self) -> Result<(), StorageError> {
        let (mut threads, mut invites) = (0, 0);
        self.each(&[space::OWNER], |check, key, value| {
            let row: OwnerRow = rows::read(key, value)?;
            threads += u64::from(row.threads);
            invites += u64::from(row.invites);
            let found = check.count(&beside(space::ROW, key))?;
            check.problems.expect(key, "threads", row.threads.into(), found);
            let found = check.count(&beside(space::INVITE, key))?;
            check.problems.expect(key, "invites", row.invites.into(), found);
            let found = check.count(&beside(space::PARTED, key))?;
            check.problems.expect(key, "people parted with", row.parted.into(), found);
            Ok(())
        })?;
        self.total(space::ROW, "thread rows", threads)?;
        self.total(space::INVITE, "invites", invites)
    }

    fn stocks(&mut self) -> Result<(), StorageError> {
        let mut packages = 0;
        self.each(&[space::STOCK], |check, key, value| {
            let left = u64::from(rows::read::<StockRow>(key, value)?.left());
            packages += left;
            let found = check.count(&beside(space::PACKAGE, key))?;
            check.problems.expect(key, "KeyPackages", left, found);
            Ok(())
        })?;
        self.total(space::PACKAGE, "KeyPackages", packages)
    }

    fn threads(&mut self) -> Result<(), StorageError> {
        self.each(&[space::THREAD], |check, key, value| {
            let thread: ThreadMeta = rows::read(key, value)?;
            if !check.there(&rows::log(thread.log))? {
                check.problems.note(key, "its log is missing");
            }
            Ok(())
        })?;
        Ok(())
    }

    fn logs(&mut self) -> Result<(), StorageError> {
        let mut entries = 0;
        self.each(&[space::LOG], |check, key, value| {
            let log: LogRow = rows::read(key, value)?;
            entries += log.entries();
            let mut last = None;
            let inbox = log.which == LogRef::Inbox;
            let found = check.each(&beside(space::ENTRY, key), |check, key, value| {
                let entry: EntryRow = rows::read(key, value)?;
                last = Some((rows::sequence_of(key)?, entry.total));
                if inbox {
                    check.names(key, value)?;
                }
                Ok(())
            })?;
            check.problems.expect(key, "entries", log.entries(), found);
            if last.is_some_and(|(sequence, total)| {
                (sequence, total.bytes, total.messages) != (log.head, log.total.bytes, log.total.messages)
            }) {
                check.problems.note(key, "its head does not fit its last entry");
            }
            Ok(())
        })?;
        self.total(space::ENTRY, "entries", entries)
    }

    /// What is named is there and counted, each as often as it is named. The counts are compared in sums, so that
    /// nothing is kept of a store of any size: of rows, and of rows by the body's id.
    fn bodies(&mut self) -> Result<(), StorageError> {
        let mut named = Named::default();
        self.each(&[space::NAMED], |check, key, value| {
            let blob = BlobId::from_bytes(rows::rest(key, 1)?);
            named.add(blob, rows::read(key, value)?);
            if !check.there(&rows::blob(blob))? {
                check.problems.note(key, "counted, and not there");
            }
            Ok(())
        })?;
        let names = self.names;
        self.problems.expect(&[space::NAMED], "names of bodies", named.count, names.count);
        if named.count == names.count && named.sum != names.sum {
            self.problems.note(&[space::NAMED], "bodies are counted that others than the counted rows name");
        }
        Ok(())
    }

    /// Remembers what an entry or a row for a peer names, which must be there.
    fn names(&mut self, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        let Some(invitation) = rows::invitation(key, value)? else { return Ok(()) };
        for blob in [invitation.welcome, invitation.tree] {
            self.names.add(blob, 1);
            if !self.there(&rows::blob(blob))? {
                self.problems.note(key, "the body of an invitation is missing");
            }
        }
        Ok(())
    }

    fn cursors(&mut self) -> Result<(), StorageError> {
        self.each(&[space::CURSOR], |check, key, value| {
            let cursor: CursorRow = rows::read(key, value)?;
            let log = [&[space::LOG], key.get(17..).unwrap_or_default()].concat();
            match rows::get::<LogRow>(check.reads, &log)? {
                None => check.problems.note(key, "its log is missing"),
                Some(log) if cursor.upto > log.head => check.problems.note(key, "beyond the head of its log"),
                Some(_) => {}
            }
            Ok(())
        })?;
        Ok(())
    }

    fn queues(&mut self) -> Result<(), StorageError> {
        let mut waiting = 0;
        self.each(&[space::WAITING], |check, key, value| {
            let counted: u64 = rows::read(key, value)?;
            waiting += counted;
            let found = check.each(&beside(space::OUTBOUND, key), Self::names)?;
            check.problems.expect(key, "outbound rows", counted, found);
            Ok(())
        })?;
        self.total(space::OUTBOUND, "outbound rows", waiting)
    }

    /// A commit is kept as long as its epoch's end is, of a log that is there.
    fn commits(&mut self) -> Result<(), StorageError> {
        let ends = self.each(&[space::EPOCH], |check, key, value| {
            rows::read::<EpochRow>(key, value)?;
            if !check.there(&beside(space::COMMIT, key))? {
                check.problems.note(key, "its commit is missing");
            }
            let log = key.get(1..17).unwrap_or_default();
            if !check.there(&[&[space::LOG], log].concat())? {
                check.problems.note(key, "its log is missing");
            }
            Ok(())
        })?;
        self.total(space::COMMIT, "commits", ends)?;
        self.publics()
    }

    /// A hub has a public state of every thread it says so of, of the epoch it says, and every commit since.
    fn publics(&mut self) -> Result<(), StorageError> {
        let mut states = 0;
        self.each(&[space::THREAD], |check, key, value| {
            let meta: ThreadMeta = rows::read(key, value)?;
            let Some(mark) = meta.public else { return Ok(()) };
            states += 1;
            let state: Option<PublicRow> = rows::get(check.reads, &rows::public(meta.log))?;
            if state.is_none_or(|state| state.epoch != mark.epoch) {
                check.problems.note(key, "its public state is missing");
            }
            for epoch in mark.epoch.get()..meta.epoch.get() {
                if !check.there(&rows::of_epoch(space::COMMIT, meta.log, Epoch::new(epoch)))? {
                    check.problems.note(key, "a commit since its public state is missing");
                }
            }
            Ok(())
        })?;
        self.total(space::PUBLIC, "public states", states)
    }

    /// Whoever reads a log here does so as a device of an account here, with a cursor; whoever does not, at a relay that
    /// the thread knows.
    fn members(&mut self) -> Result<(), StorageError> {
        self.each(&[space::MEMBER], |check, key, value| {
            let (log, device) = key.get(1..).unwrap_or_default().split_at_checked(16).unwrap_or_default();
            let log_key = [&[space::LOG], log].concat();
            let Some(row) = rows::get::<LogRow>(check.reads, &log_key)? else {
                check.problems.note(key, "its log is missing");
                return Ok(());
            };
            let member: Member = rows::read(key, value)?;
            match member.home {
                Home::Here(mailbox) => {
                    if !check.is_mailbox_of(mailbox, device)? {
                        check.problems.note(key, "its mailbox is not that of a device here");
                    }
                    if !check.there(&[&[space::CURSOR], mailbox.as_bytes().as_slice(), log].concat())? {
                        check.problems.note(key, "its cursor is missing");
                    }
                }
                Home::Peer(domain) => {
                    let thread = match row.which {
                        LogRef::Thread(thread) => rows::get::<ThreadMeta>(check.reads, &rows::thread(thread))?,
                        LogRef::Inbox => None,
                    };
                    let left = member.epochs.last.is_some();
                    match thread {
                        None => check.problems.note(key, "its thread is missing"),
                        Some(thread) if !left && !thread.others.contains(&domain) => {
                            check.problems.note(key, "its home is no relay of the thread");
                        }
                        Some(_) => {}
                    }
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Whether the account in a device's key has that device, with that mailbox.
    fn is_mailbox_of(&self, mailbox: MailboxId, device: &[u8]) -> Result<bool, StorageError> {
        let (account, _) = device.split_at_checked(32).unwrap_or_default();
        let Some(known) = self.account(account)? else { return Ok(false) };
        let Ok(account) = account.try_into().map(whimbrel_protocol::id::AccountId::from_bytes) else {
            return Ok(false);
        };
        Ok(known.devices.iter().any(|own| {
            let id = DeviceId { account, index: own.index };
            own.mailbox == mailbox && rows::of_device(space::STOCK, id).ends_with(device)
        }))
    }

    fn tails(&mut self) -> Result<(), StorageError> {
        let mut of_logs = 0;
        self.each(&[space::LOG], |check, key, value| {
            let (head, mut newest) = (rows::read::<LogRow>(key, value)?.head, None);
            let found = check.each(&beside(space::TAIL, key), |_, key, value| {
                rows::tail_id(key, value)?;
                newest = Some(rows::sequence_of(key)?);
                Ok(())
            })?;
            of_logs += found;
            if newest.is_some_and(|newest| newest > head) {
                check.problems.note(key, "an envelope id beyond its head");
            }
            if found > limits::LOG_IDS_REMEMBERED as u64 {
                check.problems.note(key, &format!("{found} envelope ids, and {} are kept", limits::LOG_IDS_REMEMBERED));
            }
            Ok(())
        })?;
        self.total(space::TAIL, "envelope ids", of_logs)
    }

    fn tags(&mut self) -> Result<(), StorageError> {
        self.each(&[space::TAG], |check, key, value| {
            let thread: ThreadId = rows::read(key, value)?;
            let owner = key.get(1..33).unwrap_or_default();
            if rows::get::<OwnRow>(check.reads, &[&[space::ROW], owner, thread.as_bytes()].concat())?.is_none() {
                check.problems.note(key, "names a thread that its owner has no row of");
            }
            Ok(())
        })?;
        Ok(())
    }

    fn friends(&mut self) -> Result<(), StorageError> {
        let (mut rows, mut asking) = (0_u64, 0_u64);
        self.each(&[space::OWNER], |check, key, value| {
            let counts: OwnerRow = rows::read(key, value)?;
            rows += u64::from(counts.friends);
            asking += u64::from(counts.asking);
            let found = check.count(&beside(space::FRIEND, key))?;
            check.problems.expect(key, "people in the list", counts.friends.into(), found);
            Ok(())
        })?;
        let mut found = 0_u64;
        self.each(&[space::FRIEND], |check, key, value| {
            let row: FriendRow = rows::read(key, value)?;
            found += u64::from(row.standing == Standing::Asking);
            if row.word.is_some() != (row.standing == Standing::Asking) {
                check.problems.note(key, "a request that is none, or none where there is one");
            }
            if check.account(key.get(1..33).unwrap_or_default())?.is_none() {
                check.problems.note(key, "of nobody here");
            }
            Ok(())
        })?;
        self.problems.expect(&[space::FRIEND], "requests", asking, found);
        self.total(space::FRIEND, "people in lists", rows)
    }

    /// An account that is here, or on its way out.
    fn account(&self, id: &[u8]) -> Result<Option<Account>, StorageError> {
        match rows::get(self.reads, &[&[space::ACCOUNT], id].concat())? {
            Some(account) => Ok(Some(account)),
            None => rows::get(self.reads, &[&[space::PURGE], id].concat()),
        }
    }

    fn pins(&mut self) -> Result<(), StorageError> {
        let mut by_links = 0;
        self.each(&[space::PIN], |_, key, value| {
            // Whoever vouched for it may have ended the account since.
            by_links += u64::from(rows::read::<Pin>(key, value)?.by != PinnedBy::Operator);
            Ok(())
        })?;
        let key = [space::LINKED];
        match rows::get::<u32>(self.reads, &key) {
            Ok(counted) => self.problems.expect(&key, "peers by links", counted.unwrap_or(0).into(), by_links),
            Err(StorageError::Damaged { what, .. }) => self.problems.note(&key, &what),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Compares all rows of a space with the sum of what is counted: a row that belongs to nobody shows here.
    fn total(&mut self, space: u8, what: &str, counted: u64) -> Result<(), StorageError> {
        let found = self.count(&[space])?;
        self.problems.expect(&[space], what, counted, found);
        Ok(())
    }
}

/// How often bodies are named, and a sum by which.
#[derive(Clone, Copy, Default)]
struct Named {
    count: u64,
    sum: u64,
}

impl Named {
    fn add(&mut self, blob: BlobId, times: u64) {
        let [a, b, c, d, e, f, g, h, ..] = *blob.as_bytes();
        self.count = self.count.saturating_add(times);
        self.sum = self.sum.wrapping_add(u64::from_le_bytes([a, b, c, d, e, f, g, h]).wrapping_mul(times));
    }
}

/// The prefix of the rows in another space that belong to the owner of this key.
fn beside(space: u8, key: &[u8]) -> Vec<u8> {
    [&[space], key.get(1..).unwrap_or_default()].concat()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use whimbrel_storage::{Batch, MemoryKv, OrderedKv};

    use super::super::SCHEMA;
    use super::*;
    use crate::store::contract;

    #[test]
    fn rows_that_fit_have_no_problem_and_each_that_is_taken_away_is_one() {
        let whole = || {
            let kv = std::sync::Arc::new(MemoryKv::in_memory().unwrap());
            contract::fill(&crate::store::KvStore::over(kv.clone()));
            kv
        };
        assert_eq!(check(&*whole(), SCHEMA.version).unwrap(), Problems::default());
        for key in [
            space::NAME,
            space::ACCOUNT_LOG,
            space::INVITE,
            space::PACKAGE,
            space::LOG,
            space::ENTRY,
            space::ROW,
            space::BLOB,
            space::OUTBOUND,
            space::WAITING,
            space::CURSOR,
            space::FRIEND,
            space::NAMED,
            space::TREE_NODE,
            space::TREE_SIZE,
            space::LEAF,
        ]
        .map(|space| rows::scan(&*whole(), &[space], 1).unwrap().remove(0).0)
        .into_iter()
        .chain([rows::tree_node(1, 0)])
        {
            let kv = whole();
            let space = key[0];
            let mut batch = Batch::new();
            batch.delete(key);
            kv.apply(&batch).unwrap();
            let problems = check(&*kv, SCHEMA.version).unwrap();
            assert!(
                problems.count > 0 && !problems.named.is_empty(),
                "{} {problems:?}",
                super::super::space_name(space)
            );
        }
    }

    #[test]
    fn a_row_that_names_what_is_not_there_is_a_problem_and_named() {
        use whimbrel_protocol::canonical;
        use whimbrel_protocol::id::{AccountId, Domain, Epoch, ParticipantsTag, RelayId, Sequence};

        use crate::store::{Epochs, LogId};

        let whole = || {
            let kv = std::sync::Arc::new(MemoryKv::in_memory().unwrap());
            contract::fill(&crate::store::KvStore::over(kv.clone()));
            kv
        };
        let first = |space| rows::scan(&*whole(), &[space], 1).unwrap().remove(0);
        let row_of = |space: u8| first(space).0;
        let nobody = AccountId::from_bytes([0xee; 32]);
        let peer: Domain = "unheard.example".parse().unwrap();
        let member = |home| canonical::encode(&Member::new(Epochs::since(Epoch::new(1)), home));
        let friend = FriendRow::new(peer.clone(), Standing::Friends, whimbrel_protocol::time::Wall::default());
        let asking = FriendRow { standing: Standing::Asking, ..friend.clone() };
        let pin = |by| Pin { relay: RelayId::from_bytes([1; 32]), endpoint: "b.example:1".to_owned(), by };
        // Any log with envelope ids, and so the log of a thread.
        let log = LogId::from_bytes(row_of(space::TAIL)[1..17].try_into().unwrap());
        let (_, cursor) = first(space::CURSOR);
        let owner = AccountId::from_bytes(row_of(space::ACCOUNT)[1..33].try_into().unwrap());
        let strange_mailbox = MailboxId::from_bytes([0xee; 16]);
        let of_log = |part: &[u8]| [&[space::MEMBER], log.as_bytes().as_slice(), part].concat();
        let member_here = rows::scan(&*whole(), &of_log(&[]), 99).unwrap();
        let is_here = |(key, value): &&(Vec<u8>, Vec<u8>)| {
            matches!(rows::read::<Member>(key, value).unwrap().home, Home::Here(_))
        };
        let here = member_here.iter().find(is_here).unwrap().0.clone();

        let cases: Vec<(&str, Vec<whimbrel_storage::Row>)> = vec![
            (
                "mailbox",
                vec![(here.clone(), member(Home::Here(strange_mailbox))), (rows::cursor(strange_mailbox, log), cursor)],
            ),
            ("cursor is missing", vec![(here.clone(), member(Home::Here(strange_mailbox)))]),
            ("no relay of the thread", vec![(here, member(Home::Peer(peer.clone())))]),
            (
                "its log is missing",
                vec![(
                    [&[space::MEMBER], [0xee; 16].as_slice(), &row_of(space::MEMBER)[17..]].concat(),
                    member(Home::Here(strange_mailbox)),
                )],
            ),
            ("beyond its head", vec![(rows::of_log(space::TAIL, log, Sequence::new(1 << 40)), vec![7; 32])]),
            (
                "envelope ids counted",
                vec![(rows::of_log(space::TAIL, LogId::from_bytes([0xee; 16]), Sequence::new(1)), vec![7; 32])],
            ),
            (
                "no row of",
                vec![(
                    rows::tag(owner, ParticipantsTag::from_bytes([0xee; 32])),
                    canonical::encode(&ThreadId::from_bytes([0xee; 32])),
                )],
            ),
            ("of nobody here", vec![(rows::friend(nobody, owner), canonical::encode(&friend))]),
            ("people in the list counted", vec![(rows::friend(owner, nobody), canonical::encode(&friend))]),
            ("a request that is none", vec![(rows::friend(owner, nobody), canonical::encode(&asking))]),
            (
                "0 peers by links counted, 1 there",
                vec![(rows::of_peer(space::PIN, &peer), canonical::encode(&pin(PinnedBy::Introduction(owner))))],
            ),
            ("3 peers by links counted, 0 there", vec![(vec![space::LINKED], canonical::encode(&3_u32))]),
        ];
        for (expected, put) in cases {
            let kv = whole();
            let mut batch = Batch::new();
            put.into_iter().for_each(|(key, value)| batch.put(key, value));
            kv.apply(&batch).unwrap();
            let problems = check(&*kv, SCHEMA.version).unwrap();
            assert!(problems.named.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
        }
        // A peer of the operator's choice is counted by nobody.
        let kv = whole();
        let mut batch = Batch::new();
        batch.put(rows::of_peer(space::PIN, &peer), canonical::encode(&pin(PinnedBy::Operator)));
        kv.apply(&batch).unwrap();
        assert_eq!(check(&*kv, SCHEMA.version).unwrap(), Problems::default());
    }

    #[test]
    fn every_space_that_has_rows_has_a_name() {
        let kv = std::sync::Arc::new(MemoryKv::in_memory().unwrap());
        contract::fill(&crate::store::KvStore::over(kv.clone()));
        let (mut from, mut spaces) = (Vec::new(), 0);
        while let Some((key, _)) = kv.scan(&from, &whimbrel_storage::KEY_END, Order::Ascending, 1).unwrap().pop() {
            let space = *key.first().unwrap();
            assert_ne!(super::super::space_name(space), "unknown", "space {space}");
            from = rows::end(&[space]);
            spaces += 1;
        }
        assert!(spaces > 15, "{spaces}");
        assert_ne!(super::super::space_name(space::LINKED), "unknown");
    }
}
