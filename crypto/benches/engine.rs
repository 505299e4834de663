//! Engine: what sealing costs, against the bare library in the same run.
//! Prints CPU seconds of this thread, bytes on the wire, bytes of rows written. Budgets C1 to C4 and C6; ratios are
//! what count, wall clocks are not read.

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
use whimbrel_crypto::{Chance, Context, Engine, Invitee, KeyPair, MlsEngine, Own, Seed};
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, ThreadId};
use whimbrel_protocol::limits;
use whimbrel_protocol::time::{Now, Wall};
use whimbrel_storage::{Order, Overlay, Reads, Row, StorageError};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519;
const THREAD: ThreadId = ThreadId::from_bytes([0x77; 32]);
const ROUNDS: usize = 1_000;
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

/// Alice and Bob in a thread of so many leaves, Bob invited last; in a small one everybody has spoken when `lively`.
fn ours(leaves: u32, lively: bool) -> (Person, Person) {
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
    println!("C3  {leaves:>5} leaves: made and merged in {:.2} CPU s, in commits of 100", cpu() - start);
    let mut bob = others.pop().unwrap();
    bob.call(|engine, cx, own| engine.join(cx, own, &welcome, &tree)).unwrap();
    if lively {
        for other in &mut others {
            other.call(|engine, cx, own| engine.join(cx, own, &welcome, &tree)).unwrap();
            let sealed = other.call(|engine, cx, own| engine.seal(cx, own, THREAD, b"hello")).unwrap();
            bob.call(|engine, cx, own| engine.open(cx, own, THREAD, &sealed.body)).unwrap();
        }
        println!("C6  {leaves:>5} leaves: opened, when every member has spoken: {} bytes", bob.written);
    }
    (alice, bob)
}

fn our_messages(alice: &mut Person, bob: &mut Person, leaves: u32) -> f64 {
    let content = [7; 32];
    let (mut sealed_bytes, mut opened_bytes, mut most, mut wire) = (0, 0, 0, 0);
    let start = cpu();
    for _ in 0..ROUNDS {
        let sealed = alice.call(|engine, cx, own| engine.seal(cx, own, THREAD, &content)).unwrap();
        sealed_bytes += alice.written;
        wire = sealed.body.len();
        bob.call(|engine, cx, own| engine.open(cx, own, THREAD, &sealed.body)).unwrap();
        opened_bytes += bob.written;
        most = most.max(bob.written);
    }
    let spent = cpu() - start;
    println!("C4  {leaves:>5} leaves: 32 B content, {wire} B on the wire");
    println!(
        "C6  {leaves:>5} leaves: bytes in the batch, mean sealed {} opened {}, most opened {most}",
        sealed_bytes / ROUNDS,
        opened_bytes / ROUNDS,
    );
    // Messages lost on the way leave their keys behind: every second one is missing.
    for _ in 0..ROUNDS {
        alice.call(|engine, cx, own| engine.seal(cx, own, THREAD, &content)).unwrap();
        let sealed = alice.call(|engine, cx, own| engine.seal(cx, own, THREAD, &content)).unwrap();
        bob.call(|engine, cx, own| engine.open(cx, own, THREAD, &sealed.body)).unwrap();
    }
    println!("C6  {leaves:>5} leaves: opened, with 512 keys kept for missing messages: {} bytes", bob.written);
    spent
}

fn our_commit(alice: &mut Person, bob: &mut Person, leaves: u32) {
    let start = cpu();
    let commit = alice.call(|engine, cx, own| engine.update(cx, own, THREAD)).unwrap();
    let staged = cpu() - start;
    alice.call(|engine, cx, own| engine.merge_own(cx, own, THREAD)).unwrap();
    let late = bob.call(|engine, cx, own| engine.seal(cx, own, THREAD, b"late")).unwrap();
    let start = cpu();
    bob.call(|engine, cx, own| engine.apply(cx, own, THREAD, &commit.commit)).unwrap();
    let applied = cpu() - start;
    println!(
        "C2  {leaves:>5} leaves: update of {} B staged in {:.1} ms, applied in {:.1} ms, {} B of rows",
        commit.commit.len(),
        staged * 1e3,
        applied * 1e3,
        bob.written,
    );
    let start = cpu();
    alice.call(|engine, cx, own| engine.open(cx, own, THREAD, &late.body)).unwrap();
    println!("    {leaves:>5} leaves: late message of the epoch before, {:.1} ms", (cpu() - start) * 1e3);
    let start = cpu();
    for _ in 0..LOADS {
        alice.engine = MlsEngine::new();
        alice.call(|engine, cx, _| engine.epoch(cx, THREAD)).unwrap();
    }
    println!(
        "    {leaves:>5} leaves: group loaded from rows in {:.1} ms; all its rows {} B",
        (cpu() - start) * 1e3 / f64::from(LOADS),
        alice.disk.0.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>(),
    );
}

/// The same messages by the library alone, with its own in-memory store.
fn bare_messages(leaves: u32) -> f64 {
    let member = || {
        let provider = OpenMlsRustCrypto::default();
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).unwrap();
        let credential = CredentialWithKey {
            credential: BasicCredential::new(vec![1; 42]).into(),
            signature_key: signer.public().into(),
        };
        (provider, signer, credential)
    };
    let capabilities = Capabilities::new(None, Some(&[SUITE]), None, None, None);
    let ratchet = SenderRatchetConfiguration::new(limits::RATCHET_OUT_OF_ORDER, limits::RATCHET_FORWARD);
    let join = MlsGroupJoinConfig::builder()
        .padding_size(178)
        .use_ratchet_tree_extension(false)
        .sender_ratchet_configuration(ratchet)
        .build();
    let create = MlsGroupCreateConfig::builder()
        .ciphersuite(SUITE)
        .padding_size(178)
        .capabilities(capabilities.clone())
        .sender_ratchet_configuration(ratchet)
        .build();
    let (alice_provider, alice_signer, alice_credential) = member();
    let group_id = GroupId::from_slice(THREAD.as_bytes());
    let mut alice =
        MlsGroup::new_with_group_id(&alice_provider, &alice_signer, &create, group_id, alice_credential).unwrap();
    let mut others: Vec<_> = (1..leaves)
        .map(|_| {
            let (provider, signer, credential) = member();
            let package = KeyPackage::builder()
                .leaf_node_capabilities(capabilities.clone())
                .build(SUITE, &provider, &signer, credential)
                .unwrap();
            (provider, package.key_package().clone())
        })
        .collect();
    let packages: Vec<_> = others.iter().map(|(_, package)| package.clone()).collect();
    let (_, welcome, _) = alice.add_members(&alice_provider, &alice_signer, &packages).unwrap();
    alice.merge_pending_commit(&alice_provider).unwrap();
    let (bob_provider, _) = others.pop().unwrap();
    let welcome = MlsMessageIn::tls_deserialize_exact(welcome.tls_serialize_detached().unwrap()).unwrap();
    let MlsMessageBodyIn::Welcome(welcome) = welcome.extract() else { panic!("no welcome") };
    let tree = alice.export_ratchet_tree().into();
    let mut bob = StagedWelcome::new_from_welcome(&bob_provider, &join, welcome, Some(tree))
        .unwrap()
        .into_group(&bob_provider)
        .unwrap();
    let start = cpu();
    for _ in 0..ROUNDS {
        let sealed = alice.create_message(&alice_provider, &alice_signer, &[7; 32]).unwrap();
        let bytes = sealed.tls_serialize_detached().unwrap();
        let message = MlsMessageIn::tls_deserialize_exact(bytes).unwrap().try_into_protocol_message().unwrap();
        bob.process_message(&bob_provider, message).unwrap();
    }
    cpu() - start
}

fn main() {
    for leaves in [2, 100, 1_000] {
        if leaves == 100 {
            ours(leaves, true);
        }
        let (mut alice, mut bob) = ours(leaves, false);
        let ours = our_messages(&mut alice, &mut bob, leaves);
        let bare = bare_messages(leaves);
        println!(
            "C1  {leaves:>5} leaves: seal and open {:.0} us, bare library {:.0} us: {:.2}x",
            ours * 1e6 / ROUNDS as f64,
            bare * 1e6 / ROUNDS as f64,
            ours / bare,
        );
        our_commit(&mut alice, &mut bob, leaves);
    }
}
