//! The vectors of RFC 9420 that apply to our suite, through the very provider the MLS library is given.
//! Source: mlswg/mls-implementations, test-vectors/crypto-basics.json, suite 1: hash, key schedule and signatures of ours are
//! its own. Its HPKE is not: the hybrid KEM takes the place of X25519 here, and has no vectors there.

use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::signatures::Signer as _;
use openmls_traits::types::{HashType, SignatureScheme};

use super::chance::{Crypto, DeviceSigner};
use crate::chance::{Chance, Seed};
use crate::keys::KeyPair;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn with_provider(test: impl FnOnce(&Crypto<'_>)) {
    let library = RustCrypto::default();
    test(&Crypto::new(&library, super::SUITE, Chance::from_seed(Seed::from_bytes([1; 32]))));
}

/// RFC 9420 §2.1.2: a vector with its length before it; all here are shorter than 64 bytes.
fn vector(bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).unwrap();
    assert!(len < 64);
    [&[len], bytes].concat()
}

/// RFC 9420 §8.
fn expand_with_label(crypto: &Crypto<'_>, secret: &str, label: &str, context: &[u8], len: u16) -> Vec<u8> {
    let label = format!("MLS 1.0 {label}");
    let info = [&len.to_be_bytes()[..], &vector(label.as_bytes()), &vector(context)].concat();
    crypto.hkdf_expand(HashType::Sha2_256, &unhex(secret), &info, len.into()).unwrap().as_slice().to_vec()
}

#[test]
fn secrets_are_derived_as_rfc_9420_derives_them() {
    with_provider(|crypto| {
        let expanded = expand_with_label(
            crypto,
            "5c96b1772964bd54abf1a8d04d3bf699a7fe7b8fd631caf33a0440f699843e3e",
            "ExpandWithLabel",
            &unhex("9492c562f40b5b40d7bc1da471e9532fee88371ef86f2fc85f0f2a4dc7e9ae81"),
            16,
        );
        assert_eq!(expanded, unhex("c7dfff34de8da81aa8dd85828ad05344"));
        let derived = expand_with_label(
            crypto,
            "51bcdc853b2fffd6c0ce55953e99ce3f47c1135a35154422e71b313a088e5925",
            "DeriveSecret",
            &[],
            32,
        );
        assert_eq!(derived, unhex("fd12ac470b9a57a72290f77d437f28afabb7b4ef80b22c362aa7aa6dea9eeaf0"));
        let of_generation = expand_with_label(
            crypto,
            "7620af0827ddd6506a20fe3716458f48fd89715d1396ee578eff0750dd1ab926",
            "DeriveTreeSecret",
            &2_694_881_440_u32.to_be_bytes(),
            32,
        );
        assert_eq!(of_generation, unhex("f85fe97705982d10dbead53c4f83318479c2211e994bcf1ba615f0d8f66d6016"));
    });
}

#[test]
fn references_are_hashed_as_rfc_9420_hashes_them() {
    with_provider(|crypto| {
        let value = unhex("d322a8468c26e37b1f0f6664e91c1b81f0c3ba87ff1903604426d512e2451d6f");
        let hashed = crypto.hash(HashType::Sha2_256, &[vector(b"RefHash"), vector(&value)].concat()).unwrap();
        assert_eq!(hashed, unhex("a00d38eb47333e317599170dfbe420cbc542d7e615d27861935bc4200ccb6daa"));
    });
}

#[test]
fn labelled_signatures_are_those_of_rfc_9420_and_pass_our_strict_check() {
    let content = unhex("ac833a785a00dc0a8e4d777d7b37ad403a33916334306730d4ce2e359e49169c");
    let signed = [vector(b"MLS 1.0 SignWithLabel"), vector(&content)].concat();
    let secret = unhex("6db310bb3cb063f3fc498e048dbd33885b260a7ee606c8ebd5231d2258b6e572");
    let public = unhex("fa69d57b300537d17953e7292ceff3dd3a6b0284d1e5aa5bc35db01dd9ce78a4");
    let signature = unhex(
        "8227e8cb94513227ebca109f6846c1c2d2952e11871e46bb571a9b0173e9cca9\
         a1937e6855183e4059669167908a36614bad713f914766f5d7ea8393c995d009",
    );
    let pair = KeyPair::from_seed_bytes(secret.try_into().unwrap());
    assert_eq!(pair.public().as_bytes().as_slice(), public);
    assert_eq!(DeviceSigner(&pair).sign(&signed).unwrap(), signature);
    with_provider(|crypto| {
        crypto.verify_signature(SignatureScheme::ED25519, &signed, &public, &signature).unwrap();
        let mut wrong = signature.clone();
        wrong[3] ^= 1;
        assert!(crypto.verify_signature(SignatureScheme::ED25519, &signed, &public, &wrong).is_err());
    });
}
