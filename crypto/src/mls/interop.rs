//! Another implementation of RFC 9420 in one group with ours: mls-rs, on its own cryptography.
//! Owns: the proof that what leaves this engine is MLS, and that what the standard allows is taken. In the mandatory
//! classical suite (RFC 9420 §17.1), for no two implementations have the hybrid one at the same code point yet. No engine
//! outside of these tests can be made with it.

use std::time::Duration;

use mls_rs::client_builder::MlsConfig;
use mls_rs::group::{CommitEffect, ExportedTree, ReceivedMessage};
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules};
use mls_rs::time::MlsTime;
use mls_rs::{CipherSuite, Client, Extension, ExtensionList, Group, MlsMessage};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use openmls_traits::types::Ciphersuite;
use whimbrel_protocol::id::{AccountId, DeviceId, DeviceIndex, Epoch, PublicKey};
use whimbrel_protocol::limits;

use super::{MlsEngine, leaf};
use crate::contract::{Person, THREAD};
use crate::engine::{Engine, EngineError, Invitee, KeyPackageFault};
use crate::keys::KeyPair;

/// Before a KeyPackage as it stands alone, in an MLSMessage (RFC 9420 §6): version and wire format.
const KEY_PACKAGE_MESSAGE: [u8; 4] = [0, 1, 0, 5];

/// When people of the contract live, in seconds since 1970.
const NOW: u64 = 20_000 * 86_400;

fn ours(number: u8) -> Person {
    fn classical() -> Box<dyn Engine> {
        Box::new(MlsEngine::of(Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519))
    }
    Person::new(number, classical)
}

/// A member that runs the other implementation.
struct Theirs<C> {
    id: DeviceId,
    device: PublicKey,
    client: C,
}

fn theirs(number: u8) -> Theirs<Client<impl MlsConfig>> {
    theirs_of(number, CipherSuite::CURVE25519_AES128, Duration::from_secs(u64::MAX))
}

/// The same in another suite, or with leaves that are good for so long.
fn theirs_of(number: u8, suite: CipherSuite, lifetime: Duration) -> Theirs<Client<impl MlsConfig>> {
    let id = DeviceId { account: AccountId::from_bytes([number; 32]), index: DeviceIndex::FIRST };
    let seed = [number; 32];
    let device = KeyPair::from_seed_bytes(seed).public();
    let credential = BasicCredential::new(minicbor::to_vec(id).unwrap()).into_credential();
    let identity = SigningIdentity::new(credential, device.as_bytes().to_vec().into());
    let secret = [seed, *device.as_bytes()].concat().into();
    let rules = DefaultMlsRules::new().with_commit_options(CommitOptions::new().with_ratchet_tree_extension(false));
    let client = Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![suite]))
        .extension_types([leaf::LIFETIME, 10].map(Into::into))
        .key_package_lifetime(lifetime)
        .mls_rules(rules)
        .signing_identity(identity, secret, suite)
        .build();
    Theirs { id, device, client }
}

impl<C: MlsConfig> Theirs<Client<C>> {
    fn invitee(&self) -> Invitee {
        self.invitee_within(Some((NOW, NOW + limits::KEY_PACKAGE_AGE_MAX.as_secs())))
    }

    /// With a KeyPackage that says to hold from then until then, in seconds, or does not say.
    fn invitee_within(&self, dates: Option<(u64, u64)>) -> Invitee {
        let dates = dates.map(|(from, until)| [from.to_be_bytes(), until.to_be_bytes()].concat());
        let dates = dates.map(|dates| Extension::new(leaf::LIFETIME.into(), dates));
        let extensions = ExtensionList::from(dates.into_iter().collect::<Vec<_>>());
        let since = Some(MlsTime::from(0_u64));
        let message = self.client.generate_key_package_message(extensions, ExtensionList::new(), since).unwrap();
        let message = message.to_bytes().unwrap();
        assert_eq!(message[..4], KEY_PACKAGE_MESSAGE);
        Invitee { id: self.id, device_key: self.device, key_package: message[4..].to_vec() }
    }

    fn join(&self, welcome: &[u8], tree: &[u8]) -> Group<C> {
        let (welcome, tree) = (MlsMessage::from_bytes(welcome).unwrap(), ExportedTree::from_bytes(tree).unwrap());
        self.client.join_group(Some(tree), &welcome, None).unwrap().0
    }
}

fn seal<C: MlsConfig>(group: &mut Group<C>, text: &str) -> Vec<u8> {
    group.encrypt_application_message(text.as_bytes(), Vec::new()).unwrap().to_bytes().unwrap()
}

fn reads<C: MlsConfig>(group: &mut Group<C>, body: &[u8]) -> String {
    match group.process_incoming_message(MlsMessage::from_bytes(body).unwrap()).unwrap() {
        ReceivedMessage::ApplicationMessage(message) => String::from_utf8(message.data().to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn apply<C: MlsConfig>(group: &mut Group<C>, commit: &[u8]) {
    let taken = group.process_incoming_message(MlsMessage::from_bytes(commit).unwrap()).unwrap();
    assert!(matches!(taken, ReceivedMessage::Commit(_)), "{taken:?}");
}

fn package<C: MlsConfig>(group: &Group<C>, invitee: &Invitee) -> MlsMessage {
    assert!(!group.group_id().is_empty());
    MlsMessage::from_bytes(&[&KEY_PACKAGE_MESSAGE[..], &invitee.key_package].concat()).unwrap()
}

/// Both read what each says, in the present epoch.
fn talk<C: MlsConfig>(one: &mut Person, other: &mut Group<C>, round: &str) {
    assert_eq!(one.epoch(), other.current_epoch());
    let (here, there) = (format!("{round}: from ours"), format!("{round}: from theirs"));
    let sealed = one.seal(&here);
    assert_eq!(reads(other, &sealed.body), here);
    assert_eq!(one.reads(&seal(other, &there)), there);
}

#[test]
fn mls_rs_joins_a_group_of_ours_and_lives_through_its_changes() {
    let (mut alice, mut bob, carol) = (ours(1), ours(2), theirs(3));
    let invitee = carol.invitee();
    let created = alice.call(|engine, cx, own| engine.create(cx, own, THREAD, &[invitee])).unwrap();
    let mut group = carol.join(&created.welcome, &created.tree);
    assert_eq!(group.group_id(), THREAD.as_bytes());
    talk(&mut alice, &mut group, "made");

    // We take somebody in; they apply it.
    let added = alice.add(&[bob.invitee()]);
    alice.merge_own().unwrap();
    apply(&mut group, &added.commit);
    bob.join(added.welcome.as_ref().unwrap(), &added.tree).unwrap();
    talk(&mut alice, &mut group, "grown");
    talk(&mut bob, &mut group, "grown");

    // They renew their keys; we apply it. What was sealed before is read after.
    let early = seal(&mut group, "before the change");
    let commit = group.commit(Vec::new()).unwrap().commit_message.to_bytes().unwrap();
    group.apply_pending_commit().unwrap();
    assert_eq!(alice.apply(&commit).unwrap(), Epoch::new(3));
    assert_eq!(bob.apply(&commit).unwrap(), Epoch::new(3));
    assert_eq!(alice.reads(&early), "before the change");
    talk(&mut alice, &mut group, "renewed");

    // They take somebody out, then we take them out.
    let bobs = group.roster().members_iter().find(|member| member.index == 2).unwrap().index;
    let commit = group.commit_builder().remove_member(bobs).unwrap().build().unwrap();
    group.apply_pending_commit().unwrap();
    alice.apply(&commit.commit_message.to_bytes().unwrap()).unwrap();
    assert_eq!(alice.members().unwrap().len(), 2);
    talk(&mut alice, &mut group, "shrunk");
    let removed = alice.call(|engine, cx, own| engine.remove(cx, own, THREAD, &[carol.id])).unwrap();
    alice.merge_own().unwrap();
    let taken = group.process_incoming_message(MlsMessage::from_bytes(&removed.commit).unwrap()).unwrap();
    let out =
        matches!(&taken, ReceivedMessage::Commit(commit) if matches!(commit.effect, CommitEffect::Removed { .. }));
    assert!(out, "{taken:?}");
    assert_eq!(alice.members().unwrap(), [(alice.id, alice.device.public())]);
}

#[test]
fn we_join_a_group_of_mls_rs_and_live_through_its_changes() {
    let (mut alice, mut bob, carol) = (ours(1), ours(2), theirs(3));
    let id = THREAD.as_bytes().to_vec();
    let since = Some(MlsTime::from(0_u64));
    let mut group = carol.client.create_group_with_id(id, ExtensionList::new(), ExtensionList::new(), since).unwrap();
    let invitee = package(&group, &alice.invitee());
    let added = group.commit_builder().add_member(invitee).unwrap().build().unwrap();
    group.apply_pending_commit().unwrap();
    let (welcome, tree) = (&added.welcome_messages[0], group.export_tree().to_bytes().unwrap());
    let joined = alice.join(&welcome.to_bytes().unwrap(), &tree).unwrap();
    assert_eq!((joined.thread, joined.epoch, joined.members.len()), (THREAD, Epoch::new(1), 2));
    talk(&mut alice, &mut group, "made");

    // Each of us takes a turn at changing it.
    let added = alice.add(&[bob.invitee()]);
    alice.merge_own().unwrap();
    apply(&mut group, &added.commit);
    bob.join(added.welcome.as_ref().unwrap(), &added.tree).unwrap();
    talk(&mut bob, &mut group, "grown");
    let update = bob.update();
    bob.merge_own().unwrap();
    alice.apply(&update.commit).unwrap();
    apply(&mut group, &update.commit);
    talk(&mut alice, &mut group, "renewed");

    // Out of order within an epoch, from either side.
    let sealed: Vec<_> = (0..5).map(|n| seal(&mut group, &n.to_string())).collect();
    let read: Vec<_> = sealed.iter().rev().map(|body| bob.reads(body)).collect();
    assert_eq!(read, ["4", "3", "2", "1", "0"]);
    let sealed: Vec<_> = (0..5).map(|n| bob.seal(&n.to_string()).body).collect();
    let read: Vec<_> = sealed.iter().rev().map(|body| reads(&mut group, body)).collect();
    assert_eq!(read, ["4", "3", "2", "1", "0"]);
}

/// What our engine finds wrong with a KeyPackage of theirs.
fn fault(judge: &mut Person, invitee: &Invitee) -> Option<KeyPackageFault> {
    match judge.call(|engine, cx, _| engine.check_key_package(cx, invitee)) {
        Ok(()) => None,
        Err(EngineError::KeyPackage { device, fault }) => {
            assert_eq!(device, invitee.id);
            Some(fault)
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn t12_key_packages_of_mls_rs_are_judged_by_their_device_suite_and_dates() {
    let mut alice = ours(1);
    let always = Duration::from_secs(u64::MAX);
    let bob = theirs(2);
    let good = bob.invitee();
    assert_eq!(fault(&mut alice, &good), None);
    // Another's, well made and well signed; and theirs, by whoever the log names otherwise.
    let carol = theirs(3);
    let others = Invitee { key_package: carol.invitee().key_package, ..good.clone() };
    assert_eq!(fault(&mut alice, &others), Some(KeyPackageFault::Credential));
    let renamed = Invitee { device_key: carol.device, ..good.clone() };
    assert_eq!(fault(&mut alice, &renamed), Some(KeyPackageFault::DeviceKey));
    let chacha = theirs_of(2, CipherSuite::CURVE25519_CHACHA, always);
    assert_eq!(fault(&mut alice, &chacha.invitee()), Some(KeyPackageFault::Suite));
    // Expired, not valid yet, for too long, without dates of ours; and by the leaf's own dates, which are to be none.
    let (day, most) = (86_400, limits::KEY_PACKAGE_AGE_MAX.as_secs());
    let beyond = limits::CERTIFICATE_TOLERANCE.as_secs() + 1;
    for (dates, fine) in [
        (Some((NOW - most, NOW)), true),
        (Some((NOW - 3 * day - beyond, NOW - beyond)), false),
        (Some((NOW + beyond, NOW + beyond + day)), false),
        (Some((NOW, NOW + most + 1)), false),
        (Some((0, u64::MAX)), false),
        (Some((u64::MAX, 0)), false),
        (None, false),
    ] {
        let found = fault(&mut alice, &bob.invitee_within(dates));
        assert_eq!(found, (!fine).then_some(KeyPackageFault::Lifetime), "{dates:?}");
    }
    let brief = theirs_of(2, CipherSuite::CURVE25519_AES128, always / 2);
    assert_eq!(fault(&mut alice, &brief.invitee()), Some(KeyPackageFault::Lifetime));
    // None of them takes anybody in, and the good one does.
    for refused in [others, chacha.invitee(), bob.invitee_within(None)] {
        assert!(alice.call(|engine, cx, own| engine.create(cx, own, THREAD, &[refused])).is_err());
    }
    let created = alice.call(|engine, cx, own| engine.create(cx, own, THREAD, std::slice::from_ref(&good))).unwrap();
    let mut group = bob.join(&created.welcome, &created.tree);
    talk(&mut alice, &mut group, "by the good one");
}
