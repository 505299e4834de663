//! Schema: which version of the rows this program reads and writes, and what operators call their spaces.
//! Owns: the version, the steps from older ones. A change of a row's meaning raises the version and adds its step here.

use whimbrel_protocol::friendship::Standing;
use whimbrel_protocol::id::{AccountId, Domain};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Batch, Order, Overlay, Page, Reads, Row, Schema, Step, StorageError};

use super::rows::{self, FriendRow, Home, Member, ThreadMeta, space};
use super::{Fault, blobs, friends, tree};
use crate::store::Account;

/// The rows of a relay.
pub const SCHEMA: Schema = Schema {
    name: "relay",
    version: 4,
    steps: &[
        Step { from: 1, page: friends_and_gates },
        Step { from: 2, page: count_bodies },
        Step { from: 3, page: plant_tree },
    ],
};

/// Rows looked at in one page of a step.
const PAGE: usize = 256;
/// Inboxes and queues gone through in one page: what a full one names is counted in some 20,000 rows.
const OWNERS: usize = 16;

/// From 1 to 2: consent becomes a row of the owner's list, and a thread of two knows who lives here.
fn friends_and_gates(reads: &dyn Reads, from: &[u8]) -> Result<Page, StorageError> {
    let start = from.max([space::CONSENT].as_slice());
    let mut rows = Overlay::new(reads);
    let found = reads.scan(start, &rows::end(&[space::THREAD]), Order::Ascending, PAGE)?;
    let next = found.last().filter(|_| found.len() == PAGE).map(|(key, _)| rows::after(key));
    for row in found {
        match row.0.first().copied() {
            Some(space::CONSENT) => befriend(&mut rows, row)?,
            Some(space::THREAD) => set_gate(&mut rows, row)?,
            _ => {}
        }
    }
    let batch: Batch = rows.into_batch();
    Ok(Page { batch, next })
}

fn befriend(rows: &mut Overlay<'_>, (key, value): Row) -> Result<(), StorageError> {
    let ids: [u8; 64] = rows::rest(&key, 1)?;
    let account = |half: &[u8]| AccountId::try_from(half).map_err(|_| rows::damaged(&key, "no account"));
    let (owner, other) = ids.split_at(32);
    let (owner, other, home) = (account(owner)?, account(other)?, rows::read::<Domain>(&key, &value)?);
    let made = FriendRow::new(home, Standing::Friends, Wall::default());
    match friends::change(rows, owner, other, Some(made)) {
        Ok(()) | Err(Fault::Conflict(_)) => rows.delete(key),
        Err(Fault::Storage(error)) => return Err(error),
    }
    Ok(())
}

fn set_gate(rows: &mut Overlay<'_>, (key, value): Row) -> Result<(), StorageError> {
    let mut thread: ThreadMeta = rows::read(&key, &value)?;
    if thread.people != 2 || !thread.gate.is_empty() {
        return Ok(());
    }
    let prefix = rows::members(thread.log);
    for (member_key, value) in rows::scan(rows, &prefix, PAGE)? {
        if let Home::Here(_) = rows::read::<Member>(&member_key, &value)?.home {
            let named: [u8; 36] = rows::rest(&member_key, prefix.len())?;
            let account = named.get(..32).and_then(|account| AccountId::try_from(account).ok());
            thread.gate.extend(account.filter(|account| !thread.gate.contains(account)));
        }
    }
    rows::put(rows, key, &thread);
    Ok(())
}

/// From 2 to 3: a body is counted by the rows that name it, and goes with the last. A body that none names by now is not
/// looked at and stays: a device may have acknowledged its invitation before it fetched what belongs to it.
fn count_bodies(reads: &dyn Reads, from: &[u8]) -> Result<Page, StorageError> {
    let mut rows = Overlay::new(reads);
    let (mut at, mut room) = (from.to_vec(), OWNERS);
    for space in [space::ACCOUNT, space::WAITING, space::PURGE] {
        let start = at.clone().max(vec![space]);
        for (key, value) in reads.scan(&start, &rows::end(&[space]), Order::Ascending, room)? {
            let names = if space == space::WAITING {
                [&[space::OUTBOUND], key.get(1..).unwrap_or_default()].concat()
            } else {
                let Account { inbox, .. } = rows::read(&key, &value)?;
                [&[space::ENTRY], inbox.as_bytes().as_slice()].concat()
            };
            match count_named(&mut rows, &names) {
                // Nobody gets past it to what else this inbox or queue names; and the relay must start.
                Err(StorageError::Damaged { space, what }) => {
                    tracing::error!(space, what, "rows that cannot be read are not counted");
                }
                other => other?,
            }
            (at, room) = (rows::after(&key), room - 1);
        }
        if room == 0 {
            return Ok(Page { batch: rows.into_batch(), next: Some(at) });
        }
    }
    Ok(Page { batch: rows.into_batch(), next: None })
}

/// From 3 to 4: the newest entry of every account's log becomes a leaf of the tree, account by account.
fn plant_tree(reads: &dyn Reads, from: &[u8]) -> Result<Page, StorageError> {
    let mut rows = Overlay::new(reads);
    let start = from.max([space::ACCOUNT].as_slice());
    let found = reads.scan(start, &rows::end(&[space::ACCOUNT]), Order::Ascending, PAGE)?;
    let next = found.last().filter(|_| found.len() == PAGE).map(|(key, _)| rows::after(key));
    for (key, value) in found {
        let account = AccountId::from_bytes(rows::rest(&key, 1)?);
        let known: Account = match rows::read(&key, &value) {
            // It is named already, and the relay must start.
            Err(StorageError::Damaged { space, what }) => {
                tracing::error!(space, what, "an account that cannot be read is no leaf");
                continue;
            }
            other => other?,
        };
        tree::grow(&mut rows, account, known.inbox, (known.log_seq, known.log_hash))?;
    }
    Ok(Page { batch: rows.into_batch(), next })
}

/// Counts what the rows of one inbox, or of the queue for one peer, name.
fn count_named(rows: &mut Overlay<'_>, prefix: &[u8]) -> Result<(), StorageError> {
    let (mut from, end) = (prefix.to_vec(), rows::end(prefix));
    loop {
        let found = rows.scan(&from, &end, Order::Ascending, PAGE)?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        from = rows::after(last);
        for (key, value) in found {
            if let Some(invitation) = rows::invitation(&key, &value)? {
                blobs::name(rows, &invitation)?;
            }
        }
    }
}

/// What the rows are whose keys begin with this byte.
pub const fn space_name(first: u8) -> &'static str {
    match first {
        0 => "version",
        space::NAME => "names",
        space::ACCOUNT => "accounts",
        space::ACCOUNT_LOG => "account logs",
        space::OWNER => "counts by account",
        space::STOCK => "KeyPackage counts",
        space::PACKAGE => "KeyPackages",
        space::LAST_RESORT => "last-resort KeyPackages",
        space::CONSENT => "consents",
        space::INVITE => "invites",
        space::THREAD => "threads",
        space::LOG => "logs",
        space::ENTRY => "entries",
        space::TAIL => "envelope ids",
        space::MEMBER => "members",
        space::CURSOR => "cursors",
        space::ROW => "thread rows",
        space::TAG => "participants tags",
        space::BLOB => "large bodies",
        space::OUTBOUND => "outbound rows",
        space::WAITING => "outbound counts",
        space::PIN => "pins of peers",
        space::LINKED => "count of peers by links",
        space::FRIEND => "friends",
        space::PROFILE => "profile cards",
        space::REGISTRATION => "invitations to register",
        space::WAKE => "wake-up addresses",
        space::PURGE => "accounts on their way out",
        space::NAMED => "counts by large body",
        space::COMMIT => "commits",
        space::EPOCH => "ends of epochs",
        space::PUBLIC => "public states",
        space::PARTED => "people parted with",
        space::TREE_NODE => "nodes of the tree",
        space::TREE_SIZE => "size of the tree",
        space::LEAF => "leaves by account",
        space::STAMP => "stamps of devices",
        _ => "unknown",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use minicbor::Encode;
    use whimbrel_crypto::transparency;
    use whimbrel_protocol::canonical;
    use whimbrel_protocol::id::{BlobId, DeviceId, DeviceIndex, Epoch, ThreadId};
    use whimbrel_storage::{Kv, MemoryEngine, MemoryKv, OrderedKv, bring_up};

    use super::super::rows::OwnerRow;
    use super::super::{Problems, check};
    use super::*;
    use crate::store::{Epochs, KvStore, LogId, MailboxId, contract};

    /// A thread as version 1 wrote it.
    #[derive(Encode)]
    #[cbor(map)]
    struct OldThread {
        #[n(0)]
        log: LogId,
        #[n(1)]
        epoch: Epoch,
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        fingerprint: [u8; 32],
        #[n(3)]
        people: u32,
        #[n(4)]
        others: Vec<Domain>,
    }

    /// Counts as version 1 wrote them.
    #[derive(Encode)]
    #[cbor(map)]
    struct OldOwner {
        #[n(0)]
        threads: u32,
        #[n(1)]
        invites: u32,
        #[n(2)]
        peers: u32,
    }

    fn account(n: u16) -> AccountId {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        AccountId::from_bytes(bytes)
    }

    #[test]
    fn a_store_of_version_1_is_brought_up_whole() {
        let kv = MemoryKv::in_memory().unwrap();
        let owner = account(0);
        let (here, there): (Domain, Domain) = ("a.example".parse().unwrap(), "b.example".parse().unwrap());
        let mut old = Batch::new();
        let consents = 3 * PAGE as u16;
        for n in 1..=consents {
            let key = [&[space::CONSENT], owner.as_bytes().as_slice(), account(n).as_bytes()].concat();
            old.put(key, canonical::encode(if n % 2 == 0 { &here } else { &there }));
        }
        let counts = OldOwner { threads: 4, invites: 3, peers: 2 };
        old.put(rows::of_account(space::OWNER, owner), canonical::encode(&counts));
        for (n, people) in [(1, 2), (2, 3)] {
            let log = LogId::from_bytes([n; 16]);
            let meta =
                OldThread { log, epoch: Epoch::new(1), fingerprint: [n; 32], people, others: vec![there.clone()] };
            old.put(rows::thread(ThreadId::from_bytes([n; 32])), canonical::encode(&meta));
            let home = |n| if n == 0 { Home::Here(MailboxId::from_bytes([3; 16])) } else { Home::Peer(there.clone()) };
            for n in 0..2 {
                let id = DeviceId { account: account(n), index: DeviceIndex::FIRST };
                let member = Member::new(Epochs::ALL, home(n));
                old.put(rows::member(log, id), canonical::encode(&member));
            }
        }
        kv.apply(&old).unwrap();
        assert_eq!(bring_up(&kv, &SCHEMA).unwrap(), 1);
        assert_eq!(rows::scan(&kv, &[space::CONSENT], 9).unwrap(), []);
        for (n, home) in [(1, &there), (2, &here), (consents, &here)] {
            assert!(friends::consents(&kv, owner, account(n), home).unwrap(), "{n}");
        }
        assert!(!friends::consents(&kv, owner, account(1), &here).unwrap());
        let counts: OwnerRow = rows::get(&kv, &rows::of_account(space::OWNER, owner)).unwrap().unwrap();
        assert_eq!((counts.threads, counts.friends, counts.asking), (4, consents.into(), 0));
        let gate = |n| {
            let thread = rows::get::<ThreadMeta>(&kv, &rows::thread(ThreadId::from_bytes([n; 32]))).unwrap();
            thread.unwrap().gate
        };
        assert_eq!((gate(1), gate(2)), (vec![owner], vec![]));
        assert_eq!(bring_up(&kv, &SCHEMA).unwrap(), SCHEMA.version);
    }

    /// A store as version 2 left it: of every kind of row, and none that counts bodies.
    fn of_version_2(disk: &MemoryEngine) -> Arc<MemoryKv> {
        let kv = Arc::new(Kv::open(disk.clone(), None).unwrap());
        bring_up(&*kv, &Schema { name: "relay", version: 2, steps: &[] }).unwrap();
        let store = KvStore::over(Arc::clone(&kv));
        contract::fill(&store);
        contract::fill_inboxes(&store);
        let mut old = Batch::new();
        for (key, _) in rows::scan(&*kv, &[space::NAMED], 999).unwrap() {
            old.delete(key);
        }
        // Its invitation was acknowledged and is gone.
        old.put(rows::blob(UNNAMED), b"a body".to_vec());
        kv.apply(&old).unwrap();
        kv.sync().unwrap();
        kv
    }

    /// A step that was interrupted: its page was on the disk when the process ended, and nobody had been told.
    fn interrupted(disk: &MemoryEngine, kv: Arc<MemoryKv>) -> Arc<MemoryKv> {
        disk.fail_next_sync(StorageError::Engine("crash".to_owned()));
        bring_up(&*kv, &SCHEMA).unwrap_err();
        drop(kv);
        disk.crash(1);
        Arc::new(Kv::open(disk.clone(), None).unwrap())
    }

    /// What makes a store one of version 3: it had no tree.
    fn without_tree(kv: &MemoryKv) -> Batch {
        let mut old = Batch::new();
        for space in [space::TREE_NODE, space::TREE_SIZE, space::LEAF] {
            rows::scan(kv, &[space], 9_999).unwrap().into_iter().for_each(|(key, _)| old.delete(key));
        }
        old
    }

    const UNNAMED: BlobId = BlobId::from_bytes([0xee; 32]);

    fn counts(kv: &MemoryKv) -> Vec<Row> {
        rows::scan(kv, &[space::NAMED], 999).unwrap()
    }

    #[test]
    fn bodies_of_a_store_of_version_2_are_counted_whatever_interrupts() {
        let counted = {
            let kv = Arc::new(MemoryKv::in_memory().unwrap());
            let store = KvStore::over(Arc::clone(&kv));
            contract::fill(&store);
            contract::fill_inboxes(&store);
            counts(&kv)
        };
        assert!(counted.len() > OWNERS, "{}", counted.len());
        for interruptions in 0..4 {
            let disk = MemoryEngine::new();
            let mut kv = of_version_2(&disk);
            assert!(check(&*kv, 3).unwrap().count > 0);
            assert_eq!(check(&*kv, 2).unwrap(), Problems::default());
            for _ in 0..interruptions {
                kv = interrupted(&disk, kv);
            }
            bring_up(&*kv, &SCHEMA).unwrap();
            assert_eq!(counts(&kv), counted, "after {interruptions} interruptions");
            assert_eq!(check(&*kv, SCHEMA.version).unwrap(), Problems::default());
            assert_eq!(kv.get(&rows::blob(UNNAMED)).unwrap(), Some(b"a body".to_vec()));
            assert_eq!(bring_up(&*kv, &SCHEMA).unwrap(), SCHEMA.version);
        }
    }

    #[test]
    fn accounts_of_a_store_of_version_3_become_leaves_of_its_tree() {
        let kv = Arc::new(MemoryKv::in_memory().unwrap());
        bring_up(&*kv, &Schema { name: "relay", version: 3, steps: &[] }).unwrap();
        contract::fill(&KvStore::over(Arc::clone(&kv)));
        let accounts = rows::scan(&*kv, &[space::ACCOUNT], 999).unwrap();
        let old = without_tree(&kv);
        kv.apply(&old).unwrap();
        assert!(check(&*kv, 4).unwrap().count > 0);
        assert_eq!(check(&*kv, 3).unwrap(), Problems::default());
        bring_up(&*kv, &SCHEMA).unwrap();
        assert_eq!(check(&*kv, SCHEMA.version).unwrap(), Problems::default());
        let tree = super::super::tree(&*kv, None, &[], None).unwrap();
        assert_eq!(tree.size, accounts.len() as u64);
        for (key, _) in accounts {
            let account = AccountId::from_bytes(rows::rest(&key, 1).unwrap());
            assert!(super::super::tree(&*kv, Some(account), &[], None).unwrap().entry.is_some());
        }
    }

    #[test]
    fn many_accounts_become_leaves_each_once_whatever_interrupts() {
        for interruptions in 0..4 {
            let disk = MemoryEngine::new();
            let mut kv = Arc::new(Kv::open(disk.clone(), None).unwrap());
            bring_up(&*kv, &Schema { name: "relay", version: 3, steps: &[] }).unwrap();
            contract::fill(&KvStore::over(Arc::clone(&kv)));
            let (key, value) = rows::scan(&*kv, &[space::ACCOUNT], 1).unwrap().remove(0);
            let some: Account = rows::read(&key, &value).unwrap();
            let mut old = without_tree(&kv);
            for n in 0..2 * PAGE as u16 + 9 {
                let mut inbox = [9; 16];
                inbox[..2].copy_from_slice(&n.to_be_bytes());
                let one = Account { inbox: LogId::from_bytes(inbox), log_seq: n.into(), ..some.clone() };
                old.put(rows::of_account(space::ACCOUNT, account(n)), canonical::encode(&one));
            }
            kv.apply(&old).unwrap();
            kv.sync().unwrap();
            for _ in 0..interruptions {
                kv = interrupted(&disk, kv);
            }
            bring_up(&*kv, &SCHEMA).unwrap();
            let accounts = rows::scan(&*kv, &[space::ACCOUNT], 9_999).unwrap();
            let tree = super::super::tree(&*kv, None, &[], None).unwrap();
            assert_eq!(tree.size, accounts.len() as u64, "after {interruptions} interruptions");
            for (key, value) in accounts {
                let (account, known) = (rows::rest(&key, 1).unwrap(), rows::read::<Account>(&key, &value).unwrap());
                let account = AccountId::from_bytes(account);
                let entry = super::super::tree(&*kv, Some(account), &[], None).unwrap().entry.unwrap();
                let leaf = transparency::leaf(&entry.salt, &account, known.log_seq, &known.log_hash);
                let root = whimbrel_crypto::tree::included(leaf, entry.index, tree.size, &entry.path).unwrap();
                assert_eq!(root, tree.root, "{}", known.log_seq);
            }
        }
    }

    #[test]
    fn a_damaged_inbox_keeps_no_store_of_version_2_from_coming_up() {
        let disk = MemoryEngine::new();
        let kv = of_version_2(&disk);
        let (key, mut value) = rows::scan(&*kv, &[space::ENTRY], 1).unwrap().remove(0);
        value.truncate(1);
        let mut batch = Batch::new();
        batch.put(key, value);
        kv.apply(&batch).unwrap();
        assert_eq!(bring_up(&*kv, &SCHEMA).unwrap(), 2);
        assert!(!counts(&kv).is_empty());
        assert!(check(&*kv, 3).unwrap().count > 0, "told by the check");
    }
}
