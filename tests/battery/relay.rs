//! The relay's store under load, as the relay runs it: commands to the writer's thread, groups, one sync, answers.
//! Owns: which commands, what is said of each answer, what must be there afterwards.
//!
//! Lines: `p PERSON` registered, `o THREAD` opened, `t THREAD UPTO` a trim is about to be asked for, `a THREAD SEQUENCE ID`
//! appended, `c THREAD PERSON UPTO` a cursor moved, `i PERSON` one more invitation in somebody's inbox, `full`, `again`,
//! `end`, `failed WHY`. Whether an invitation's bodies are there, and none that nothing names, is for the store's own check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_protocol::id::{
    AccountId, DeviceId, DeviceIndex, Domain, EnvelopeId, Epoch, LogHash, ParticipantsTag, PublicKey, Sequence,
    ThreadId,
};
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::thread::{Class, Envelope, Opening, Participant};
use whimbrel_protocol::time::Wall;
use whimbrel_relay::store::command::people::Entrance;
use whimbrel_relay::store::command::{
    self, Append, Appended, CursorMove, Forwarded, GiveConsent, Here, LogBounds, OpenThread, Origin, Register, Trim,
};
use whimbrel_relay::store::contract::wait;
use whimbrel_relay::store::kv;
use whimbrel_relay::store::{Command, KvStore, LogId, MailboxId, OutboundKey, Outcome, Store, StoreError};
use whimbrel_relay_runtime::disk::{ThreadDisk, Writer};
use whimbrel_storage_runtime::{DiskKv, EngineKind, Options};

use crate::chance::Chance;
use crate::child::{Found, Load, probe, say};

/// Connections that ask at once.
const SENDERS: u8 = 8;
/// Threads of each: of two people here, of one here and one elsewhere, of three.
const THREADS: u8 = 3;

fn domain(peer: bool) -> Domain {
    if peer { "b.example" } else { "a.example" }.parse().unwrap()
}

fn account(person: u8) -> AccountId {
    AccountId::from_bytes([person; 32])
}

fn device(person: u8) -> DeviceId {
    DeviceId { account: account(person), index: DeviceIndex::FIRST }
}

fn mailbox(person: u8) -> MailboxId {
    MailboxId::from_bytes([person; 16])
}

fn log_of(thread: u8) -> LogId {
    // No person's number, for that is what an inbox is made of.
    let mut bytes = [0xf7; 16];
    bytes[0] = thread;
    LogId::from_bytes(bytes)
}

fn thread_id(thread: u8) -> ThreadId {
    let mut bytes = [9; 32];
    bytes[0] = thread;
    ThreadId::from_bytes(bytes)
}

/// The people of a sender: two here, one elsewhere.
fn people(sender: u8) -> [u8; 3] {
    [1 + sender * 2, 2 + sender * 2, 200 + sender]
}

/// Who is in a thread.
fn members(thread: u8) -> Vec<u8> {
    let [own, friend, stranger] = people(thread / THREADS);
    match thread % THREADS {
        0 => vec![own, friend],
        1 => vec![own, stranger],
        _ => vec![own, friend, stranger],
    }
}

fn register(person: u8) -> Command {
    let key = |n: u8| PublicKey::from_bytes([person.wrapping_mul(2).wrapping_add(n); 32]);
    Command::Register(Register {
        name: format!("person{person}").parse().unwrap(),
        account: account(person),
        log: vec![person; 400],
        head: (1, LogHash::from_bytes([person; 32])),
        devices: vec![command::account_device(DeviceIndex::FIRST, key(0), key(1), mailbox(person))],
        inbox: LogId::from_bytes([person; 16]),
        entrance: Entrance::Open,
        at: Wall::default(),
    })
}

fn open(thread: u8) -> Command {
    let creator = members(thread)[0];
    let participant = |person: u8| Participant {
        account: account(person),
        domain: domain(person >= 200),
        devices: vec![DeviceIndex::FIRST],
    };
    let opening = Opening {
        thread: thread_id(thread),
        epoch: Epoch::new(1),
        participants: members(thread).into_iter().map(participant).collect(),
        welcome: vec![thread; 9_000],
        tree: vec![thread ^ 0x55; 20_000],
        founding: None,
    };
    let here =
        Here { local: domain(false), log: log_of(thread), at: Wall::from_millis(1_000), bounds: LogBounds::default() };
    let tag = ParticipantsTag::from_bytes([thread; 32]);
    Command::OpenThread(Box::new(OpenThread::new(opening, device(creator), Origin::Local, Some(tag), here, None)))
}

/// A thread of the two people here that only its invitation is of interest of.
fn invite(sender: u8, (round, number): (u64, u64)) -> Command {
    let [own, friend, _] = people(sender);
    let mut id = [sender; 32];
    id[..16].copy_from_slice(&[round.to_be_bytes(), number.to_be_bytes()].concat());
    let participant =
        |person| Participant { account: account(person), domain: domain(false), devices: vec![DeviceIndex::FIRST] };
    let opening = Opening {
        thread: ThreadId::from_bytes(id),
        epoch: Epoch::new(1),
        participants: vec![participant(own), participant(friend)],
        welcome: id.repeat(300),
        // One in two is known already.
        tree: id.map(|byte| byte & 0xfe).repeat(600),
        founding: None,
    };
    let mut log = [sender; 16];
    log.copy_from_slice(&id[..16]);
    log[0] = 0x80 | sender;
    let here = Here {
        local: domain(false),
        log: LogId::from_bytes(log),
        at: Wall::from_millis(1_000),
        bounds: LogBounds::default(),
    };
    Command::OpenThread(Box::new(OpenThread::new(opening, device(own), Origin::Local, None, here, None)))
}

fn body(chance: &mut Chance, load: &Load, thread: u8, number: u64) -> Vec<u8> {
    let len = match (load.heavy, chance.below(20)) {
        (true, _) => 64_000,
        (false, 0) => 5_000 + chance.below(150_000),
        (false, 1..4) => 4_000 + chance.below(400),
        (false, _) => 200 + chance.below(300),
    };
    let mut body = [load.round.to_be_bytes(), number.to_be_bytes()].concat();
    body.push(thread);
    body.extend(chance.bytes(usize::try_from(len).unwrap()));
    body
}

fn append(thread: u8, body: Vec<u8>, millis: u64) -> Command {
    let id = EnvelopeId::of(&body);
    let envelope = Arc::new(Envelope { thread: thread_id(thread), epoch: Epoch::new(1), class: Class::Message, body });
    let (author, origin) = (device(members(thread)[0]), Origin::Local);
    Command::Append(Append {
        envelope,
        id,
        author,
        origin,
        local: domain(false),
        at: Wall::from_millis(millis),
        bounds: LogBounds::default(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Kept = KvStore<ThreadDisk<DiskKv>>;

fn open_store(dir: &Path, options: Options) -> Result<(Kept, Writer<DiskKv>), String> {
    let options = Options { schema: Some(&kv::SCHEMA), ..options };
    let kv = DiskKv::open(&dir.join("store"), options).map_err(|error| error.to_string())?;
    let (disk, writer) = ThreadDisk::start(kv).map_err(|error| error.to_string())?;
    Ok((KvStore::new(disk), writer))
}

/// The child's load.
pub(crate) fn load(load: &Load) {
    let (store, writer) = match open_store(&load.dir, load.options()) {
        Ok(opened) => opened,
        Err(error) => return say(&format!("error {error}")),
    };
    say("ready");
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let store = &store;
            scope.spawn(move || Sender::new(load, sender, store).run());
        }
    });
    drop(store);
    writer.end().unwrap().close().unwrap();
    say("end");
}

struct Sender<'s> {
    load: &'s Load,
    sender: u8,
    store: &'s Kept,
    chance: Chance,
    /// The newest place of each thread, as answered.
    heads: BTreeMap<u8, u64>,
    full: bool,
}

impl<'s> Sender<'s> {
    fn new(load: &'s Load, sender: u8, store: &'s Kept) -> Self {
        let chance = Chance::of(&[load.seed, load.round, 2, sender.into()]);
        Self { load, sender, store, chance, heads: BTreeMap::new(), full: false }
    }

    /// Gives a command, again and again while there is no room; none when it was refused for another reason.
    fn command(&mut self, command: &Command) -> Option<Outcome> {
        loop {
            match wait(self.store.commit(command.clone())) {
                Ok(outcome) => {
                    if std::mem::take(&mut self.full) {
                        say("again");
                    }
                    return Some(outcome);
                }
                Err(StoreError::Full) => {
                    self.full = true;
                    say("full");
                    self.still_readable();
                    // Whoever was refused tries again later; a hundredth of a second is late enough here.
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(StoreError::Failed(why)) => {
                    say(&format!("failed {why}"));
                    std::process::exit(3);
                }
                Err(StoreError::Conflict(_)) => return None,
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// What is held can be fetched while nothing new is taken.
    fn still_readable(&self) {
        for (thread, head) in &self.heads {
            let page = wait(self.store.log_page(log_of(*thread), Sequence::new(head - 1), 1, usize::MAX));
            match page {
                Ok(page) => assert!(page.head.get() >= *head, "a full store hides what it holds"),
                Err(StoreError::Failed(why)) => {
                    say(&format!("failed {why}"));
                    std::process::exit(3);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn run(mut self) {
        for person in people(self.sender).into_iter().filter(|person| *person < 200) {
            self.command(&register(person));
            say(&format!("p {person}"));
            for other in people(self.sender) {
                let domain = domain(other >= 200);
                self.command(&Command::GiveConsent(GiveConsent {
                    owner: account(person),
                    other: account(other),
                    domain,
                    at: Wall::default(),
                }));
            }
        }
        let first = self.sender * THREADS;
        for thread in first..first + THREADS {
            self.command(&open(thread));
            say(&format!("o {thread}"));
        }
        let mut number = 0;
        while self.load.operations == 0 || number < self.load.operations {
            number += 1;
            let thread = first + u8::try_from(self.chance.below(THREADS.into())).unwrap();
            match self.chance.below(48) {
                0..4 => self.trim(thread),
                4..8 => self.move_cursor(thread),
                8 => self.invite(number),
                9 => self.read_inbox(),
                _ => self.append(thread, number),
            }
        }
    }

    fn append(&mut self, thread: u8, number: u64) {
        let body = body(&mut self.chance, self.load, thread, number);
        let id = hex(EnvelopeId::of(&body).as_bytes());
        if let Some(Outcome::Appended(Appended { sequence, .. })) = self.command(&append(thread, body, 2_000 + number))
        {
            say(&format!("a {thread} {} {id}", sequence.get()));
            self.heads.insert(thread, sequence.get());
        }
    }

    fn invite(&mut self, number: u64) {
        if self.command(&invite(self.sender, (self.load.round, number))).is_some() {
            say(&format!("i {}", people(self.sender)[1]));
        }
    }

    /// The friend has all invitations but the newest few: what those named that go is not kept.
    fn read_inbox(&mut self) {
        let [_, friend, _] = people(self.sender);
        let inbox = LogId::from_bytes([friend; 16]);
        let Ok(page) = wait(self.store.log_page(inbox, Sequence::ZERO, 1, usize::MAX)) else { return };
        let upto = Sequence::new(page.head.get().saturating_sub(self.chance.below(3)));
        self.command(&Command::Trim(Trim { log: inbox, cursors: vec![(mailbox(friend), upto)] }));
    }

    /// Everybody has all but the newest few: cursors, rows for the peer, and the entries go.
    fn trim(&mut self, thread: u8) {
        let Some(head) = self.heads.get(&thread).copied() else { return };
        let upto = head.saturating_sub(self.chance.below(6));
        say(&format!("t {thread} {upto}"));
        if !thread.is_multiple_of(THREADS) {
            let key = |sequence: u64| OutboundKey { log: log_of(thread), sequence: Sequence::new(sequence) };
            let rows = (upto.saturating_sub(60)..=upto).map(key).collect();
            let (refused, unknown) = (Vec::new(), Vec::new());
            let (at, bounds) = (Wall::default(), LogBounds::default());
            self.command(&Command::Forwarded(Forwarded { peer: domain(true), rows, refused, unknown, at, bounds }));
        }
        let local = members(thread).into_iter().filter(|person| *person < 200);
        let cursors = local.map(|person| (mailbox(person), Sequence::new(upto))).collect();
        self.command(&Command::Trim(Trim { log: log_of(thread), cursors }));
    }

    fn move_cursor(&mut self, thread: u8) {
        let Some(head) = self.heads.get(&thread).copied() else { return };
        let (person, upto) = (members(thread)[0], head.saturating_sub(self.chance.below(4)));
        if thread % THREADS == 1 {
            // The only reader here: with the next trim this may go.
            say(&format!("t {thread} {upto}"));
        }
        let (mailbox, log) = (mailbox(person), log_of(thread));
        let step = CursorMove { mailbox, log, upto: Sequence::new(upto) };
        if self.command(&Command::MoveCursors(vec![step])).is_some() {
            say(&format!("c {thread} {person} {upto}"));
        }
    }
}

/// What the lines say must be there.
#[derive(Default)]
struct Ledger {
    people: BTreeSet<u8>,
    threads: BTreeSet<u8>,
    entries: BTreeMap<(u8, u64), String>,
    /// Entries up to here may be gone.
    trimmed: BTreeMap<u8, u64>,
    cursors: BTreeMap<(u8, u8), u64>,
    /// How many invitations somebody got.
    invitations: BTreeMap<u8, u64>,
}

impl Ledger {
    fn read(lines: &str) -> Self {
        let mut ledger = Self::default();
        for line in lines.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let small = |at: usize| words[at].parse::<u8>().unwrap();
            let large = |at: usize| words[at].parse::<u64>().unwrap();
            match words[0] {
                "p" => drop(ledger.people.insert(small(1))),
                "o" => drop(ledger.threads.insert(small(1))),
                "a" => drop(ledger.entries.insert((small(1), large(2)), words[3].to_owned())),
                "i" => *ledger.invitations.entry(small(1)).or_default() += 1,
                "t" => {
                    let upto = ledger.trimmed.entry(small(1)).or_default();
                    *upto = (*upto).max(large(2));
                }
                "c" => {
                    let upto = ledger.cursors.entry((small(1), small(2))).or_default();
                    *upto = (*upto).max(large(3));
                }
                _ => {}
            }
        }
        ledger
    }
}

/// The child's reading of what is left.
pub(crate) fn verify(engine: EngineKind, dir: &Path, lines: &str, close: bool) -> Found {
    let mut found = Found::default();
    let options = Options { engine, probe: Some(probe()), schema: Some(&kv::SCHEMA), ..Options::default() };
    let kv = match DiskKv::open(&dir.join("store"), options) {
        Ok(kv) => kv,
        Err(error) => return Found { error: Some(error.to_string()), ..found },
    };
    match kv.survey() {
        Ok(survey) if survey.is_whole() => {}
        Ok(survey) => found.torn(format!("{:?} {:?}", survey.difference(), survey.damages)),
        Err(error) => found.torn(error.to_string()),
    }
    match kv::check(&kv, kv::SCHEMA.version) {
        Ok(problems) if problems.count == 0 => {}
        Ok(problems) => found.torn(format!("{:?}", problems.named)),
        Err(error) => found.torn(error.to_string()),
    }
    let (disk, writer) = ThreadDisk::start(kv).unwrap();
    let store = KvStore::new(disk);
    compare(&store, &Ledger::read(lines), &mut found);
    drop(store);
    match writer.end() {
        Ok(kv) if close => {
            if let Err(error) = kv.close() {
                found.named(format!("close: {error}"));
            }
        }
        Ok(_) => {}
        // Reading it had failed, and that is counted.
        Err(error) => found.named(format!("end: {error}")),
    }
    found
}

fn compare(store: &Kept, ledger: &Ledger, found: &mut Found) {
    for person in &ledger.people {
        match wait(store.account_log(account(*person))) {
            Ok(Some(log)) if log == vec![*person; 400] => {}
            Ok(_) => found.lost(format!("account {person}")),
            Err(error) => found.named(format!("account {person}: {error}")),
        }
    }
    for thread in &ledger.threads {
        let (owner, tag) = (account(members(*thread)[0]), ParticipantsTag::from_bytes([*thread; 32]));
        match wait(store.thread_by_tag(owner, tag)) {
            Ok(Some(known)) if known == thread_id(*thread) => {}
            Ok(_) => found.lost(format!("thread {thread}")),
            Err(error) => found.named(format!("thread {thread}: {error}")),
        }
    }
    for ((thread, sequence), id) in &ledger.entries {
        let upto = ledger.trimmed.get(thread).copied().unwrap_or(0);
        match wait(store.log_page(log_of(*thread), Sequence::new(sequence - 1), 1, usize::MAX)) {
            Ok(page) => match page.entries.first() {
                Some(entry) if entry.sequence.get() == *sequence => {
                    if !matches!(&entry.body, EntryBody::Envelope(_, envelope) if hex(EnvelopeId::of(&envelope.body).as_bytes()) == *id)
                    {
                        found.lost(format!("entry {thread}/{sequence} is another"));
                    }
                }
                _ if *sequence <= upto => {}
                _ => found.lost(format!("entry {thread}/{sequence}")),
            },
            Err(error) => found.named(format!("entry {thread}/{sequence}: {error}")),
        }
    }
    for (person, count) in &ledger.invitations {
        match wait(store.log_page(LogId::from_bytes([*person; 16]), Sequence::ZERO, 1, usize::MAX)) {
            Ok(page) if page.head.get() >= *count => {}
            Ok(page) => found.lost(format!("{} of {count} invitations of {person} are there", page.head.get())),
            Err(error) => found.named(format!("inbox of {person}: {error}")),
        }
    }
    for ((thread, person), upto) in &ledger.cursors {
        match wait(store.device_logs(mailbox(*person), None, 99)) {
            Ok(logs) => {
                if !logs.iter().any(|log| log.log == log_of(*thread) && log.cursor.get() >= *upto) {
                    found.lost(format!("cursor {thread}/{person} at {upto}"));
                }
            }
            Err(error) => found.named(format!("cursor {thread}/{person}: {error}")),
        }
    }
}
