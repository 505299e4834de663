//! A link over HTTPS, spoken by hand: the relay's own client code has no part in it but the pin.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use whimbrel_protocol::codec::{self, Decoder};
use whimbrel_protocol::frame::{decode_words, encode_words};
use whimbrel_protocol::friendship::{Act, Befriend, FRIENDSHIP_CONTEXT, FriendshipWord};
use whimbrel_protocol::hold::{AckedLog, Acknowledge};
use whimbrel_protocol::id::{RelayId, Sequence};
use whimbrel_protocol::limits;
use whimbrel_protocol::poll::{Challenge, OpenLink, OpenedLink};
use whimbrel_protocol::presence::Goodbye;
use whimbrel_protocol::push::{LogRef, Push};
use whimbrel_protocol::reception::Done;

use super::*;

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// One HTTPS connection to the relay of a link.
struct Http {
    stream: TlsStream<TcpStream>,
}

impl Http {
    async fn connect(running: &Running, relay: RelayId) -> std::io::Result<Self> {
        Self::connect_from(running, relay, Ipv4Addr::LOCALHOST).await
    }

    /// From one of the addresses of the loopback: each is a network of its own to the relay.
    async fn connect_from(running: &Running, relay: RelayId, from: Ipv4Addr) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(running.https.as_ref().unwrap().parse().unwrap()).await?;
        let tls = whimbrel_transport::https_client(relay, running.link.domain.clone(), present).unwrap();
        let name = ServerName::try_from("relay.invalid").unwrap();
        Ok(Self { stream: tokio_rustls::TlsConnector::from(tls).connect(name, stream).await? })
    }

    async fn to(running: &Running) -> Self {
        Self::connect(running, running.link.relay).await.unwrap()
    }

    async fn send(&mut self, method: &str, path: &str, body: &[u8]) {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: relay\r\ncontent-length: {}\r\n\r\n", body.len());
        self.stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    }

    async fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.send(method, path, body).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Answer {
        let mut bytes = Vec::new();
        let at = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            assert!(self.stream.read_buf(&mut bytes).await.unwrap() > 0, "closed without an answer");
        };
        let head = String::from_utf8(bytes[..at].to_vec()).unwrap().to_lowercase();
        let mut body = bytes[at + 4..].to_vec();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        if let Some(length) = header("content-length") {
            let length: usize = length.parse().unwrap();
            while body.len() < length {
                assert!(self.stream.read_buf(&mut body).await.unwrap() > 0);
            }
        } else if header("transfer-encoding") == Some("chunked") {
            body = self.chunks(body).await;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body }
    }

    /// Reads a chunked body (RFC 9112 §7.1).
    async fn chunks(&mut self, mut raw: Vec<u8>) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = raw.windows(2).position(|two| two == b"\r\n") {
                    break at;
                }
                assert!(self.stream.read_buf(&mut raw).await.unwrap() > 0);
            };
            let length = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
            while raw.len() < line + 2 + length + 2 {
                assert!(self.stream.read_buf(&mut raw).await.unwrap() > 0);
            }
            body.extend_from_slice(&raw[line + 2..line + 2 + length]);
            raw.drain(..line + 2 + length + 2);
            if length == 0 {
                return body;
            }
        }
    }
}

/// A polled link of a person's device.
struct Polled {
    http: Http,
    path: String,
    exporter: [u8; 32],
    /// Frames sent, and frames that arrived.
    sent: u64,
    arrived: u64,
}

impl Polled {
    async fn open(running: &Running, person: &Person) -> Self {
        Self::open_over(Http::to(running).await, running, person).await
    }

    async fn open_over(mut http: Http, running: &Running, person: &Person) -> Self {
        let (words, exporter) = opening(&mut http, running.link.relay, person).await;
        let answer = http.ask("POST", "/v1/link", &encode_words(&words)).await;
        assert_eq!(answer.status, 200, "{}", answer.head);
        let opened: OpenedLink = decode_words(&answer.body).unwrap();
        let link: String = opened.link.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { http, path: format!("/v1/link/{link}"), exporter, sent: 0, arrived: 0 }
    }

    /// One call, as it is: nothing is counted.
    async fn call(&mut self, wait: u64, frames: &[Frame]) -> Answer {
        let body: Vec<u8> = frames.iter().flat_map(|frame| codec::encode(frame).unwrap()).collect();
        let path = format!("{}?after={}&from={}&wait={wait}", self.path, self.arrived, self.sent);
        self.http.ask("POST", &path, &body).await
    }

    /// One call whose answer arrives.
    async fn poll(&mut self, wait: u64, frames: &[Frame]) -> Vec<Frame> {
        let answer = self.call(wait, frames).await;
        assert_eq!(answer.status, 200, "{}", answer.head);
        self.sent += frames.len() as u64;
        assert!(answer.head.contains(&format!("whimbrel-received: {}", self.sent)), "{}", answer.head);
        let frames = frames_of(&answer.body);
        self.arrived += frames.len() as u64;
        frames
    }

    /// Asks, and gives everything up to the frame that fits.
    async fn until(&mut self, asked: &[Frame], fits: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut heard = self.poll(20, asked).await;
        while !heard.iter().any(&fits) {
            heard.extend(self.poll(20, &[]).await);
        }
        heard
    }

    fn register(&self, person: &Person, name: &str) -> Frame {
        person.register_over(&self.exporter, name)
    }

    async fn greet(&mut self, person: &Person) -> Vec<Frame> {
        let hello = person.hello_over(&self.exporter);
        self.until(&[hello], |frame| *frame == Frame::from(CaughtUp {})).await
    }
}

fn frames_of(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    let frames = std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
    assert_eq!(decoder.pending_bytes(), 0);
    frames
}

/// A challenge, answered as it should be.
async fn opening(http: &mut Http, relay: RelayId, person: &Person) -> (OpenLink, [u8; 32]) {
    let answer = http.ask("GET", "/v1/challenge", &[]).await;
    assert_eq!(answer.status, 200);
    let Challenge { challenge } = decode_words(&answer.body).unwrap();
    let transport = person.transport.public();
    let exporter = link::poll_exporter(&relay, &transport, &challenge);
    let proof = link::prove_transport(&person.transport, &exporter);
    (OpenLink { challenge, transport, proof }, exporter)
}

fn place() -> Place {
    let place = Place::new("a.example");
    place.edit("# https = [\"[::]:4433\"]", "https = [\"127.0.0.1:0\"]");
    place
}

/// A request for friendship from somebody new: an entry for the other's inbox.
async fn befriend(running: &Running, byte: u8, name: &str, to: &Person) {
    let person = Person::new(byte);
    let mut link = come_in(&person, &running.link, name).await;
    let word = FriendshipWord {
        by: person.id(),
        address: format!("{name}@a.example").parse().unwrap(),
        to: to.id().account,
        act: Act::Request,
        at: present(),
        note: None,
    };
    let content = whimbrel_protocol::canonical::encode(&word);
    let word = whimbrel_crypto::signed::sign(&person.device, person.id(), FRIENDSHIP_CONTEXT, content);
    let request = RequestId::new(20);
    let answer = ask(&mut link, &Befriend { request, domain: "a.example".parse().unwrap(), word }.into()).await;
    assert_eq!(answer, Done { request }.into());
}

/// The inbox's runs among frames: where each began and ended, and how many entries it had.
fn runs(frames: &[Frame]) -> Vec<(u64, u64, usize)> {
    let run = |frame: &Frame| match frame {
        Frame::Push(Push { log: LogRef::Inbox, after, upto, entries, gone: None }) => {
            Some((after.get(), upto.get(), entries.len()))
        }
        _ => None,
    };
    frames.iter().filter_map(run).collect()
}

fn acknowledge(upto: u64) -> Frame {
    Acknowledge { logs: vec![AckedLog { log: LogRef::Inbox, upto: Sequence::new(upto) }] }.into()
}

#[tokio::test]
async fn row_7_a_device_without_udp_polls_acknowledges_and_after_reconnecting_gets_only_what_is_new() {
    let (place, alice) = (place(), Person::new(1));
    let running = place.start();
    let mut polled = Polled::open(&running, &alice).await;
    let register = polled.register(&alice, "alice");
    let heard = polled.until(&[register], |frame| matches!(frame, Frame::Registered(_))).await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    polled.greet(&alice).await;
    // Nothing waits: a short poll comes back at once, a long one when something comes.
    assert_eq!(polled.poll(0, &[]).await, []);
    let (heard, ()) = tokio::join!(polled.poll(20, &[]), befriend(&running, 2, "bob", &alice));
    assert_eq!(runs(&heard), [(0, 1, 1)]);
    polled.until(&[acknowledge(1), Heartbeat::default().into()], |f| matches!(f, Frame::HeartbeatAnswer(_))).await;
    // It says goodbye; two come in its absence.
    polled.poll(0, &[Goodbye {}.into()]).await;
    assert_eq!(polled.http.ask("DELETE", &polled.path.clone(), &[]).await.status, 204);
    befriend(&running, 3, "carol", &alice).await;
    befriend(&running, 4, "dave", &alice).await;

    let mut again = Polled::open(&running, &alice).await;
    let heard = again.greet(&alice).await;
    assert_eq!(runs(&heard), [(1, 3, 2)]);
    // The cursor is the same on any link: what was acknowledged here does not come again by QUIC.
    again.until(&[acknowledge(2), Heartbeat::default().into()], |f| matches!(f, Frame::HeartbeatAnswer(_))).await;
    let mut quic = alice.connect(&running.link).await;
    quic.receiver.authenticated();
    quic.sender.send(&alice.hello(&quic)).unwrap();
    let mut heard = Vec::new();
    while heard.last() != Some(&Frame::from(CaughtUp {})) {
        heard.push(quic.receiver.next().await.unwrap());
    }
    assert_eq!(runs(&heard), [(2, 3, 1)]);
    // The newer link has ended the polled one, which is told so and then is no more.
    let heard = again.poll(20, &[]).await;
    assert!(matches!(heard.last(), Some(Frame::Refused(_))), "{heard:?}");
    assert_eq!(again.call(0, &[]).await.status, 404);
    running.signal("TERM");
    assert_eq!(running.end().0, Some(0));
}

#[tokio::test]
async fn a_lost_answer_is_repeated_and_frames_sent_again_are_taken_once() {
    let (place, alice) = (place(), Person::new(1));
    let running = place.start();
    let mut polled = Polled::open(&running, &alice).await;
    let register = polled.register(&alice, "alice");
    polled.until(&[register], |frame| matches!(frame, Frame::Registered(_))).await;
    polled.greet(&alice).await;
    let who = Who::Address("alice@a.example".parse().unwrap());
    let look_up: Frame = LookUp { request: RequestId::new(7), who, hint: None }.into();
    let first = polled.call(20, std::slice::from_ref(&look_up)).await;
    assert!(matches!(frames_of(&first.body)[..], [Frame::LookedUp(_)]));
    // The answer was lost on its way: connection, call and body once more.
    polled.http = Http::to(&running).await;
    let second = polled.call(20, std::slice::from_ref(&look_up)).await;
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    // Taken once: there is one answer, not two.
    polled.sent += 1;
    polled.arrived += 1;
    let beat = polled.until(&[Heartbeat::default().into()], |frame| matches!(frame, Frame::HeartbeatAnswer(_))).await;
    assert_eq!(beat.len(), 1, "{beat:?}");
    // Numbers that leave a gap are refused, on either side.
    for query in ["after=99&from=0", "after=0&from=99", "after=0&from=0"] {
        let path = format!("{}?{query}", polled.path);
        assert_eq!(polled.http.ask("POST", &path, &[]).await.status, 409, "{query}");
    }
    // A newer call ends an older one's wait.
    let mut other = Http::to(&running).await;
    let path = format!("{}?after={}&from={}&wait=25", polled.path, polled.arrived, polled.sent);
    other.send("POST", &path, &[]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(polled.poll(0, &[]).await, []);
    let ended = tokio::time::timeout(Duration::from_secs(5), other.answer()).await.expect("it waits no more");
    assert_eq!((ended.status, ended.body.len()), (200, 0));
}

#[tokio::test]
async fn wrong_proofs_guessed_links_and_large_bodies_are_refused() {
    let (place, alice) = (place(), Person::new(1));
    let running = place.start();
    // Another relay's pin: no TLS at all.
    assert!(Http::connect(&running, RelayId::from_bytes([9; 32])).await.is_err());

    let mut http = Http::to(&running).await;
    let relay = running.link.relay;
    // Another relay was meant; another key signed; the challenge is not the relay's; words that are none.
    let (elsewhere, _) = opening(&mut http, RelayId::from_bytes([9; 32]), &alice).await;
    let (good, _) = opening(&mut http, relay, &alice).await;
    let other = OpenLink { transport: Person::new(2).transport.public(), ..good.clone() };
    let mut made_up = good.clone();
    made_up.challenge[50] ^= 1;
    for words in [elsewhere, other, made_up] {
        assert_eq!(http.ask("POST", "/v1/link", &encode_words(&words)).await.status, 403);
    }
    assert_eq!(http.ask("POST", "/v1/link", b"\x00").await.status, 400);

    // T31: a guess is worth as much as nonsense, and as a link that has ended.
    let mut polled = Polled::open(&running, &alice).await;
    for link in ["00112233445566778899aabbccddeeff", "nonsense", "0011"] {
        for method in ["POST", "DELETE"] {
            let answer = polled.http.ask(method, &format!("/v1/link/{link}"), &[]).await;
            assert_eq!((answer.status, answer.body.len()), (404, 0), "{method} {link}");
        }
    }
    // A proof for another link: refused by the core as on any link.
    let hello = alice.hello_over(&[7; 32]);
    let heard = polled.poll(20, &[hello]).await;
    let [Frame::Refused(refused)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(refused.code, RefusalCode::NotAuthenticated);
    assert_eq!(polled.call(0, &[]).await.status, 404);

    // A stranger's body is as small as its frames may be, and nobody's is larger than a link's.
    let mut polled = Polled::open(&running, &alice).await;
    for length in [limits::UNAUTHENTICATED_BYTES_MAX + 1, limits::POLL_BODY_BYTES_MAX + 1] {
        let head = format!("POST {} HTTP/1.1\r\nhost: relay\r\ncontent-length: {length}\r\n\r\n", polled.path);
        let mut http = Http::to(&running).await;
        http.stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(http.answer().await.status, 413);
    }
    let mut http = Http::to(&running).await;
    let head = format!("POST {} HTTP/1.1\r\nhost: relay\r\ntransfer-encoding: chunked\r\n\r\n", polled.path);
    http.stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(http.answer().await.status, 411);
    // Bytes that are no frame end the link.
    let path = polled.path.clone();
    assert_eq!(polled.http.ask("POST", &path, b"\x00\x01\x00\x00\x00\x09too few").await.status, 400);
    assert_eq!(polled.http.ask("POST", &path, &[]).await.status, 404);
    assert_eq!(polled.http.ask("POST", "/v1/link/x?after=1&after=2", &[]).await.status, 404);
}

/// T50: a body that hardly comes.
#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_no_longer_than_its_time() {
    let (place, alice) = (place(), Person::new(1));
    let running = place.start();
    let polled = Polled::open(&running, &alice).await;
    let mut http = Http::to(&running).await;
    let head = format!("POST {} HTTP/1.1\r\nhost: relay\r\ncontent-length: 100\r\n\r\nx", polled.path);
    http.stream.write_all(head.as_bytes()).await.unwrap();
    let patience = limits::POLL_BODY_TIME_MAX * 2;
    let answer = tokio::time::timeout(patience, http.answer()).await.expect("it is answered");
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn a_stranger_who_says_nothing_loses_the_link() {
    let (place, alice) = (place(), Person::new(1));
    let running = place.start();
    let mut polled = Polled::open(&running, &alice).await;
    let answer = polled.call(25, &[]).await;
    // Five seconds to say hello, as on any link; then it is no more.
    assert_eq!(answer.status, 404);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn t50_an_address_with_all_the_connections_it_may_have_keeps_no_other_out() {
    let (place, alice) = (place(), Person::new(1));
    let running = place.start();
    let eve = || Http::connect_from(&running, running.link.relay, Ipv4Addr::new(127, 0, 0, 2));
    // They stand, say nothing, and are waited for longer than this takes.
    let mut held: Vec<Http> = stream::iter((0..limits::HTTP_CONNECTIONS_OF_ONE_MAX).map(|_| eve()))
        .buffer_unordered(16)
        .map(|came| came.expect("within its share"))
        .collect()
        .await;
    for _ in 0..20 {
        assert!(eve().await.is_err(), "beyond its share");
    }
    let mut polled = Polled::open(&running, &alice).await;
    let register = polled.register(&alice, "alice");
    polled.until(&[register], |frame| matches!(frame, Frame::Registered(_))).await;
    polled.greet(&alice).await;
    // Whoever held it has room again when one is gone.
    drop(held.pop());
    let again = async {
        while eve().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("a place is free again");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn t50_an_opening_takes_of_its_networks_share_before_its_signature_is_looked_at_and_takes_it_once() {
    let place = place();
    place.edit("arrivals = { rate = \"600/min\", burst = 1200 }", "arrivals = { rate = \"1/min\", burst = 3 }");
    let running = place.start();
    let (alice, relay) = (Person::new(1), running.link.relay);
    let mut http = Http::to(&running).await;
    let (good, _) = opening(&mut http, relay, &alice).await;
    let forged = OpenLink { transport: Person::new(2).transport.public(), ..good.clone() };
    let mut made_up = good.clone();
    made_up.challenge[50] ^= 1;
    let mut opened = async |words: &OpenLink| {
        let answer = http.ask("POST", "/v1/link", &encode_words(words)).await;
        let after = answer.head.lines().find_map(|line| line.strip_prefix("retry-after: ")?.parse::<u64>().ok());
        (answer.status, after)
    };
    for words in [&forged, &made_up, &forged, &made_up, &forged, &made_up] {
        assert_eq!(opened(words).await, (403, None), "a challenge that is none costs nothing");
    }
    for words in [&forged, &good] {
        let (status, after) = opened(words).await;
        assert!(status == 429 && after.is_some_and(|after| (1..=60).contains(&after)), "{status} {after:?}");
    }
    // Another address has its own: a link and a registration take one each, and a second link the last.
    let from = || Http::connect_from(&running, relay, Ipv4Addr::new(127, 0, 0, 2));
    let mut polled = Polled::open_over(from().await.unwrap(), &running, &alice).await;
    let register = polled.register(&alice, "alice");
    polled.until(&[register], |frame| matches!(frame, Frame::Registered(_))).await;
    let bob = Person::new(2);
    Polled::open_over(from().await.unwrap(), &running, &bob).await;
    let mut http = from().await.unwrap();
    let (words, _) = opening(&mut http, relay, &bob).await;
    assert_eq!(http.ask("POST", "/v1/link", &encode_words(&words)).await.status, 429);
}
