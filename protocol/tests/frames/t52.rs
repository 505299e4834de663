//! T52: whatever bytes an attacker sends, to whichever decoder, come out as a typed error or as words that read back; no
//! panic, no stack that runs out, no room made for what a length merely claims (a claim of 2^32 and more would end this
//! process).

use std::fmt::Debug;

use proptest::sample::Index;
use whimbrel_protocol::frame::Words;
use whimbrel_protocol::friendship::FriendshipWord;
use whimbrel_protocol::id::{Address, Domain, Name};
use whimbrel_protocol::invite::{Invite, RelayLink};
use whimbrel_protocol::message::Content;
use whimbrel_protocol::poll::{Challenge, OpenLink, OpenedLink};
use whimbrel_protocol::user::Card;

use super::*;

/// One thing done to bytes.
#[derive(Clone, Debug)]
enum Blow {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    /// Also makes keys come twice.
    Repeat(Index, usize),
    /// A head of CBOR that claims more than there can be: of bytes, text, an array, a map, with 4 or 8 bytes of length.
    Claim(Index, u8, u64),
    /// So many containers one in the other.
    Nest(Index, u8, usize),
    /// A head without a length, which canonical CBOR has none of.
    Endless(Index, u8),
    /// A number in more bytes than it needs.
    Long(Index, u8),
}

fn blow() -> impl Strategy<Value = Blow> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0..8u8).prop_map(|(at, bit)| Blow::Flip(at, bit)),
        at().prop_map(Blow::Cut),
        (at(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Blow::Insert(at, bytes)),
        (at(), 1..40usize).prop_map(|(at, count)| Blow::Delete(at, count)),
        (at(), 1..80usize).prop_map(|(at, count)| Blow::Repeat(at, count)),
        (at(), 2..6u8, any::<u64>()).prop_map(|(at, major, length)| Blow::Claim(at, major, length)),
        (at(), prop_oneof![Just(0x81), Just(0xa1), Just(0xc1)], 1..60_000usize)
            .prop_map(|(at, head, deep)| Blow::Nest(at, head, deep)),
        (at(), prop_oneof![Just(0x5f), Just(0x7f), Just(0x9f), Just(0xbf)])
            .prop_map(|(at, head)| Blow::Endless(at, head)),
        (at(), prop_oneof![Just(0x18), Just(0x38), Just(0x58), Just(0x98), Just(0xb8)])
            .prop_map(|(at, head)| Blow::Long(at, head)),
    ]
}

fn strike(bytes: &mut Vec<u8>, blow: &Blow) {
    let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
    let insert = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| drop(bytes.splice(at..at, new.iter().copied()));
    match blow {
        Blow::Flip(at, bit) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Blow::Flip(..) => {}
        Blow::Cut(at) => bytes.truncate(place(at, bytes)),
        Blow::Insert(at, new) => insert(bytes, place(at, bytes), new),
        Blow::Delete(at, count) => {
            let from = place(at, bytes);
            let to = (from + count).min(bytes.len());
            bytes.drain(from..to);
        }
        Blow::Repeat(at, count) => {
            let from = place(at, bytes);
            let again = bytes[from..(from + count).min(bytes.len())].to_vec();
            insert(bytes, from, &again);
        }
        Blow::Claim(at, major, length) => {
            let mut head = vec![(major << 5) | 27];
            head.extend_from_slice(&(length | 1 << 32).to_be_bytes());
            insert(bytes, place(at, bytes), &head);
        }
        Blow::Nest(at, head, deep) => insert(bytes, place(at, bytes), &vec![*head; *deep]),
        Blow::Endless(at, head) => insert(bytes, place(at, bytes), &[*head]),
        Blow::Long(at, head) => insert(bytes, place(at, bytes), &[*head, 0]),
    }
}

/// Bytes as the body of a frame of a kind.
fn framed(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), body].concat()
}

/// Words are refused, or read back as what they were read as.
fn words<T>(bytes: &[u8])
where
    T: Words + PartialEq + Debug + minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>,
{
    if let Ok(read) = decode_words::<T>(bytes) {
        assert_eq!(decode_words::<T>(&encode_words(&read)).as_ref(), Ok(&read));
    }
}

/// The same for text.
fn text<T: std::str::FromStr + std::fmt::Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string().parse::<T>().ok().as_ref(), Some(&read));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t52_a_frame_of_any_kind_that_was_struck_is_refused_or_is_another(
        frame in frame(), blows in vec(blow(), 1..6), other in any::<Index>(),
    ) {
        let mut body = codec::encode(&frame).unwrap()[HEADER_BYTES..].to_vec();
        blows.iter().for_each(|blow| strike(&mut body, blow));
        let other = Frame::KINDS[other.index(Frame::KINDS.len())].0;
        for kind in [frame.kind(), other] {
            match read_one(&framed(kind, &body)) {
                Ok(Some(read)) => {
                    prop_assert_eq!(read.kind(), kind);
                    let again = codec::encode(&read).unwrap();
                    prop_assert_eq!(read_one(&again).unwrap(), Some(read));
                }
                Ok(None) => prop_assert!(false, "a whole frame was not read"),
                Err(FrameError::Oversize { found, max, .. }) => prop_assert!(found > max && found == body.len()),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn t52_words_that_are_no_frames_are_refused_or_read_back(content in content(), blows in vec(blow(), 0..6)) {
        let mut bytes = encode_words(&content);
        blows.iter().for_each(|blow| strike(&mut bytes, blow));
        words::<Content>(&bytes);
        words::<FriendshipWord>(&bytes);
        words::<Card>(&bytes);
        words::<Challenge>(&bytes);
        words::<OpenLink>(&bytes);
        words::<OpenedLink>(&bytes);
    }

    #[test]
    fn t52_links_and_names_are_refused_or_read_back(blows in vec(blow(), 1..4), which in 0..4usize) {
        let samples = [
            "whimbrel:alice@a.example?at=a.example:4433#AAAA",
            "whimbrel-relay:a.example?at=a.example:4433#AAAA",
            "alice@a.example",
            "a.example",
        ];
        let mut bytes = samples[which].as_bytes().to_vec();
        blows.iter().for_each(|blow| strike(&mut bytes, blow));
        let struck = String::from_utf8_lossy(&bytes);
        text::<Invite>(&struck);
        text::<RelayLink>(&struck);
        text::<Address>(&struck);
        text::<Domain>(&struck);
        text::<Name>(&struck);
    }
}

/// A claim is answered by what came: a decoder that is handed a header of every kind and nothing else holds a header.
#[test]
fn t52_no_decoder_keeps_room_for_what_a_header_claims() {
    for (kind, name) in Frame::KINDS {
        let mut decoder = Decoder::new();
        let claimed = u32::try_from(Frame::body_bytes_max(*kind)).unwrap();
        decoder.push(&[&kind.to_be_bytes()[..], &claimed.to_be_bytes()].concat());
        assert_eq!(decoder.next_frame(), Ok(None), "{name}");
        assert_eq!(decoder.pending_bytes(), HEADER_BYTES, "{name}");
    }
}
