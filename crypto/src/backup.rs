//! Backup: a file sealed with a passphrase, in a format that other programs open.
//! Owns: the container, byte for byte. Never: what is in it (`node/src/backup.rs`), or a file.
//! Source: the age file format, version 1, with one scrypt recipient (C2SP age.md). Rules: docs/protocol/backup.md.
//! Limits: [`limits::BACKUP_WORK_MAX`].

use chacha20poly1305::aead::{Aead, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use whimbrel_protocol::limits;
use zeroize::Zeroizing;

use crate::chance::Chance;
use crate::seal::wrap::Passphrase;

const VERSION_LINE: &str = "age-encryption.org/v1";
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
const SALT: usize = 16;
const PAYLOAD_NONCE: usize = 16;
/// The longest header: the version, a stanza of two lines, the MAC, with room to spare.
const HEADER_BYTES_MAX: usize = 512;

/// Why a backup does not open. Nothing of it is given out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It is no such file.
    #[error("this is no backup")]
    Malformed,
    /// A newer format, or one that is sealed otherwise than with a passphrase.
    #[error("the backup is in a format that this version does not know")]
    Unknown,
    /// It asks for more work than is ever done.
    #[error("the backup asks for work beyond all bounds")]
    Work,
    /// The passphrase is another.
    #[error("this passphrase does not open it")]
    Refused,
    /// It was changed or cut.
    #[error("the backup was changed or is cut short")]
    Altered,
}

/// Seals `plain` with a passphrase; a guess costs 2^`work` rounds of scrypt (RFC 7914, r = 8, p = 1).
///
/// # Errors
/// [`BackupError::Work`]: the work is zero or over the bound.
pub fn seal(plain: &[u8], passphrase: &Passphrase, work: u8, chance: &mut Chance) -> Result<Vec<u8>, BackupError> {
    let file_key = Zeroizing::new(chance.bytes::<16>());
    let salt: [u8; SALT] = chance.bytes();
    let wrap = wrap_key(passphrase, &salt, work)?;
    // A key is used once: with this salt.
    let body = wrap.encrypt(&Nonce::default(), &file_key[..]).map_err(|_| BackupError::Malformed)?;
    let mut header = format!("{VERSION_LINE}\n-> scrypt {} {work}\n{}\n---", base64(&salt), base64(&body));
    let mac = base64(&header_mac(&file_key, header.as_bytes()).finalize().into_bytes());
    header.push_str(&format!(" {mac}\n"));
    let nonce: [u8; PAYLOAD_NONCE] = chance.bytes();
    let cipher = payload_cipher(&file_key, &nonce);
    let mut sealed = header.into_bytes();
    sealed.reserve(plain.len() + plain.len() / CHUNK * TAG + 64);
    sealed.extend_from_slice(&nonce);
    let mut chunks = plain.chunks(CHUNK).peekable();
    let mut number = 0_u64;
    // An empty file is one empty chunk.
    let mut chunk = chunks.next().unwrap_or_default();
    loop {
        let last = chunks.peek().is_none();
        let body = cipher.encrypt(&chunk_nonce(number, last), chunk).map_err(|_| BackupError::Malformed)?;
        sealed.extend_from_slice(&body);
        match chunks.next() {
            Some(next) => chunk = next,
            None => return Ok(sealed),
        }
        number += 1;
    }
}

/// Opens what [`seal`], or another program, sealed with a passphrase.
///
/// # Errors
/// As [`BackupError`] says.
pub fn open(sealed: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    let (header, payload) = split_header(sealed)?;
    let mut lines = header.lines();
    if lines.next() != Some(VERSION_LINE) {
        return Err(BackupError::Unknown);
    }
    let stanza = lines.next().and_then(|line| line.strip_prefix("-> ")).ok_or(BackupError::Malformed)?;
    let (salt, work) = match stanza.split(' ').collect::<Vec<_>>().as_slice() {
        ["scrypt", salt, work] => (unbase64(salt)?, *work),
        _ => return Err(BackupError::Unknown),
    };
    let salt: [u8; SALT] = salt.try_into().map_err(|_| BackupError::Malformed)?;
    // One spelling: no sign, no zero before it.
    let work: u8 = work.parse().ok().filter(|n: &u8| n.to_string() == work).ok_or(BackupError::Malformed)?;
    let body = lines.next().ok_or(BackupError::Malformed).and_then(unbase64)?;
    let mac = lines.next().and_then(|line| line.strip_prefix("--- ")).ok_or(BackupError::Malformed)?;
    // A passphrase stands alone: nobody else is to be able to have sealed it.
    if lines.next().is_some() || body.len() != 16 + TAG {
        return Err(BackupError::Malformed);
    }
    let wrap = wrap_key(passphrase, &salt, work)?;
    let opened = wrap.decrypt(&Nonce::default(), body.as_slice()).map_err(|_| BackupError::Refused)?;
    let opened = Zeroizing::new(opened);
    let file_key = Zeroizing::new(<[u8; 16]>::try_from(opened.as_slice()).map_err(|_| BackupError::Malformed)?);
    let signed = header.len().checked_sub(mac.len() + 1).and_then(|end| header.as_bytes().get(..end));
    let checked = header_mac(&file_key, signed.ok_or(BackupError::Malformed)?).verify_slice(&unbase64(mac)?);
    checked.map_err(|_| BackupError::Altered)?;
    open_payload(&file_key, payload)
}

fn open_payload(file_key: &[u8; 16], payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    let (nonce, body) = payload.split_first_chunk::<PAYLOAD_NONCE>().ok_or(BackupError::Altered)?;
    let cipher = payload_cipher(file_key, nonce);
    let mut plain = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut chunks = body.chunks(CHUNK + TAG).peekable();
    let mut number = 0_u64;
    let mut chunk = chunks.next().ok_or(BackupError::Altered)?;
    loop {
        let last = chunks.peek().is_none();
        let opened = cipher.decrypt(&chunk_nonce(number, last), chunk).map_err(|_| BackupError::Altered)?;
        let opened = Zeroizing::new(opened);
        if last && opened.is_empty() && number > 0 {
            // The chunk before would have been the last.
            return Err(BackupError::Altered);
        }
        plain.extend_from_slice(&opened);
        match chunks.next() {
            Some(next) => chunk = next,
            None => return Ok(plain),
        }
        number += 1;
    }
}

/// The header without its last line end, and what follows.
fn split_header(sealed: &[u8]) -> Result<(&str, &[u8]), BackupError> {
    if !sealed.starts_with(b"age-encryption.org/") {
        return Err(BackupError::Malformed);
    }
    let bound = sealed.get(..HEADER_BYTES_MAX.min(sealed.len())).unwrap_or_default();
    let mac_line = bound.windows(5).position(|window| window == b"\n--- ").ok_or(BackupError::Malformed)? + 1;
    let after = bound.get(mac_line..).unwrap_or_default();
    let end = mac_line + after.iter().position(|byte| *byte == b'\n').ok_or(BackupError::Malformed)?;
    let header = sealed.get(..end).and_then(|header| std::str::from_utf8(header).ok());
    match (header, sealed.get(end + 1..)) {
        (Some(header), Some(payload)) => Ok((header, payload)),
        _ => Err(BackupError::Malformed),
    }
}

fn wrap_key(passphrase: &Passphrase, salt: &[u8; SALT], work: u8) -> Result<ChaCha20Poly1305, BackupError> {
    if work == 0 || work > limits::BACKUP_WORK_MAX {
        return Err(BackupError::Work);
    }
    let params = scrypt::Params::new(work, 8, 1, 32).map_err(|_| BackupError::Work)?;
    let mut key = Zeroizing::new([0; 32]);
    let salt = [SALT_LABEL, salt].concat();
    scrypt::scrypt(passphrase.bytes(), &salt, &params, &mut key[..]).map_err(|_| BackupError::Work)?;
    Ok(ChaCha20Poly1305::new(Key::from_slice(&key[..])))
}

fn header_mac(file_key: &[u8; 16], header: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed(&expanded(file_key, &[], b"header")[..]);
    mac.update(header);
    mac
}

fn payload_cipher(file_key: &[u8; 16], nonce: &[u8; PAYLOAD_NONCE]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(Key::from_slice(&expanded(file_key, nonce, b"payload")[..]))
}

/// HKDF-SHA-256 (RFC 5869), one block of output.
fn expanded(secret: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut extract = keyed(salt);
    extract.update(secret);
    let mut expand = keyed(&Zeroizing::new(<[u8; 32]>::from(extract.finalize().into_bytes()))[..]);
    expand.update(info);
    expand.update(&[1]);
    Zeroizing::new(expand.finalize().into_bytes().into())
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("any length is a key")
}

/// Eleven bytes of number, big-endian, and one that says whether it is the last.
fn chunk_nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = Nonce::default();
    let number = number.to_be_bytes();
    nonce.iter_mut().skip(3).zip(number).for_each(|(to, from)| *to = from);
    if let Some(flag) = nonce.last_mut() {
        *flag = u8::from(last);
    }
    nonce
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648 §4) without padding; what is encoded here fits one line.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut held = [0; 4];
        held.iter_mut().skip(1).zip(group).for_each(|(to, from)| *to = *from);
        let held = u32::from_be_bytes(held);
        for place in 0..=group.len() {
            let shift = 18_usize.saturating_sub(6 * place);
            let index = usize::try_from((held >> shift) & 63).unwrap_or(0);
            text.extend(ALPHABET.get(index).map(|byte| char::from(*byte)));
        }
    }
    text
}

/// The one way back.
fn unbase64(text: &str) -> Result<Vec<u8>, BackupError> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for byte in text.bytes() {
        let value = ALPHABET.iter().position(|one| *one == byte).and_then(|at| u32::try_from(at).ok());
        (held, bits) = ((held << 6) | value.ok_or(BackupError::Malformed)?, bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).unwrap_or(0));
            held &= (1 << bits) - 1;
        }
    }
    if base64(&bytes) == text { Ok(bytes) } else { Err(BackupError::Malformed) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::chance::Seed;

    fn chance() -> Chance {
        Chance::from_seed(Seed::from_bytes([7; 32]))
    }

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.into()).unwrap()
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        seal(plain, &passphrase("heron"), 4, &mut chance()).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_whatever_its_length() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5] {
            let plain: Vec<u8> = (0..len).map(|at| at as u8).collect();
            assert_eq!(*open(&sealed(&plain), &passphrase("heron")).unwrap(), plain, "{len} bytes");
        }
    }

    #[test]
    fn t62_a_backup_that_was_cut_or_changed_anywhere_opens_not_even_in_part() {
        let good = sealed(&vec![5; CHUNK + 100]);
        for at in (0..400).chain([good.len() - 1, good.len() - 130]) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(open(&bad, &passphrase("heron")).is_err(), "byte {at}");
        }
        for len in (0..300).chain([good.len() - 116, good.len() - 1]) {
            assert!(open(&good[..len], &passphrase("heron")).is_err(), "cut to {len}");
        }
        assert!(open(&[good.as_slice(), b"x"].concat(), &passphrase("heron")).is_err());
    }

    #[test]
    fn t62_another_passphrase_a_newer_format_and_unbounded_work_are_told_apart() {
        let good = sealed(b"x");
        assert_eq!(open(&good, &passphrase("stork")).unwrap_err(), BackupError::Refused);
        let text = String::from_utf8_lossy(&good[..100]).into_owned();
        let other = |from: &str, to: &str| {
            assert!(text.contains(from));
            let at = text.find(from).unwrap();
            [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
        };
        let open = |bytes: &[u8]| open(bytes, &passphrase("heron")).unwrap_err();
        assert_eq!(open(&other("org/v1", "org/v2")), BackupError::Unknown);
        assert_eq!(open(&other("scrypt", "X25519")), BackupError::Unknown);
        assert_eq!(open(&other(" 4\n", " 40\n")), BackupError::Work);
        assert_eq!(open(&other(" 4\n", " 04\n")), BackupError::Malformed);
        assert_eq!(open(b"something else"), BackupError::Malformed);
    }

    #[test]
    fn base64_is_that_of_the_rfc_and_has_one_spelling() {
        // RFC 4648 §10, without padding.
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(unbase64(text).unwrap(), bytes.as_bytes());
        }
        for wrong in ["Z", "Zh", "Zg==", "Zg ", "Z-"] {
            assert!(unbase64(wrong).is_err(), "{wrong}");
        }
    }
}
