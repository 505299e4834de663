#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::chance::Seed;

fn key(byte: u8) -> KeyPair {
    KeyPair::from_seed_bytes([byte; 32])
}

fn alice() -> AccountLog {
    let mut chance = Chance::from_seed(Seed::from_bytes([1; 32]));
    let phrase = crate::RecoveryPhrase::generate(&mut chance);
    AccountLog::genesis(&key(1), phrase.recovery_hash(), Hlc { millis: 1_000, count: 0 }, &mut chance)
}

fn add(log: &mut AccountLog, index: u32, device: u8) -> Result<(), LogError> {
    let (index, transport) = (DeviceIndex::new(index), key(device + 100));
    let device = key(device).public();
    let transport = TransportProof::make(&transport, log.account(), index, &device);
    log.add_device(&key(1), index, device, transport, "Alice's phone", Hlc { millis: 2_000, count: 3 })
}

fn alice_with_devices(count: u8) -> AccountLog {
    let mut log = alice();
    for index in 0..count {
        add(&mut log, u32::from(index), index + 2).unwrap();
    }
    log
}

/// Signs any body, as a hostile owner could.
fn forged(log: &AccountLog, seq: u64, prev: Option<LogHash>, operation: Operation) -> UnverifiedLog {
    let entry = entry::sign(&key(1), &Body { seq, prev, hlc: Hlc::default(), operation });
    let entries: Vec<Vec<u8>> = log.entries.iter().map(|entry| entry.bytes.clone()).chain([entry]).collect();
    UnverifiedLog(entry::join(entries.iter().map(Vec::as_slice)))
}

/// The word of key 31 for device key 30.
fn proof(log: &AccountLog, index: DeviceIndex) -> Signature {
    TransportProof::make(&key(31), log.account(), index, &key(30).public()).proof
}

#[test]
fn a_log_that_was_sent_verifies_to_the_same_log() {
    let log = alice_with_devices(3);
    let read = UnverifiedLog(log.bytes()).verify().unwrap();
    assert_eq!(read, log);
    assert_eq!(read.bytes(), log.bytes());
    assert_eq!(read.devices().count(), 3);
    assert_eq!(read.device(DeviceIndex::new(1)).unwrap().device_key, key(3).public());
    assert_eq!(read.device(DeviceIndex::new(1)).unwrap().label, "Alice's phone");
    assert_eq!(read.identity_key(), key(1).public());
    assert_eq!(read.head().0, 3);
    assert_eq!(read.next_index(), DeviceIndex::new(3));
}

#[test]
fn the_account_id_is_the_hash_of_the_whole_first_entry() {
    let log = alice();
    assert_eq!(log.account().as_bytes(), log.head().1.as_bytes());
    assert_eq!(alice_with_devices(2).account(), log.account());
}

#[test]
fn a_longer_log_takes_the_place_of_a_shorter_and_a_fork_of_neither() {
    let short = alice_with_devices(1);
    let long = alice_with_devices(2);
    let mut fork = short.clone();
    add(&mut fork, 1, 50).unwrap();
    assert_eq!(long.relation(&short), Relation::Longer);
    assert_eq!(short.relation(&long), Relation::Shorter);
    assert_eq!(short.relation(&short.clone()), Relation::Same);
    assert_eq!(long.relation(&fork), Relation::Fork);
    assert!(long.extends(&short));
    assert!(!short.extends(&long) && !short.extends(&short.clone()) && !fork.extends(&long));
    // A fork further back is one, however much follows it.
    add(&mut fork, 2, 51).unwrap();
    assert_eq!(fork.relation(&long), Relation::Fork);
}

#[test]
fn a_strangers_key_adds_no_device() {
    let mut log = alice();
    let before = log.clone();
    let device = key(2).public();
    let transport = TransportProof::make(&key(3), log.account(), DeviceIndex::FIRST, &device);
    let hlc = Hlc { millis: 1, count: 0 };
    let added = log.add_device(&key(9), DeviceIndex::FIRST, device, transport, "x", hlc);
    assert_eq!(added, Err(LogError::Signature { seq: 1 }));
    assert_eq!(log, before);
}

#[test]
fn device_indices_start_from_zero_and_only_grow() {
    let mut log = alice();
    assert_eq!(add(&mut log, 1, 2), Err(LogError::Index { seq: 1 }));
    add(&mut log, 0, 2).unwrap();
    assert_eq!(add(&mut log, 0, 3), Err(LogError::Index { seq: 2 }));
    add(&mut log, 5, 3).unwrap();
    assert_eq!(add(&mut log, 4, 4), Err(LogError::Index { seq: 3 }));
}

#[test]
fn an_account_has_a_bounded_number_of_devices() {
    let mut log = alice_with_devices(10);
    assert_eq!(add(&mut log, 10, 20), Err(LogError::Devices { seq: 11 }));
}

#[test]
fn one_key_never_does_two_jobs() {
    let log = alice_with_devices(1);
    let index = DeviceIndex::new(1);
    let add = |device: u8, transport: u8| {
        let device = key(device).public();
        let transport = TransportProof::make(&key(transport), log.account(), index, &device);
        log.clone().add_device(&key(1), index, device, transport, "", Hlc::default())
    };
    let (old_device, old_transport, identity) = (2, 102, 1);
    let (new, other) = (3, 4);
    for (device, transport) in
        [(new, new), (old_device, new), (old_transport, new), (new, old_device), (new, old_transport), (identity, new)]
    {
        assert_eq!(add(device, transport), Err(LogError::Key { seq: 2 }));
    }
    // A key of small order would let anybody sign.
    let device = key(new).public();
    let mut transport = TransportProof::make(&key(other), log.account(), index, &device);
    transport.key = PublicKey::from_bytes([0; 32]);
    let added = log.clone().add_device(&key(1), index, device, transport, "", Hlc::default());
    assert_eq!(added, Err(LogError::Key { seq: 2 }));
    add(new, other).unwrap();
}

#[test]
fn no_log_names_a_transport_key_without_that_key_s_word() {
    let bob = alice_with_devices(1);
    let bobs = bob.device(DeviceIndex::FIRST).unwrap().clone();
    // Mallory signs her own log, and copies all that Bob published of his device.
    let mut chance = Chance::from_seed(Seed::from_bytes([66; 32]));
    let phrase = crate::RecoveryPhrase::generate(&mut chance);
    let mut mallory = AccountLog::genesis(&key(66), phrase.recovery_hash(), Hlc::default(), &mut chance);
    let copied = TransportProof::make(&key(102), bob.account(), DeviceIndex::FIRST, &bobs.device_key);
    let own = TransportProof::make(&key(67), mallory.account(), DeviceIndex::FIRST, &bobs.device_key);
    let taken = TransportProof { key: bobs.transport_key, proof: own.proof };
    for (device, transport) in [(bobs.device_key, copied), (key(68).public(), copied), (bobs.device_key, taken)] {
        let added = mallory.add_device(&key(66), DeviceIndex::FIRST, device, transport, "", Hlc::default());
        assert_eq!(added, Err(LogError::Transport { seq: 1 }));
    }
    // A proof is for one place of one log.
    let (first, second) = (DeviceIndex::FIRST, DeviceIndex::new(1));
    let device = key(68).public();
    let elsewhere = TransportProof::make(&key(67), mallory.account(), second, &device);
    assert_eq!(
        mallory.add_device(&key(66), first, device, elsewhere, "", Hlc::default()),
        Err(LogError::Transport { seq: 1 })
    );
    let here = TransportProof::make(&key(67), mallory.account(), first, &device);
    mallory.add_device(&key(66), first, device, here, "", Hlc::default()).unwrap();
}

#[test]
fn labels_are_short_and_printable() {
    let mut log = alice();
    for label in ["x".repeat(limits::DEVICE_LABEL_BYTES_MAX + 1), "a\nb".to_owned(), "\u{1b}[2J".to_owned()] {
        let device = key(2).public();
        let transport = TransportProof::make(&key(3), log.account(), DeviceIndex::FIRST, &device);
        let added = log.add_device(&key(1), DeviceIndex::FIRST, device, transport, &label, Hlc::default());
        assert_eq!(added, Err(LogError::Label { seq: 1 }));
    }
}

#[test]
fn an_owner_cannot_break_the_chain() {
    let log = alice_with_devices(1);
    let (head, hash) = log.head();
    let add = || Operation::AddDevice {
        index: DeviceIndex::new(1),
        device: key(30).public(),
        transport: key(31).public(),
        label: String::new(),
        proof: proof(&log, DeviceIndex::new(1)),
    };
    forged(&log, head + 1, Some(hash), add()).verify().unwrap();
    assert_eq!(forged(&log, head, Some(hash), add()).verify(), Err(LogError::Chain { seq: 2 }));
    assert_eq!(forged(&log, head + 1, None, add()).verify(), Err(LogError::Chain { seq: 2 }));
    let elsewhere = LogHash::from_bytes([7; 32]);
    assert_eq!(forged(&log, head + 1, Some(elsewhere), add()).verify(), Err(LogError::Chain { seq: 2 }));
    let again = Operation::Genesis { identity: key(1).public(), recovery: [0; 32], nonce: [0; 16] };
    assert_eq!(forged(&log, head + 1, Some(hash), again).verify(), Err(LogError::Genesis { seq: 2 }));
}

#[test]
fn an_entry_of_a_later_kind_is_told_from_a_broken_one() {
    let log = alice();
    let (head, hash) = log.head();
    let operation = Operation::AddDevice {
        index: DeviceIndex::FIRST,
        device: key(30).public(),
        transport: key(31).public(),
        label: "marker".to_owned(),
        proof: proof(&log, DeviceIndex::FIRST),
    };
    let UnverifiedLog(mut bytes) = forged(&log, head + 1, Some(hash), operation);
    // The operation is [1, {0: index, ..}]; kind 9 is none of ours.
    let at = bytes.windows(4).rposition(|window| window == [0x82, 0x01, 0xa5, 0x00]).unwrap();
    bytes[at + 1] = 9;
    assert_eq!(UnverifiedLog(bytes).verify(), Err(LogError::Unknown { seq: 1 }));
}

#[test]
fn a_key_of_a_later_version_is_skipped_and_covered_by_the_signature() {
    let log = alice();
    let (head, hash) = log.head();
    let operation = Operation::AddDevice {
        index: DeviceIndex::FIRST,
        device: key(30).public(),
        transport: key(31).public(),
        label: String::new(),
        proof: proof(&log, DeviceIndex::FIRST),
    };
    let mut body =
        whimbrel_protocol::canonical::encode(&Body { seq: head + 1, prev: Some(hash), hlc: Hlc::default(), operation });
    // A map of four keys becomes one of five.
    assert_eq!(body[0], 0xa4);
    body[0] = 0xa5;
    body.extend_from_slice(&[0x18, 0x63, 0x01]);
    let sent = |body: &[u8]| {
        let entries = [log.entries[0].bytes.clone(), entry::sign_body(&key(1), body)];
        UnverifiedLog(entry::join(entries.iter().map(Vec::as_slice)))
    };
    let read = sent(&body).verify().unwrap();
    assert_eq!(read.devices().count(), 1);
    assert_eq!(read.bytes(), sent(&body).0);
    // The same key, not in its shortest form.
    let at = body.len() - 3;
    body.splice(at..at + 2, [0x19, 0x00, 0x63]);
    assert_eq!(sent(&body).verify(), Err(LogError::Malformed { seq: 1 }));
}

#[test]
fn every_flipped_bit_and_every_truncation_is_refused() {
    let log = alice_with_devices(2);
    let bytes = log.bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(UnverifiedLog(flipped).verify().is_err(), "bit {bit} of byte {at}");
        }
        assert!(UnverifiedLog(bytes[..at].to_vec()).verify().is_err(), "cut at {at}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(UnverifiedLog(longer).verify().is_err());
}

#[test]
fn a_log_over_its_bounds_is_refused_before_it_is_read() {
    assert_eq!(UnverifiedLog(vec![0; limits::ACCOUNT_LOG_BYTES_MAX + 1]).verify(), Err(LogError::TooLong));
    // An array that claims more entries than there may be allocates nothing.
    assert_eq!(UnverifiedLog(vec![0x9a, 0xff, 0xff, 0xff, 0xff]).verify(), Err(LogError::TooLong));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(UnverifiedLog(bytes).verify().is_err());
    }

    #[test]
    fn a_spliced_log_is_refused(from in 0_usize..600, len in 1_usize..64, with in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = alice_with_devices(2).bytes();
        let from = from.min(bytes.len());
        let to = (from + len).min(bytes.len());
        let mut spliced = bytes[..from].to_vec();
        spliced.extend_from_slice(&with);
        spliced.extend_from_slice(&bytes[to..]);
        prop_assume!(spliced != bytes);
        prop_assert!(UnverifiedLog(spliced).verify().is_err());
    }
}

fn hlc(millis: u64) -> Hlc {
    Hlc { millis, count: 0 }
}

/// The phrase `alice` committed to.
fn phrase() -> crate::RecoveryPhrase {
    crate::RecoveryPhrase::generate(&mut Chance::from_seed(Seed::from_bytes([1; 32])))
}

fn next_phrase(byte: u8) -> crate::RecoveryPhrase {
    crate::RecoveryPhrase::generate(&mut Chance::from_seed(Seed::from_bytes([byte; 32])))
}

/// A transport key's word for a device that is there.
fn moved(log: &AccountLog, index: u32, transport: u8) -> TransportProof {
    let index = DeviceIndex::new(index);
    TransportProof::make(&key(transport), log.account(), index, &log.device(index).unwrap().device_key)
}

#[test]
fn a_device_changes_its_transport_key_and_goes_and_its_index_and_keys_never_come_back() {
    let mut log = alice_with_devices(2);
    let second = DeviceIndex::new(1);
    let proof = moved(&log, 1, 40);
    log.update_device(&key(1), second, proof, hlc(5)).unwrap();
    assert_eq!(log.device(second).unwrap().transport_key, key(40).public());
    let back = moved(&log, 1, 103);
    assert_eq!(log.update_device(&key(1), second, back, hlc(6)), Err(LogError::Key { seq: 4 }), "used before");
    let stolen = TransportProof { key: key(41).public(), ..moved(&log, 1, 42) };
    assert_eq!(log.update_device(&key(1), second, stolen, hlc(6)), Err(LogError::Transport { seq: 4 }));

    log.revoke_device(&key(1), second, hlc(7)).unwrap();
    assert_eq!((log.device(second), log.devices().count()), (None, 1));
    assert_eq!(log.revoke_device(&key(1), second, hlc(8)), Err(LogError::NoDevice { seq: 5 }));
    let gone = TransportProof::make(&key(43), log.account(), second, &key(3).public());
    assert_eq!(log.update_device(&key(1), second, gone, hlc(8)), Err(LogError::NoDevice { seq: 5 }));
    assert_eq!(add(&mut log, 1, 50), Err(LogError::Index { seq: 5 }), "an index is never used again");
    assert_eq!(add(&mut log, 2, 3), Err(LogError::Key { seq: 5 }), "nor is a key");
    assert_eq!(log.next_index(), DeviceIndex::new(2));
    add(&mut log, 2, 50).unwrap();
    assert_eq!(UnverifiedLog(log.bytes()).verify().unwrap(), log);
}

#[test]
fn even_when_all_devices_are_revoked_their_indices_are_used_up() {
    let mut log = alice_with_devices(1);
    log.revoke_device(&key(1), DeviceIndex::FIRST, hlc(3)).unwrap();
    assert_eq!(add(&mut log, 0, 9), Err(LogError::Index { seq: 3 }));
    add(&mut log, 1, 9).unwrap();
}

#[test]
fn revoked_devices_make_room_for_others() {
    let mut log = alice_with_devices(10);
    log.revoke_device(&key(1), DeviceIndex::new(4), hlc(3)).unwrap();
    add(&mut log, 10, 20).unwrap();
    assert_eq!(add(&mut log, 11, 21), Err(LogError::Devices { seq: 13 }));
}

#[test]
fn the_recovery_key_alone_puts_another_identity_key_in_its_place() {
    let mut log = alice_with_devices(1);
    let next = next_phrase(9);
    let thief = key(1);
    // A thief of a full device holds the identity key, and that signs everything but this.
    let before = log.clone();
    let rotated = log.rotate_identity(&thief, &key(60), next.recovery_hash(), hlc(4));
    assert_eq!((rotated, &log), (Err(LogError::Recovery { seq: 2 }), &before));
    assert_eq!(log.set_recovery(&thief, next.recovery_hash(), hlc(4)), Err(LogError::Recovery { seq: 2 }));

    log.rotate_identity(&phrase().key_pair(), &key(60), next.recovery_hash(), hlc(4)).unwrap();
    assert_eq!((log.identity_key(), log.recovery_hash()), (key(60).public(), next.recovery_hash()));
    assert_eq!(log.account(), before.account(), "who somebody is does not change with their keys");
    assert_eq!(add(&mut log, 1, 50), Err(LogError::Signature { seq: 3 }), "the old identity key signs no more");
    log.revoke_device(&key(60), DeviceIndex::FIRST, hlc(5)).unwrap();
    // The phrase was good for once.
    let again = log.rotate_identity(&phrase().key_pair(), &key(61), next_phrase(10).recovery_hash(), hlc(6));
    assert_eq!(again, Err(LogError::Recovery { seq: 4 }));
    log.set_recovery(&next.key_pair(), next_phrase(10).recovery_hash(), hlc(6)).unwrap();
    log.rotate_identity(&next_phrase(10).key_pair(), &key(62), next_phrase(11).recovery_hash(), hlc(7)).unwrap();
    assert_eq!(UnverifiedLog(log.bytes()).verify().unwrap(), log);
    let keys: Vec<_> = log.identities().map(|(seq, _, key)| (seq, key)).collect();
    assert_eq!(keys, [(0, key(1).public()), (2, key(60).public()), (5, key(62).public())]);
}

#[test]
fn a_new_identity_key_is_a_fresh_one_and_has_agreed() {
    let log = alice_with_devices(1);
    let next = next_phrase(9).recovery_hash();
    for used in [1, 2, 102] {
        let rotated = log.clone().rotate_identity(&phrase().key_pair(), &key(used), next, hlc(4));
        assert_eq!(rotated, Err(LogError::Key { seq: 2 }));
    }
    // Somebody else's key, with a word that key gave for another place.
    let (head, prev) = log.head();
    let elsewhere = entry::identity_words(&log.account(), &LogHash::from_bytes([1; 32]));
    let operation = Operation::RotateIdentity {
        revealed: phrase().key_pair().public(),
        identity: key(60).public(),
        proof: key(60).sign(IDENTITY_CONTEXT, &elsewhere),
        recovery: *next.as_bytes(),
    };
    let body = Body { seq: head + 1, prev: Some(prev), hlc: hlc(4), operation };
    let forged = entry::sign(&phrase().key_pair(), &body);
    assert_eq!(log.clone().append(forged), Err(LogError::Signature { seq: 2 }));
    // And one that the recovery key showed, but did not sign.
    let (revealed, recovery) = (phrase().key_pair().public(), *next.as_bytes());
    let body = Body { operation: Operation::SetRecovery { revealed, recovery }, ..body };
    assert_eq!(log.clone().append(entry::sign(&key(1), &body)), Err(LogError::Signature { seq: 2 }));
    // A key commits to another, not to itself.
    let same = log.clone().set_recovery(&phrase().key_pair(), phrase().recovery_hash(), hlc(4));
    assert_eq!(same, Err(LogError::Recovery { seq: 2 }));
}

#[test]
fn a_fork_is_settled_by_the_recovery_key_and_by_nothing_else() {
    let common = alice_with_devices(1);
    let mut thief = common.clone();
    for (index, device) in [(1, 50), (2, 51), (3, 52)] {
        add(&mut thief, index, device).unwrap();
    }
    let mut owner = common.clone();
    owner.revoke_device(&key(1), DeviceIndex::FIRST, hlc(9_999)).unwrap();
    assert_eq!(owner.relation(&thief), Relation::Fork, "whatever clocks say, and however long either is");
    owner.rotate_identity(&phrase().key_pair(), &key(60), next_phrase(9).recovery_hash(), hlc(1)).unwrap();
    assert_eq!(owner.relation(&thief), Relation::Settled);
    assert_eq!(thief.relation(&owner), Relation::Superseded);
    // Who has both keys can say two things; then nobody can tell which is the owner's.
    thief.set_recovery(&phrase().key_pair(), next_phrase(12).recovery_hash(), hlc(1)).unwrap();
    assert_eq!((owner.relation(&thief), thief.relation(&owner)), (Relation::Fork, Relation::Fork));
    // What the recovery key said before two logs parted settles nothing after.
    let mut rotated = common;
    rotated.rotate_identity(&phrase().key_pair(), &key(60), next_phrase(9).recovery_hash(), hlc(1)).unwrap();
    let (mut one, mut other) = (rotated.clone(), rotated);
    one.revoke_device(&key(60), DeviceIndex::FIRST, hlc(2)).unwrap();
    other.revoke_device(&key(60), DeviceIndex::FIRST, hlc(3)).unwrap();
    assert_eq!(one.relation(&other), Relation::Fork);
    assert_eq!(alice().relation(&bob()), Relation::Fork, "of another account");
}

fn bob() -> AccountLog {
    let mut chance = Chance::from_seed(Seed::from_bytes([2; 32]));
    let hash = crate::RecoveryPhrase::generate(&mut chance).recovery_hash();
    AccountLog::genesis(&key(200), hash, hlc(1), &mut chance)
}
