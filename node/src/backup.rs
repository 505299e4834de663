//! Backup: what of a device's store is worth keeping elsewhere, as records.
//! Owns: which rows go into a backup and how they come back. Never: a group's secrets, a device's keys (restored, they would
//! be used twice), the container the records are sealed in (`whimbrel_crypto::backup`).
//! Limits: `limits::BACKUP_BYTES_MAX`. Rules: docs/protocol/backup.md.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use whimbrel_crypto::UnverifiedLog;
use whimbrel_protocol::canonical;
use whimbrel_protocol::id::{AccountId, Address, Epoch, Name, ParticipantsTag, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::message::Target;
use whimbrel_protocol::refusal::RefusalCode;
use whimbrel_protocol::thread::{Founding, Participant};
use whimbrel_protocol::time::Wall;
use whimbrel_storage::{Batch, Overlay, Reads, StorageError};
use zeroize::Zeroizing;

use crate::contacts::{self, Person};
use crate::rows::{
    self, AccountRow, CardRow, ContactRow, EditRow, FriendRow, MessageRow, PlaceRow, ReactionRow, SeenRow, SettingsRow,
    Space, StateRow, ThreadRow, ThreadState, TitleRow,
};
use crate::thread;

/// What this version writes, and the newest it reads.
const VERSION: u32 = 1;
/// Records that are put back in one batch.
const PAGE: usize = 256;

/// One record. Variants and fields are only ever added.
#[derive(Clone, Encode, Decode)]
enum Record {
    /// The first: which version, whose, when.
    #[n(0)]
    Head(#[n(0)] Head),
    /// The account, with what signs for it.
    #[n(1)]
    Account(#[n(0)] OwnAccount),
    #[n(2)]
    Contact(#[n(0)] AccountId, #[n(1)] ContactRow),
    #[n(3)]
    Friend(#[n(0)] AccountId, #[n(1)] FriendRow),
    #[n(4)]
    Card(#[n(0)] AccountId, #[n(1)] CardRow),
    #[n(5)]
    Settings(#[n(0)] ThreadId, #[n(1)] SettingsRow),
    #[n(6)]
    Thread(#[n(0)] ThreadId, #[n(1)] KeptThread),
    #[n(7)]
    Message(#[n(0)] ThreadId, #[n(1)] PlaceRow, #[n(2)] MessageRow),
    /// The last: how many there are with it.
    #[n(8)]
    End(#[n(0)] u64),
    /// What its author put in the place of a text.
    #[n(9)]
    Edit(#[n(0)] ThreadId, #[n(1)] Target, #[n(2)] EditRow),
    /// A text that its author took back.
    #[n(10)]
    Unsent(#[n(0)] ThreadId, #[n(1)] Target),
    /// An account's sign beside a text.
    #[n(11)]
    Reaction(#[n(0)] ThreadId, #[n(1)] Target, #[n(2)] AccountId, #[n(3)] String, #[n(4)] ReactionRow),
}

#[derive(Clone, Encode, Decode)]
#[cbor(map)]
struct Head {
    #[n(0)]
    version: u32,
    #[n(1)]
    account: AccountId,
    #[n(2)]
    made: Wall,
    #[n(3)]
    address: Option<Address>,
}

#[derive(Clone, Encode, Decode)]
#[cbor(map)]
struct OwnAccount {
    #[n(0)]
    name: Name,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    log: Vec<u8>,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    identity_key: Option<[u8; 32]>,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    participants_key: [u8; 32],
}

/// What is kept of a thread: who, and what it was called. Nothing that opens or seals.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
struct KeptThread {
    #[n(0)]
    participants: Vec<Participant>,
    #[n(1)]
    updated: Wall,
    #[n(2)]
    founding: Option<Founding>,
    #[n(3)]
    title: Option<TitleRow>,
    #[n(4)]
    tag: ParticipantsTag,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StorageError),
    /// There is no account.
    #[error("there is no account in this store")]
    NoAccount,
    /// It would be over its bound.
    #[error("a backup has at most {} bytes", limits::BACKUP_BYTES_MAX)]
    TooLarge,
}

/// Why the records of a backup are not taken. Nothing was put back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// They are no records, or contradict each other.
    #[error("the backup cannot be read: {0}")]
    Malformed(String),
    /// A newer version wrote them.
    #[error("the backup is of version {found}, and this program knows versions up to {VERSION}")]
    Newer {
        /// Their version.
        found: u32,
    },
    /// The end is missing.
    #[error("the backup has no end")]
    Cut,
}

/// What is in a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Whose it is.
    pub account: AccountId,
    /// Where they were found.
    pub address: Option<Address>,
    /// When it was made, by that device's clock.
    pub made: Wall,
    /// People.
    pub contacts: u64,
    /// Conversations.
    pub threads: u64,
    /// Messages.
    pub messages: u64,
}

/// A backup that was read whole, and whose parts fit together.
pub struct Backup {
    summary: Summary,
    records: Vec<Record>,
}

/// Writes down what is in a store. Secret: it holds the account's key.
///
/// # Errors
/// As [`CreateError`] says.
pub fn create(reads: &dyn Reads, now: Wall) -> Result<Zeroizing<Vec<u8>>, CreateError> {
    let own: AccountRow = rows::get(reads, &rows::account_key())?.ok_or(CreateError::NoAccount)?;
    let mut out = Out { bytes: Zeroizing::new(Vec::new()), records: 0 };
    let head = Head { version: VERSION, account: own.device.account, made: now, address: own.address };
    out.record(&Record::Head(head))?;
    let AccountRow { name, log, identity_key, participants_key, .. } = own;
    out.record(&Record::Account(OwnAccount { name, log, identity_key, participants_key }))?;
    each(reads, Space::Contact, |id, row| out.record(&Record::Contact(AccountId::from_bytes(id), row)))?;
    each(reads, Space::Friend, |id, row| out.record(&Record::Friend(AccountId::from_bytes(id), row)))?;
    each(reads, Space::Card, |id, row| out.record(&Record::Card(AccountId::from_bytes(id), row)))?;
    each(reads, Space::Settings, |id, row| out.record(&Record::Settings(ThreadId::from_bytes(id), row)))?;
    let mut threads = Vec::new();
    each(reads, Space::Thread, |id, row: ThreadRow| {
        if row.is_self(&own.device.account) {
            return Ok(());
        }
        let ThreadRow { participants, updated, founding, title, tag, .. } = row;
        let id = ThreadId::from_bytes(id);
        threads.push(id);
        out.record(&Record::Thread(id, KeptThread { participants, updated, founding, title, tag }))
    })?;
    let mut texts = BTreeSet::new();
    for id in threads {
        let mut failed = Ok(());
        rows::each(reads, &rows::history_prefix(&id), |(key, value)| {
            let place = rows::history_place(&key).ok_or_else(|| rows::damaged(&key, "no place"))?;
            let row = rows::decode::<MessageRow>(&key, &value)?;
            // What is to go by itself is not kept for longer in another place.
            if failed.is_ok() && row.lasts_ms.is_none() {
                texts.insert(Target { message: place.message, author: place.author });
                failed = out.record(&Record::Message(id, place, row));
            }
            Ok(())
        })?;
        failed?;
    }
    let mut failed = Ok(());
    rows::each(reads, &rows::space(Space::Told), |(key, value)| {
        let (kind, thread, of) = rows::told_of(&key).ok_or_else(|| rows::damaged(&key, "about nothing"))?;
        let record = match kind {
            rows::Told::Edit => Record::Edit(thread, of, rows::decode(&key, &value)?),
            rows::Told::Unsent => Record::Unsent(thread, of),
            rows::Told::Reaction => {
                let (by, sign) = rows::reaction_of(&key).ok_or_else(|| rows::damaged(&key, "no sign"))?;
                Record::Reaction(thread, of, by, sign, rows::decode(&key, &value)?)
            }
        };
        // What was said about a text that is not in it is not, either; that one was taken back stays known.
        if failed.is_ok() && (kind == rows::Told::Unsent || texts.contains(&of)) {
            failed = out.record(&record);
        }
        Ok(())
    })?;
    failed?;
    let end = Record::End(out.records.saturating_add(1));
    out.record(&end)?;
    Ok(out.bytes)
}

struct Out {
    bytes: Zeroizing<Vec<u8>>,
    records: u64,
}

impl Out {
    fn record(&mut self, record: &Record) -> Result<(), CreateError> {
        let bytes = Zeroizing::new(canonical::encode(record));
        if self.bytes.len().saturating_add(bytes.len()) > limits::BACKUP_BYTES_MAX {
            return Err(CreateError::TooLarge);
        }
        self.bytes.extend_from_slice(&bytes);
        self.records = self.records.saturating_add(1);
        Ok(())
    }
}

/// Every row of a space whose keys are one id.
fn each<T: for<'b> Decode<'b, ()>>(
    reads: &dyn Reads,
    space: Space,
    mut visit: impl FnMut([u8; 32], T) -> Result<(), CreateError>,
) -> Result<(), CreateError> {
    let mut failed = Ok(());
    rows::each(reads, &rows::space(space), |(key, value)| {
        let id = rows::id_in_key(&key).ok_or_else(|| rows::damaged(&key, "no id"))?;
        let row = rows::decode(&key, &value)?;
        if failed.is_ok() {
            failed = visit(id, row);
        }
        Ok(())
    })?;
    failed
}

impl Backup {
    /// Reads records to their end and checks that they fit together.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let malformed = |error: &dyn std::fmt::Display| ReadError::Malformed(error.to_string());
        let mut decoder = minicbor::Decoder::new(bytes);
        let head = match decoder.decode::<Record>() {
            Ok(Record::Head(head)) => head,
            Ok(_) => return Err(malformed(&"it does not say whose it is")),
            Err(error) => return Err(malformed(&error)),
        };
        if head.version > VERSION {
            return Err(ReadError::Newer { found: head.version });
        }
        let Head { account, made, address, .. } = head;
        let mut summary = Summary { account, address, made, contacts: 0, threads: 0, messages: 0 };
        let (mut records, mut threads, mut read) = (Vec::new(), BTreeSet::new(), 0_u64);
        loop {
            if decoder.position() == bytes.len() {
                return Err(ReadError::Cut);
            }
            let record = decoder.decode::<Record>().map_err(|error| malformed(&error))?;
            match &record {
                Record::Head(_) => return Err(malformed(&"it has two beginnings")),
                Record::Account(own) => {
                    let log = UnverifiedLog(own.log.clone()).verify().map_err(|error| malformed(&error))?;
                    if log.account() != account {
                        return Err(malformed(&"its log is another account's"));
                    }
                }
                Record::Contact(id, row) => {
                    let log = UnverifiedLog(row.log.clone()).verify().map_err(|error| malformed(&error))?;
                    if log.account() != *id {
                        return Err(malformed(&"a contact's log is another account's"));
                    }
                    summary.contacts = summary.contacts.saturating_add(1);
                }
                Record::Thread(id, _) => {
                    threads.insert(*id);
                    summary.threads = summary.threads.saturating_add(1);
                }
                Record::Message(id, _, row) => {
                    if !threads.contains(id) || row.text.len() > limits::TEXT_BYTES_MAX {
                        return Err(malformed(&"a message of no conversation, or over its bound"));
                    }
                    summary.messages = summary.messages.saturating_add(1);
                }
                Record::Edit(id, _, EditRow { text, .. }) => {
                    if !threads.contains(id) || text.len() > limits::TEXT_BYTES_MAX {
                        return Err(malformed(&"a change of a text of no conversation, or over its bound"));
                    }
                }
                Record::Unsent(id, _) => {
                    if !threads.contains(id) {
                        return Err(malformed(&"a text of no conversation was taken back"));
                    }
                }
                Record::Reaction(id, _, _, sign, _) => {
                    if !threads.contains(id) || sign.len() > limits::REACTION_BYTES_MAX {
                        return Err(malformed(&"a sign in no conversation, or over its bound"));
                    }
                }
                Record::End(count) => {
                    let whole = read.saturating_add(2) == *count;
                    return match (whole, decoder.position() == bytes.len()) {
                        (true, true) => Ok(Self { summary, records }),
                        _ => Err(malformed(&"its end says otherwise")),
                    };
                }
                Record::Friend(..) | Record::Card(..) | Record::Settings(..) => {}
            }
            // The account's keys are of no use to a restore, and need not be kept in memory.
            if !matches!(record, Record::Account(_)) {
                records.push(record);
            }
            read = read.saturating_add(1);
        }
    }

    /// What is in it.
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Puts some of it back into the store of the same account: the batch, and where to go on. What is there already stays
    /// as it is, so it can be begun again after an interruption.
    ///
    /// The node must not run meanwhile, and the caller has compared the accounts.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn restore(&self, reads: &dyn Reads, from: usize) -> Result<(Batch, Option<usize>), StorageError> {
        let mut rows = Overlay::new(reads);
        let mut left = self.records.iter().enumerate().skip(from);
        for (_, record) in left.by_ref().take(PAGE) {
            put_back(&mut rows, record)?;
        }
        Ok((rows.into_batch(), left.next().map(|(next, _)| next)))
    }
}

fn put_back(rows: &mut Overlay<'_>, record: &Record) -> Result<(), StorageError> {
    match record {
        Record::Contact(id, row) => {
            let key = rows::contact_key(id);
            if rows::get::<ContactRow>(rows, &key)?.is_some() {
                return Ok(());
            }
            let log = UnverifiedLog(row.log.clone()).verify().map_err(|error| rows::damaged(&key, error))?;
            contacts::keep(rows, &Person { address: row.address.clone(), log }, row.contact)?;
            // What the owner compared.
            rows::put(rows, key, row);
            Ok(())
        }
        Record::Friend(id, row) => absent(rows, rows::friend_key(id), row),
        Record::Card(id, row) => absent(rows, rows::card_key(id), row),
        // The relay has them, or gets them with their next change.
        Record::Settings(id, row) => absent(rows, rows::settings_key(id), &SettingsRow { kept: true, ..row.clone() }),
        Record::Thread(id, kept) => {
            if thread::get(rows, id)?.is_some() {
                return Ok(());
            }
            // This device has no leaf in it: it can be read, and is not written in.
            let KeptThread { participants, updated, founding, title, tag } = kept.clone();
            let row = thread::fresh(participants, Epoch::new(0), ThreadState::Left, tag, updated);
            thread::put(rows, id, &ThreadRow { founding, title, tagged: true, ..row });
            Ok(())
        }
        Record::Message(id, place, row) => message(rows, id, *place, row),
        Record::Edit(thread, of, row) => match rows.get(&rows::unsent_key(thread, of))? {
            Some(_) => Ok(()),
            None => absent(rows, rows::edit_key(thread, of), row),
        },
        Record::Unsent(thread, of) => {
            rows.put(rows::unsent_key(thread, of), Vec::new());
            rows.delete(rows::edit_key(thread, of));
            rows::blank(rows, thread, of)
        }
        Record::Reaction(thread, of, by, sign, row) => absent(rows, rows::reaction_key(thread, of, by, sign), row),
        Record::Head(_) | Record::Account(_) | Record::End(_) => Ok(()),
    }
}

fn absent<T: Encode<()>>(rows: &mut Overlay<'_>, key: Vec<u8>, row: &T) -> Result<(), StorageError> {
    if rows.get(&key)?.is_none() {
        rows::put(rows, key, row);
    }
    Ok(())
}

/// A message that is not here yet: shown in its place, and not as news.
fn message(rows: &mut Overlay<'_>, id: &ThreadId, place: PlaceRow, row: &MessageRow) -> Result<(), StorageError> {
    let seen = rows::message_key(&place.message, &place.author);
    let Some(mut thread_row) = thread::get(rows, id)? else { return Ok(()) };
    if rows.get(&seen)?.is_some() {
        return Ok(());
    }
    let arrival = thread::arrive(rows)?;
    rows::put(rows, seen, &SeenRow { thread: *id, hlc: place.hlc, arrival, counter: row.counter });
    let mut row = row.clone();
    if row.state == Some(StateRow::Queued) {
        // What waited to leave stayed with the keys that had sealed it.
        row.state = Some(StateRow::Failed(RefusalCode::Expired));
    }
    rows::put(rows, rows::history_key(id, &place), &row);
    if thread_row.last.is_none_or(|last| last < place) {
        thread_row.last = Some(place);
        thread::put(rows, id, &thread_row);
    }
    Ok(())
}
