//! The bytes that docs/protocol promises to other implementations.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;

use serde_json::{Value, json};
use whimbrel_crypto::backup::{self, BackupError};
use whimbrel_crypto::seal::wrap::Passphrase;
use whimbrel_crypto::{
    AccountLog, Chance, KeyPair, RecoveryPhrase, RelayIdentity, Seed, TransportProof, UnverifiedLog, link, receipt,
};
use whimbrel_protocol::hub::{FIRST_TERM, Receipt, SignedReceipt};
use whimbrel_protocol::id::{CommitHash, DeviceIndex, Epoch, ThreadId};
use whimbrel_protocol::time::{Hlc, Wall};
use whimbrel_protocol::{canonical, frame};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// An account made of fixed keys.
fn made() -> Value {
    let [identity, device, transport] = [1, 2, 3].map(|byte| KeyPair::from_seed_bytes([byte; 32]));
    let words = format!("{}art", "abandon ".repeat(23));
    let phrase = RecoveryPhrase::parse(&words).unwrap();
    let hlc = Hlc { millis: 1_790_000_000_000, count: 7 };
    let mut chance = Chance::from_seed(Seed::from_bytes([4; 32]));
    let mut log = AccountLog::genesis(&identity, phrase.recovery_hash(), hlc, &mut chance);
    let first = DeviceIndex::FIRST;
    let proof = TransportProof::make(&transport, log.account(), first, &device.public());
    log.add_device(&identity, first, device.public(), proof, "laptop", hlc).unwrap();
    let exporter = [5; 32];
    json!({
        "identity_seed": hex([1; 32]),
        "device_seed": hex([2; 32]),
        "transport_seed": hex([3; 32]),
        "transport_key": hex(transport.public().as_bytes()),
        "recovery_words": words,
        "account": log.account().to_string(),
        "log": hex(log.bytes()),
        "exporter": hex(exporter),
        "link_proof": hex(link::prove(&device, &exporter).as_bytes()),
    })
}

/// A receipt of a hub made of fixed keys.
fn receipt() -> Value {
    let [offline, online] = [6, 7].map(|byte| KeyPair::from_seed_bytes([byte; 32]));
    let made = Wall::from_millis(1_790_000_000_000);
    let hub = RelayIdentity::create(&offline, &online, &"a.example".parse().unwrap(), made).unwrap();
    let signed = receipt::sign(
        &hub,
        Receipt {
            thread: ThreadId::from_bytes([9; 32]),
            term: FIRST_TERM,
            epoch: Epoch::new(5),
            commit: CommitHash::of(b"commit"),
            previous: Some(CommitHash::of(b"the one before")),
            at: made,
        },
    );
    json!({
        "offline_seed": hex([6; 32]),
        "online_seed": hex([7; 32]),
        "hub": hub.id().to_string(),
        "commit": hex(b"commit"),
        "receipt": hex(canonical::encode(&signed.words)),
        "signed": hex(canonical::encode(&signed)),
    })
}

#[test]
fn receipts_have_the_bytes_that_are_published() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/protocol/vectors/receipt.json");
    let published: Value = serde_json::from_str(&std::fs::read_to_string(docs).unwrap()).unwrap();
    assert_eq!(published, receipt(), "the wire changed: {:#}", receipt());
    let signed: SignedReceipt = frame::decode_words(&unhex(&published["signed"])).unwrap();
    assert_eq!(receipt::signer(&signed).unwrap().to_string(), published["hub"]);
    assert_eq!(signed.words.commit, CommitHash::of(&unhex(&published["commit"])));
}

#[test]
fn identities_have_the_bytes_that_are_published() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/protocol/vectors/identity.json");
    let published: Value = serde_json::from_str(&std::fs::read_to_string(docs).unwrap()).unwrap();
    assert_eq!(published, made(), "the wire changed: {:#}", made());
    let log = UnverifiedLog(unhex(&published["log"])).verify().unwrap();
    assert_eq!(log.account().to_string(), published["account"]);
    let device = log.device(DeviceIndex::FIRST).unwrap();
    let exporter = unhex(&published["exporter"]).try_into().unwrap();
    let proof = unhex(&published["link_proof"]).as_slice().try_into().unwrap();
    link::verify_proof(&device.device_key, &exporter, &proof).unwrap();
}

/// Files of the age testkit (C2SP/CCTV, age/testdata/scrypt*, CC0 1.0), sealed and spoiled by other programs.
#[test]
fn t62_files_that_another_implementation_sealed_open_and_those_it_spoiled_are_refused_by_what_is_wrong() {
    use BackupError::{Malformed, Refused, Unknown, Work};

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/age-scrypt.json");
    let files: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let files = files.as_array().unwrap();
    for file in files {
        let (name, expect) = (file["name"].as_str().unwrap(), file["expect"].as_str().unwrap());
        let passphrase = Passphrase::new(file["passphrase"].as_str().unwrap().into()).unwrap();
        let opened = backup::open(&unhex(&file["file"]), &passphrase);
        match expect {
            "success" => {
                let plain = unhex(&file["plain"]);
                assert_eq!(*opened.unwrap(), plain, "{name}");
                // Nor does it open once anything in it is another, or it ends early.
                let whole = unhex(&file["file"]);
                for at in (0..whole.len()).step_by(7) {
                    let mut altered = whole.clone();
                    altered[at] ^= 1;
                    assert!(backup::open(&altered, &passphrase).is_err(), "{name}: byte {at}");
                    assert!(backup::open(&whole[..at], &passphrase).is_err(), "{name}: cut to {at}");
                }
            }
            // Of another kind, or another passphrase.
            "no match" => assert!(matches!(opened, Err(Refused | Unknown)), "{name}: {opened:?}"),
            "header failure" => assert!(matches!(opened, Err(Malformed | Work | Unknown)), "{name}: {opened:?}"),
            other => panic!("{name}: {other}"),
        }
    }
    assert_eq!(files.len(), 25);
}
