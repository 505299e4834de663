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
    let entries: Vec<Vec<u8>> = log.entries.iter().map(|(_, bytes)| bytes.clone()).chain([entry]).collect();
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
        let entries = [log.entries[0].1.clone(), entry::sign_body(&key(1), body)];
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
