#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use proptest::prelude::*;
use whimbrel_protocol::limits;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn key(byte: u8) -> KeyPair {
    KeyPair::from_seed_bytes([byte; 32])
}

fn domain() -> Domain {
    "relay.example".parse().unwrap()
}

fn day(n: u64) -> Wall {
    Wall::from_millis((20_000 + n) * 86_400_000)
}

fn relay() -> RelayIdentity {
    RelayIdentity::create(&key(1), &key(2), &domain(), day(0)).unwrap()
}

fn verify(chain: &[Vec<u8>], now: Wall) -> Result<VerifiedRelay, CertificateError> {
    verify_relay_chain(&chain.iter().map(Vec::as_slice).collect::<Vec<_>>(), now)
}

#[test]
fn a_node_certificate_carries_its_key_and_nothing_that_changes() {
    let der = node_certificate(&key(1)).unwrap();
    assert_eq!(node_key(&der).unwrap(), key(1).public());
    assert_eq!(node_certificate(&key(1)).unwrap(), der);
    assert!(der.len() < 512, "{}", der.len());
}

#[test]
fn every_flipped_bit_of_a_node_certificate_is_refused() {
    let der = node_certificate(&key(1)).unwrap();
    for at in 0..der.len() {
        for bit in 0..8 {
            let mut flipped = der.clone();
            flipped[at] ^= 1 << bit;
            assert!(node_key(&flipped).is_err(), "bit {bit} of byte {at}");
        }
        assert!(node_key(&der[..at]).is_err());
    }
}

#[test]
fn a_relay_chain_verifies_to_its_id_domain_and_online_key() {
    let relay = relay();
    let verified = verify(&relay.chain(), day(1)).unwrap();
    assert_eq!(verified, VerifiedRelay { id: relay.id(), domain: domain(), key: key(2).public() });
    assert_eq!(relay.online_until().unwrap(), day(90));
}

#[test]
fn the_relay_id_follows_from_offline_key_and_domain_and_survives_renewal() {
    let mut relay = relay();
    let id = relay.id();
    let again = RelayIdentity::create(&key(1), &key(9), &domain(), day(55)).unwrap();
    assert_eq!(again.id(), id);
    relay.reissue_online(&key(1), &key(3), day(80)).unwrap();
    assert_eq!(relay.id(), id);
    assert_eq!(verify(&relay.chain(), day(160)).unwrap().key, key(3).public());
    assert_eq!(relay.reissue_online(&key(7), &key(4), day(80)), Err(CertificateError::Role));
    assert_eq!(relay.online_key().public(), key(3).public());
}

#[test]
fn a_stored_identity_is_put_together_again_even_when_it_ran_out() {
    let [online, offline] = relay().chain();
    let stored = RelayIdentity::from_parts(offline.clone(), online.clone(), &key(2)).unwrap();
    assert_eq!(stored.id(), relay().id());
    assert_eq!(stored.domain(), &domain());
    assert_eq!(RelayIdentity::from_parts(offline, online, &key(3)).unwrap_err(), CertificateError::Role);
}

#[test]
fn dates_are_judged_with_the_tolerance() {
    let chain = relay().chain();
    let tolerance = limits::CERTIFICATE_TOLERANCE;
    let at = |base: Wall, ahead: Duration| Wall::from_millis(base.as_millis() + ahead.as_millis() as u64);
    let before = |base: Wall, by: Duration| Wall::from_millis(base.as_millis() - by.as_millis() as u64);
    let second = Duration::from_secs(1);
    verify(&chain, before(day(0), tolerance)).unwrap();
    assert_eq!(verify(&chain, before(day(0), tolerance + second)), Err(CertificateError::Dates));
    verify(&chain, at(day(90), tolerance)).unwrap();
    assert_eq!(verify(&chain, at(day(90), tolerance + second)), Err(CertificateError::Dates));
    verify(&chain, at(day(0), DAY)).unwrap();
}

#[test]
fn a_chain_of_the_wrong_length_or_order_is_refused() {
    let [online, offline] = relay().chain();
    assert_eq!(verify(std::slice::from_ref(&online), day(1)), Err(CertificateError::Length { found: 1 }));
    assert_eq!(verify(&[], day(1)), Err(CertificateError::Length { found: 0 }));
    let four = [online.clone(), online.clone(), online.clone(), offline.clone()];
    assert_eq!(verify(&four, day(1)), Err(CertificateError::Length { found: 4 }));
    assert!(verify(&[offline.clone(), online.clone()], day(1)).is_err());
    assert!(verify(&[offline.clone(), offline.clone()], day(1)).is_err());
    assert!(verify(&[online.clone(), online.clone(), offline], day(1)).is_err());
}

#[test]
fn another_relays_offline_certificate_does_not_vouch() {
    let other = RelayIdentity::create(&key(8), &key(9), &domain(), day(0)).unwrap();
    let chain = [relay().chain()[0].clone(), other.chain()[1].clone()];
    assert_eq!(verify(&chain, day(1)), Err(CertificateError::Signature));
}

#[test]
fn an_online_certificate_for_another_domain_is_refused() {
    let elsewhere: Domain = "other.example".parse().unwrap();
    // What the same offline key would sign if it served two domains.
    let online = make::online(&key(1), &key(2), &elsewhere, day(0)).unwrap();
    let chain = [online, relay().chain()[1].clone()];
    assert_eq!(verify(&chain, day(1)), Err(CertificateError::Domain));
}

#[test]
fn a_session_certificate_below_the_online_one_verifies_and_signs_nothing_itself() {
    let [online, offline] = relay().chain();
    let session = make::session(&key(2), &key(5), &domain(), day(1)).unwrap();
    let verified = verify(&[session.clone(), online.clone(), offline.clone()], day(1)).unwrap();
    assert_eq!(verified.key, key(5).public());
    assert_eq!(verified.id, relay().id());
    assert!(verify(&[session, offline], day(1)).is_err());
}

#[test]
fn a_node_certificate_is_no_relay() {
    let node = node_certificate(&key(1)).unwrap();
    assert!(verify(&[node.clone(), node.clone()], day(1)).is_err());
    assert!(verify(&[relay().chain()[0].clone(), node], day(1)).is_err());
}

#[test]
fn one_key_is_not_both_offline_and_online() {
    let relay = RelayIdentity::create(&key(1), &key(1), &domain(), day(0)).unwrap();
    assert_eq!(verify(&relay.chain(), day(1)), Err(CertificateError::Role));
}

#[test]
fn a_private_key_is_written_as_tls_libraries_read_it() {
    // RFC 8410 §10.3, first example.
    let secret = "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";
    let bytes: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&secret[2 * i..2 * i + 2], 16).unwrap()).collect();
    let der = pkcs8(&KeyPair::from_seed_bytes(bytes.clone().try_into().unwrap()));
    assert_eq!(der.len(), 48);
    assert_eq!(der[..16], [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20]);
    assert_eq!(der[16..], bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_is_no_certificate(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(node_key(&bytes).is_err());
        prop_assert!(verify_relay_chain(&[&bytes, &bytes], day(1)).is_err());
    }

    #[test]
    fn a_damaged_chain_is_refused(at in 0_usize..4_000, with in any::<u8>()) {
        let mut chain = relay().chain();
        let which = at % 2;
        let place = at / 2 % chain[which].len();
        prop_assume!(chain[which][place] != with);
        chain[which][place] = with;
        // Whatever is changed in the offline certificate breaks its signature; so does any change of the other.
        prop_assert!(verify(&chain, day(1)).is_err());
    }
}
