//! Linking: the channel between a device that is to come and one that speaks for the account, through a relay that may
//! be anybody's.
//! Owns: the code that one of them shows and the other is told, what follows from it, and the sealed channel.
//! Never: computes a primitive; Noise is a kept library's. Sends or stores anything.
//! Source: the Noise protocol framework, revision 34, pattern NNpsk0 with Curve25519, ChaCha20-Poly1305 and SHA-256: the
//! code is the pre-shared key, so whoever does not know it can neither read nor take part; the keys made for the occasion
//! keep what was said from whoever learns the code afterwards. Rules: docs/protocol/devices.md.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use whimbrel_protocol::id::MeetingId;
use whimbrel_protocol::limits;
use zeroize::Zeroizing;

use crate::chance::Chance;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
const SECRET_BYTES: usize = 16;
const CHECK_BYTES: usize = 2;
/// Base32 without letters that look like others (Crockford's alphabet).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code: 18 bytes, five bits each.
const DIGITS: usize = (8 * (SECRET_BYTES + CHECK_BYTES)).div_ceil(5);
const GROUP: usize = 5;

/// Why a linking came to nothing. Never repeats a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkingError {
    /// Not of the form of a code.
    #[error("a code has {DIGITS} letters and digits")]
    Form,
    /// Of the form of a code, but mistyped.
    #[error("the code is mistyped")]
    Check,
    /// The other side does not know the code, or somebody between changed what was said.
    #[error("the other device does not know the code")]
    Channel,
    /// What was said over the channel makes no sense there.
    #[error("the other device said what makes no sense")]
    Words,
}

/// What one device shows and the other is told: 128 random bits, used once. Wiped when dropped.
#[derive(Clone)]
pub struct LinkingCode(Zeroizing<[u8; SECRET_BYTES]>);

impl LinkingCode {
    /// A fresh code.
    pub fn generate(chance: &mut Chance) -> Self {
        Self(Zeroizing::new(chance.bytes()))
    }

    /// Where the two meet at the relay: says nothing of the code.
    pub fn meeting(&self) -> MeetingId {
        let hash: [u8; 32] = self.derive(b"whimbrel linking meeting 1\0");
        let mut id = [0; MeetingId::LEN];
        id.iter_mut().zip(hash).for_each(|(to, byte)| *to = byte);
        MeetingId::from_bytes(id)
    }

    fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(purpose).chain_update(&self.0[..]).finalize().into()
    }

    fn check(&self) -> [u8; CHECK_BYTES] {
        let [one, two, ..] = self.derive(b"whimbrel linking check 1\0");
        [one, two]
    }
}

impl fmt::Display for LinkingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut held, mut bits, mut written) = (0u32, 0u32, 0usize);
        let mut digit = |f: &mut fmt::Formatter<'_>, value: u32| {
            if written > 0 && written.is_multiple_of(GROUP) {
                f.write_str("-")?;
            }
            written += 1;
            let letter = ALPHABET.get(value as usize & 31).copied().unwrap_or(b'0');
            write!(f, "{}", char::from(letter))
        };
        for byte in self.0.iter().chain(&self.check()) {
            (held, bits) = ((held << 8) | u32::from(*byte), bits + 8);
            while bits >= 5 {
                bits -= 5;
                digit(f, held >> bits)?;
            }
            held &= (1 << bits) - 1;
        }
        digit(f, held << (5 - bits))
    }
}

impl FromStr for LinkingCode {
    type Err = LinkingError;

    fn from_str(text: &str) -> Result<Self, LinkingError> {
        let (mut bytes, mut held, mut bits) = (Zeroizing::new(Vec::new()), 0u32, 0u32);
        let mut digits = 0;
        for letter in text.bytes().filter(|letter| !matches!(letter, b'-' | b' ' | b'\n' | b'\r' | b'\t')) {
            let letter = match letter.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let value = ALPHABET.iter().position(|one| *one == letter).ok_or(LinkingError::Form)?;
            digits += 1;
            (held, bits) = ((held << 5) | value as u32, bits + 5);
            if bits >= 8 {
                bits -= 8;
                bytes.push((held >> bits) as u8);
                held &= (1 << bits) - 1;
            }
        }
        if digits != DIGITS || held != 0 {
            return Err(LinkingError::Form);
        }
        let (secret, check) = bytes.split_first_chunk::<SECRET_BYTES>().ok_or(LinkingError::Form)?;
        let code = Self(Zeroizing::new(*secret));
        if code.check() == check { Ok(code) } else { Err(LinkingError::Check) }
    }
}

impl fmt::Debug for LinkingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkingCode(…)")
    }
}

/// The library's primitives, with our chance in the place of an operating system's.
struct Resolver([u8; 32]);

struct Drawn(Chance);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(Chance::from_seed(crate::Seed::from_bytes(self.0)))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// A channel that is being made: one message there, one back.
pub struct LinkingHandshake(Box<snow::HandshakeState>);

/// The most bytes that the library seals at once.
const NOISE_BYTES_MAX: usize = 65_535;
/// The authentication tag of each message.
const TAG_BYTES: usize = 16;
/// Content of one message: what fits the words of one frame, less tag and mark.
const PIECE_BYTES_MAX: usize = limits::LINKING_WORDS_BYTES_MAX - TAG_BYTES - 1;

impl LinkingHandshake {
    /// Of the device that is told the code: it speaks first.
    ///
    /// # Errors
    /// The library refuses; not expected.
    pub fn approver(code: &LinkingCode, chance: &mut Chance) -> Result<Self, LinkingError> {
        Self::begin(code, chance, true)
    }

    /// Of the device that shows it.
    ///
    /// # Errors
    /// The library refuses; not expected.
    pub fn newcomer(code: &LinkingCode, chance: &mut Chance) -> Result<Self, LinkingError> {
        Self::begin(code, chance, false)
    }

    fn begin(code: &LinkingCode, chance: &mut Chance, first: bool) -> Result<Self, LinkingError> {
        let key = Zeroizing::new(code.derive(b"whimbrel linking key 1\0"));
        let params = PATTERN.parse().map_err(|_| LinkingError::Channel)?;
        let resolver = Box::new(Resolver(chance.fork("linking").bytes()));
        let meeting = code.meeting();
        let builder = snow::Builder::with_resolver(params, resolver).psk(0, &key).and_then(|builder| {
            let builder = builder.prologue(meeting.as_bytes())?;
            if first { builder.build_initiator() } else { builder.build_responder() }
        });
        builder.map(|state| Self(Box::new(state))).map_err(|_| LinkingError::Channel)
    }

    /// The next message to the other side.
    ///
    /// # Errors
    /// It is not our turn.
    pub fn write(&mut self) -> Result<Vec<u8>, LinkingError> {
        let mut message = vec![0; 256];
        let length = self.0.write_message(&[], &mut message).map_err(|_| LinkingError::Channel)?;
        message.truncate(length);
        Ok(message)
    }

    /// A message of the other side.
    ///
    /// # Errors
    /// It does not know the code.
    pub fn read(&mut self, message: &[u8]) -> Result<(), LinkingError> {
        let mut payload = vec![0; message.len()];
        let length = self.0.read_message(message, &mut payload).map_err(|_| LinkingError::Channel)?;
        if length == 0 { Ok(()) } else { Err(LinkingError::Words) }
    }

    /// The channel, once both have spoken.
    ///
    /// # Errors
    /// They have not.
    pub fn finish(self) -> Result<LinkingChannel, LinkingError> {
        let state = self.0.into_transport_mode().map_err(|_| LinkingError::Channel)?;
        Ok(LinkingChannel { state: Box::new(state), partial: Zeroizing::new(Vec::new()) })
    }
}

impl fmt::Debug for LinkingHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkingHandshake(…)")
    }
}

/// A channel that stands: what goes in at one end comes out at the other, whole, in order, and unseen between.
pub struct LinkingChannel {
    state: Box<snow::TransportState>,
    partial: Zeroizing<Vec<u8>>,
}

impl LinkingChannel {
    /// Seals a message, in as many pieces as it takes.
    ///
    /// # Errors
    /// It is larger than a message may be.
    pub fn seal(&mut self, message: &[u8]) -> Result<Vec<Vec<u8>>, LinkingError> {
        if message.len() > limits::LINKING_MESSAGE_BYTES_MAX {
            return Err(LinkingError::Words);
        }
        let pieces: Vec<&[u8]> = match message.is_empty() {
            true => vec![&[]],
            false => message.chunks(PIECE_BYTES_MAX).collect(),
        };
        let last = pieces.len().saturating_sub(1);
        let mut sealed = Vec::with_capacity(pieces.len());
        for (number, piece) in pieces.into_iter().enumerate() {
            let mut plain = Zeroizing::new(Vec::with_capacity(piece.len() + 1));
            plain.push(u8::from(number < last));
            plain.extend_from_slice(piece);
            let mut bytes = vec![0; plain.len() + TAG_BYTES];
            let length = self.state.write_message(&plain, &mut bytes).map_err(|_| LinkingError::Channel)?;
            bytes.truncate(length);
            sealed.push(bytes);
        }
        Ok(sealed)
    }

    /// Takes a piece; gives the message when it is whole.
    ///
    /// # Errors
    /// It was not sealed by the other side, or a message has more pieces than it may have.
    pub fn open(&mut self, piece: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, LinkingError> {
        if piece.len() > NOISE_BYTES_MAX {
            return Err(LinkingError::Words);
        }
        let mut plain = Zeroizing::new(vec![0; piece.len()]);
        let length = self.state.read_message(piece, &mut plain).map_err(|_| LinkingError::Channel)?;
        let (more, content) = plain.get(..length).and_then(<[u8]>::split_first).ok_or(LinkingError::Words)?;
        if self.partial.len() + content.len() > limits::LINKING_MESSAGE_BYTES_MAX {
            return Err(LinkingError::Words);
        }
        self.partial.extend_from_slice(content);
        match more {
            0 => Ok(Some(std::mem::replace(&mut self.partial, Zeroizing::new(Vec::new())))),
            1 => Ok(None),
            _ => Err(LinkingError::Words),
        }
    }
}

impl fmt::Debug for LinkingChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkingChannel(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::chance::Seed;

    fn chance(byte: u8) -> Chance {
        Chance::from_seed(Seed::from_bytes([byte; 32]))
    }

    fn channels(one: &LinkingCode, other: &LinkingCode) -> Result<(LinkingChannel, LinkingChannel), LinkingError> {
        let mut approver = LinkingHandshake::approver(one, &mut chance(2))?;
        let mut newcomer = LinkingHandshake::newcomer(other, &mut chance(3))?;
        newcomer.read(&approver.write()?)?;
        approver.read(&newcomer.write()?)?;
        Ok((approver.finish()?, newcomer.finish()?))
    }

    #[test]
    fn a_code_is_read_however_it_is_typed_and_a_slip_is_told() {
        let code = LinkingCode::generate(&mut chance(1));
        let shown = code.to_string();
        assert_eq!(shown.len(), DIGITS + (DIGITS - 1) / GROUP);
        let typed = shown.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(typed.parse::<LinkingCode>().unwrap().meeting(), code.meeting());
        let slip = if shown.starts_with('2') { shown.replacen('2', "3", 1) } else { format!("2{}", &shown[1..]) };
        assert_eq!(slip.parse::<LinkingCode>().unwrap_err(), LinkingError::Check);
        assert_eq!(shown[1..].parse::<LinkingCode>().unwrap_err(), LinkingError::Form);
        assert_eq!("?".repeat(DIGITS).parse::<LinkingCode>().unwrap_err(), LinkingError::Form);
        assert_eq!(format!("{code:?}"), "LinkingCode(…)");
    }

    #[test]
    fn what_is_sealed_comes_out_whole_and_in_order_and_nobody_without_the_code_takes_part() {
        let code = LinkingCode::generate(&mut chance(1));
        let (mut one, mut other) = channels(&code, &code).unwrap();
        let long = vec![7; 3 * PIECE_BYTES_MAX + 5];
        for message in [&b"short"[..], &[], &long] {
            let pieces = one.seal(message).unwrap();
            assert!(pieces.iter().all(|piece| piece.len() <= limits::LINKING_WORDS_BYTES_MAX));
            let mut came = None;
            for piece in pieces {
                assert!(came.is_none(), "before the last piece");
                came = other.open(&piece).unwrap();
            }
            assert_eq!(came.unwrap().as_slice(), message);
        }
        assert_eq!(one.seal(&vec![0; limits::LINKING_MESSAGE_BYTES_MAX + 1]), Err(LinkingError::Words));

        let strange = LinkingCode::generate(&mut chance(9));
        assert!(matches!(channels(&code, &strange), Err(LinkingError::Channel)));
    }

    #[test]
    fn a_changed_lost_or_repeated_piece_is_refused() {
        let code = LinkingCode::generate(&mut chance(1));
        let (mut one, mut other) = channels(&code, &code).unwrap();
        let mut changed = one.seal(b"a").unwrap().remove(0);
        changed[0] ^= 1;
        assert_eq!(other.open(&changed), Err(LinkingError::Channel));
        let (mut one, mut other) = channels(&code, &code).unwrap();
        let first = one.seal(b"a").unwrap().remove(0);
        other.open(&first).unwrap();
        assert_eq!(other.open(&first), Err(LinkingError::Channel), "repeated");
        let (mut one, mut other) = channels(&code, &code).unwrap();
        let _lost = one.seal(b"a").unwrap();
        let second = one.seal(b"b").unwrap().remove(0);
        assert_eq!(other.open(&second), Err(LinkingError::Channel), "out of order");
    }
}
