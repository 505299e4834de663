//! Engine: what sealing costs, against the bare library in the same run: BUDGETS rows C1 to C4 and C6, each with its budget
//! and its floor; lines that begin with a blank are about the row above. `cargo bench -p whimbrel-crypto`.
//! C5, how long a node takes to start, is of a node and its store, which this crate knows nothing of: it is not here.
//! CPU seconds of this thread, bytes on the wire, bytes of rows written. Ratios are what count, wall clocks are not read,
//! and a missed budget is no error. With `-- hub`, only what a hub's public state costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a bench"
)]

use std::collections::BTreeMap;

use openmls::prelude::tls_codec::{Deserialize, Serialize};
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use whimbrel_crypto::{Chance, Context, Engine, Invitee, KeyPair, MlsEngine, MlsPublic, Own, PublicEngine, Seed};
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, MessageId, RequestId, ThreadId};
use whimbrel_protocol::message::{Body, Content};
use whimbrel_protocol::thread::{Class, Envelope, Submit};
use whimbrel_protocol::time::{Hlc, Now, Wall};
use whimbrel_protocol::{canonical, codec, limits};
use whimbrel_storage::{Order, Overlay, Reads, Row, StorageError};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519;
const THREAD: ThreadId = ThreadId::from_bytes([0x77; 32]);
const ROUNDS: usize = 1_000;
/// C3 is about so many devices besides the maker's.
const ADDED: u32 = 500;
/// The clock ticks every few milliseconds: what is shorter is done often.
const LOADS: u32 = 20;

/// CPU seconds this thread has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

#[derive(Default)]
struct Disk(BTreeMap<Vec<u8>, Vec<u8>>);

impl Reads for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, StorageError> {
        let rows = self.0.range(from.to_vec()..to.to_vec()).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match order {
            Order::Ascending => rows.take(limit).collect(),
            Order::Descending => rows.rev().take(limit).collect(),
        })
    }
}

struct Person {
    id: DeviceId,
    device: KeyPair,
    disk: Disk,
    engine: MlsEngine,
    chance: Chance,
    written: usize,
}

impl Person {
    fn new(number: u32) -> Self {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let mut chance = Chance::from_seed(Seed::from_bytes(seed));
        Self {
            id: DeviceId { account: AccountId::from_bytes(seed), index: DeviceIndex::FIRST },
            device: KeyPair::generate(&mut chance),
            disk: Disk::default(),
            engine: MlsEngine::new(),
            chance,
            written: 0,
        }
    }

    fn call<T>(&mut self, work: impl FnOnce(&mut MlsEngine, &mut Context<'_, '_>, &Own<'_>) -> T) -> T {
        let mut rows = Overlay::new(&self.disk);
        let now = Now { wall: Wall::from_millis(1_700_000_000_000), ..Now::default() };
        let mut cx = Context { rows: &mut rows, chance: &mut self.chance, now };
        let value = work(&mut self.engine, &mut cx, &Own { id: self.id, device: &self.device });
        self.written = 0;
        for (key, value) in rows.into_changes() {
            self.written += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => drop(self.disk.0.insert(key, value)),
                None => drop(self.disk.0.remove(&key)),
            }
        }
        value
    }

    fn invitee(&mut self) -> Invitee {
        let key_package = self.call(|engine, cx, own| engine.key_package(cx, own, false)).unwrap();
        Invitee { id: self.id, device_key: self.device.public(), key_package }
    }
}

/// One figure of a row, with what it may be and what it is measured by.
fn row(id: &str, what: &str, (value, unit): (f64, &str), budget: f64, floor: Option<(f64, &str)>) {
    let digits = usize::from(value < 100.0) * 2;
    let kept = if value <= budget { "kept" } else { "missed" };
    let floor = match floor {
        // The kernel counts in ticks of some milliseconds: what is shorter has no ratio.
        Some((floor, of)) if floor > 0.0 && value > 0.0 => {
            format!("; {of} {floor:.digits$} {unit}, ratio {:.2}", value / floor)
        }
        Some((floor, of)) => format!("; {of} {floor:.digits$} {unit}, less than a tick"),
        None => String::new(),
    };
    println!("{id}  {what}: {value:.digits$} {unit} (budget <= {budget:.digits$} {unit}: {kept}){floor}");
}

/// Most memory this process had, in MiB.
fn memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel says so");
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
}

/// A Welcome and the tree that goes with it.
type Invited = (Vec<u8>, Vec<u8>);

/// Alice makes a thread of so many leaves, in commits of 100: CPU seconds, and everybody with what the last is invited by.
fn made(leaves: u32) -> (f64, Person, Vec<Person>, Invited) {
    let mut alice = Person::new(0);
    let mut others: Vec<_> = (1..leaves).map(Person::new).collect();
    let invitees: Vec<_> = others.iter_mut().map(Person::invitee).collect();
    let mut batches = invitees.chunks(limits::COMMIT_ADDS_MAX);
    let first = batches.next().unwrap();
    let start = cpu();
    let created = alice.call(|engine, cx, own| engine.create(cx, own, THREAD, first)).unwrap();
    let (mut welcome, mut tree) = (created.welcome, created.tree);
    for batch in batches {
        let commit = alice.call(|engine, cx, own| engine.add(cx, own, THREAD, batch)).unwrap();
        alice.call(|engine, cx, own| engine.merge_own(cx, own, THREAD)).unwrap();
        (welcome, tree) = (commit.welcome.unwrap(), commit.tree);
    }
    (cpu() - start, alice, others, (welcome, tree))
}

/// Alice and Bob in a thread of so many leaves, Bob invited last; in a small one everybody has spoken when `lively`.
fn ours(leaves: u32, lively: bool) -> (Person, Person) {
    let (_, alice, mut others, (welcome, tree)) = made(leaves);
    let mut bob = others.pop().unwrap();
    bob.call(|engine, cx, own| engine.join(cx, own, &welcome, &tree)).unwrap();
    if lively {
        for other in &mut others {
            other.call(|engine, cx, own| engine.join(cx, own, &welcome, &tree)).unwrap();
            let sealed = other.call(|engine, cx, own| engine.seal(cx, own, THREAD, b"hello")).unwrap();
            bob.call(|engine, cx, own| engine.open(cx, own, THREAD, &sealed.body)).unwrap();
        }
        let what = format!("{leaves} leaves, the engine's rows of a message opened, when every member has spoken");
        row("C6", &what, (bob.written as f64, "B"), ROWS_MAX, None);
    }
    (alice, bob)
}

/// C6, of which the node's own rows (text, dedup, place, thread) are a small part: node/src/tests.
const ROWS_MAX: f64 = 12.0 * 1_024.0;

/// CPU seconds of the messages, and the greatest rows of one opened.
fn our_messages(alice: &mut Person, bob: &mut Person, leaves: u32) -> (f64, usize) {
    // No two contents are alike: a signature that was found valid is not computed again.
    let mut content = [7; 32];
    let (mut sealed_bytes, mut opened_bytes, mut most) = (0, 0, 0);
    let start = cpu();
    for round in 0..ROUNDS {
        content[..8].copy_from_slice(&round.to_be_bytes());
        let sealed = alice.call(|engine, cx, own| engine.seal(cx, own, THREAD, &content)).unwrap();
        sealed_bytes += alice.written;
        bob.call(|engine, cx, own| engine.open(cx, own, THREAD, &sealed.body)).unwrap();
        opened_bytes += bob.written;
        most = most.max(bob.written);
    }
    let spent = cpu() - start;
    println!(
        "    {leaves} leaves: rows of a message, mean sealed {} B, opened {} B",
        sealed_bytes / ROUNDS,
        opened_bytes / ROUNDS,
    );
    // Messages lost on the way leave their keys behind: every second one is missing.
    for round in 0..ROUNDS {
        content[8..16].copy_from_slice(&round.to_be_bytes());
        alice.call(|engine, cx, own| engine.seal(cx, own, THREAD, &content)).unwrap();
        let sealed = alice.call(|engine, cx, own| engine.seal(cx, own, THREAD, &content)).unwrap();
        bob.call(|engine, cx, own| engine.open(cx, own, THREAD, &sealed.body)).unwrap();
    }
    println!("    {leaves} leaves: rows of a message opened, with 512 keys kept for missing ones: {} B", bob.written);
    (spent, most)
}

/// C4: a text of 32 bytes with one parent, as it is handed in.
fn our_wire(alice: &mut Person) {
    let parent = MessageId::from_bytes([1; MessageId::LEN]);
    let text = Body::Text("a".repeat(32));
    let hlc = Hlc::default().tick(Wall::from_millis(1_700_000_000_000));
    let mut content = Content::new(MessageId::from_bytes([2; MessageId::LEN]), hlc, text);
    (content.parents, content.counter) = (vec![parent], Some(1_000));
    let content = canonical::encode(&content);
    let sealed = alice.call(|engine, cx, own| engine.seal(cx, own, THREAD, &content)).unwrap();
    let body = sealed.body.len();
    let envelope = Envelope { thread: THREAD, epoch: sealed.epoch, class: Class::Message, body: sealed.body };
    let request = RequestId::new(1_000);
    let frame = codec::encode(&Submit { request, envelope, heard: None }.into()).unwrap().len();
    let what = format!("32 B text with one parent ({} B of content), the whole frame", content.len());
    row("C4", &what, (frame as f64, "B"), 256.0 + 96.0, Some((body as f64, "the padded MLS message")));
}

/// Milliseconds it takes to stage an update and to follow it.
fn our_commit(alice: &mut Person, bob: &mut Person, leaves: u32) -> (f64, f64) {
    let start = cpu();
    let commit = alice.call(|engine, cx, own| engine.update(cx, own, THREAD)).unwrap();
    let staged = cpu() - start;
    alice.call(|engine, cx, own| engine.merge_own(cx, own, THREAD)).unwrap();
    let late = bob.call(|engine, cx, own| engine.seal(cx, own, THREAD, b"late")).unwrap();
    let start = cpu();
    bob.call(|engine, cx, own| engine.apply(cx, own, THREAD, &commit.commit)).unwrap();
    let applied = cpu() - start;
    println!(
        "    {leaves} leaves: an update of {} B, {} B of rows where it is followed",
        commit.commit.len(),
        bob.written
    );
    let start = cpu();
    alice.call(|engine, cx, own| engine.open(cx, own, THREAD, &late.body)).unwrap();
    println!("    {leaves} leaves: late message of the epoch before, {:.1} ms", (cpu() - start) * 1e3);
    let start = cpu();
    for _ in 0..LOADS {
        alice.engine = MlsEngine::new();
        alice.call(|engine, cx, _| engine.epoch(cx, THREAD)).unwrap();
    }
    println!(
        "    {leaves} leaves: group loaded from rows in {:.1} ms; all its rows {} B",
        (cpu() - start) * 1e3 / f64::from(LOADS),
        alice.disk.0.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>(),
    );
    (staged * 1e3, applied * 1e3)
}

/// A member by the library alone, with its own in-memory store.
struct Bare {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    credential: CredentialWithKey,
}

impl Bare {
    fn new() -> Self {
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).unwrap();
        let signature_key = signer.public().into();
        let credential = CredentialWithKey { credential: BasicCredential::new(vec![1; 42]).into(), signature_key };
        Self { provider: OpenMlsRustCrypto::default(), signer, credential }
    }

    fn package(&self) -> KeyPackage {
        let capabilities = Capabilities::new(None, Some(&[SUITE]), None, None, None);
        let builder = KeyPackage::builder().leaf_node_capabilities(capabilities);
        let package = builder.build(SUITE, &self.provider, &self.signer, self.credential.clone()).unwrap();
        package.key_package().clone()
    }

    /// All it stores.
    fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.provider.storage().values.read().unwrap().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

fn ratchet() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(limits::RATCHET_OUT_OF_ORDER, limits::RATCHET_FORWARD)
}

/// The same thread by the library alone, in commits of 100: CPU seconds, everybody, the group and the last Welcome.
fn bare_made(leaves: u32) -> (f64, Bare, Vec<Bare>, MlsGroup, MlsMessageOut) {
    let create = MlsGroupCreateConfig::builder()
        .ciphersuite(SUITE)
        .padding_size(178)
        .capabilities(Capabilities::new(None, Some(&[SUITE]), None, None, None))
        .sender_ratchet_configuration(ratchet())
        .build();
    let alice = Bare::new();
    let others: Vec<_> = (1..leaves).map(|_| Bare::new()).collect();
    let packages: Vec<_> = others.iter().map(Bare::package).collect();
    let id = GroupId::from_slice(THREAD.as_bytes());
    let start = cpu();
    let credential = alice.credential.clone();
    let mut group = MlsGroup::new_with_group_id(&alice.provider, &alice.signer, &create, id, credential).unwrap();
    let mut last = None;
    for batch in packages.chunks(limits::COMMIT_ADDS_MAX) {
        let (_, welcome, _) = group.add_members(&alice.provider, &alice.signer, batch).unwrap();
        group.merge_pending_commit(&alice.provider).unwrap();
        last = Some(welcome);
    }
    (cpu() - start, alice, others, group, last.unwrap())
}

/// What the library alone takes: CPU seconds of the messages, bytes it stores anew for one opened, milliseconds of an update
/// staged and followed.
fn bare(leaves: u32) -> (f64, usize, (f64, f64)) {
    let (_, alice, mut others, mut group, welcome) = bare_made(leaves);
    let bob = others.pop().unwrap();
    let welcome = MlsMessageIn::tls_deserialize_exact(welcome.tls_serialize_detached().unwrap()).unwrap();
    let MlsMessageBodyIn::Welcome(welcome) = welcome.extract() else { panic!("no welcome") };
    let tree = group.export_ratchet_tree().into();
    let join = MlsGroupJoinConfig::builder()
        .padding_size(178)
        .use_ratchet_tree_extension(false)
        .sender_ratchet_configuration(ratchet())
        .build();
    let staged = StagedWelcome::new_from_welcome(&bob.provider, &join, welcome, Some(tree)).unwrap();
    let mut theirs = staged.into_group(&bob.provider).unwrap();
    let parse = |out: MlsMessageOut| {
        let bytes = out.tls_serialize_detached().unwrap();
        MlsMessageIn::tls_deserialize_exact(bytes).unwrap().try_into_protocol_message().unwrap()
    };
    let start = cpu();
    for _ in 0..ROUNDS {
        let message = parse(group.create_message(&alice.provider, &alice.signer, &[7; 32]).unwrap());
        theirs.process_message(&bob.provider, message).unwrap();
    }
    let messages = cpu() - start;
    let before = bob.rows();
    let message = parse(group.create_message(&alice.provider, &alice.signer, &[7; 32]).unwrap());
    theirs.process_message(&bob.provider, message).unwrap();
    let changed = |(key, value): &(&Vec<u8>, &Vec<u8>)| before.get(*key) != Some(*value);
    let rows = bob.rows().iter().filter(changed).map(|(key, value)| key.len() + value.len()).sum();
    let start = cpu();
    let update = group.self_update(&alice.provider, &alice.signer, LeafNodeParameters::default()).unwrap();
    let staged = cpu() - start;
    let update = parse(update.into_commit());
    let start = cpu();
    let ProcessedMessageContent::StagedCommitMessage(commit) =
        theirs.process_message(&bob.provider, update).unwrap().into_content()
    else {
        panic!("no commit")
    };
    theirs.merge_staged_commit(&bob.provider, *commit).unwrap();
    (messages, rows, (staged * 1e3, (cpu() - start) * 1e3))
}

/// What it costs a hub to judge the changes of a thread of so many leaves.
fn hub(leaves: u32) {
    let engine = MlsPublic::new();
    let mut people: Vec<_> = (0..leaves).map(Person::new).collect();
    let invitees: Vec<_> = people[1..].iter_mut().map(Person::invitee).collect();
    let mut batches = invitees.chunks(limits::COMMIT_ADDS_MAX);
    let first = batches.next().unwrap();
    let created = people[0].call(|engine, cx, own| engine.create(cx, own, THREAD, first)).unwrap();
    let start = cpu();
    let mut public = engine.found(THREAD, &created.tree, &created.info).unwrap();
    println!("C9  {leaves:>5} leaves: an opening of {} judged in {:.1} CPU ms", first.len() + 1, (cpu() - start) * 1e3);
    let (mut welcome, mut tree) = (created.welcome, created.tree);
    for batch in batches {
        let commit = people[0].call(|engine, cx, own| engine.add(cx, own, THREAD, batch)).unwrap();
        people[0].call(|engine, cx, own| engine.merge_own(cx, own, THREAD)).unwrap();
        let start = cpu();
        public.prove(&commit.commit).unwrap();
        public.follow(&commit.commit).unwrap();
        println!("C9  {leaves:>5} leaves: a commit that adds {} in {:.1} CPU ms", batch.len(), (cpu() - start) * 1e3);
        (welcome, tree) = (commit.welcome.unwrap(), commit.tree);
    }
    // Ten at most of those the last Welcome is for come in, and renew their keys in turn.
    let step = (leaves / 10).max(2) as usize;
    let mut active: Vec<_> = people.into_iter().skip(1).step_by(step).collect();
    active.retain_mut(|person| person.call(|engine, cx, own| engine.join(cx, own, &welcome, &tree)).is_ok());
    let first = public.save().unwrap();
    let (mut proving, mut log) = (0.0, Vec::new());
    for _ in 0..3 {
        for author in 0..active.len() {
            let commit = active[author].call(|engine, cx, own| engine.update(cx, own, THREAD)).unwrap();
            active[author].call(|engine, cx, own| engine.merge_own(cx, own, THREAD)).unwrap();
            for (_, other) in active.iter_mut().enumerate().filter(|(other, _)| *other != author) {
                other.call(|engine, cx, own| engine.apply(cx, own, THREAD, &commit.commit)).unwrap();
            }
            let start = cpu();
            (0..LOADS).for_each(|_| drop(public.prove(&commit.commit).unwrap()));
            proving += cpu() - start;
            public.follow(&commit.commit).unwrap();
            log.push(commit.commit);
        }
    }
    let commits = log.len();
    println!(
        "C9  {leaves:>5} leaves: {commits} renewals of {} bytes proved in {:.2} CPU ms each",
        log.iter().map(Vec::len).sum::<usize>() / commits,
        proving * 1e3 / (f64::from(LOADS) * commits as f64),
    );
    let start = cpu();
    for _ in 0..LOADS {
        let mut again = engine.restore(THREAD, &first).unwrap();
        log.iter().for_each(|commit| again.follow(commit).unwrap());
    }
    let rebuilt = (cpu() - start) * 1e3 / f64::from(LOADS);
    let start = cpu();
    let saved = (0..LOADS).map(|_| public.save().unwrap()).last().unwrap();
    let middle = cpu();
    (0..LOADS).for_each(|_| drop(engine.restore(THREAD, &saved).unwrap()));
    let (saving, restoring) = (middle - start, cpu() - middle);
    println!(
        "C9  {leaves:>5} leaves: {} bytes saved in {:.2} CPU ms, restored in {:.2}; with those commits in {rebuilt:.1}",
        saved.len(),
        saving * 1e3 / f64::from(LOADS),
        restoring * 1e3 / f64::from(LOADS),
    );
}

fn main() {
    [10, 100, 500, 1_000].into_iter().for_each(hub);
    if std::env::args().any(|arg| arg == "hub") {
        return;
    }
    let by = |floor: f64| Some((floor, "bare library"));
    our_wire(&mut ours(2, false).0);
    let (made, floor) = (made(ADDED + 1).0, bare_made(ADDED + 1).0);
    row("C3", "a thread is made and 500 devices added, in commits of 100", (made, "CPU s"), 5.0, by(floor));
    for leaves in [2, 100, 1_000] {
        if leaves == 100 {
            ours(leaves, true);
        }
        let (mut alice, mut bob) = ours(leaves, false);
        let (ours, most) = our_messages(&mut alice, &mut bob, leaves);
        let (messages, rows, (bare_staged, bare_applied)) = bare(leaves);
        let each = |seconds: f64| seconds * 1e6 / ROUNDS as f64;
        let what = format!("{leaves} leaves, seal and open 32 B");
        row("C1", &what, (each(ours), "CPU us"), each(messages) * 1.3, by(each(messages)));
        let what = format!("{leaves} leaves, the engine's rows of a message opened, most of {ROUNDS}");
        row("C6", &what, (most as f64, "B"), ROWS_MAX, by(rows as f64));
        let (staged, applied) = our_commit(&mut alice, &mut bob, leaves);
        row("C2", &format!("{leaves} leaves, an update followed"), (applied, "CPU ms"), 200.0, by(bare_applied));
        println!("    {leaves} leaves: the update staged in {staged:.1} ms; bare library {bare_staged:.1} ms");
    }
    println!("    most memory of this process, which plays every member: {:.0} MiB", memory_mib());
}
