//! Real sockets on loopback: the direct layer alone, and two runtimes with scripted cores.

use std::net::{Ipv4Addr, SocketAddr};

use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use whimbrel_node::api::{Command, Output, Reply, Step};
use whimbrel_protocol::RefusalCode;
use whimbrel_protocol::direct::{DirectRefused, DirectStored};
use whimbrel_storage::{MemoryKv, Reads};

use super::*;
use crate::entrance::{Item, entrance};
use crate::outlet::{Outlet, outlet};
use crate::testing::{envelope, key, run, scripted, soon};

/// One direct layer; the test plays the core.
struct Side {
    key: KeyPair,
    words: Outlet<DirectWord>,
    inputs: mpsc::UnboundedReceiver<Input>,
    task: JoinHandle<()>,
}

fn side(byte: u8, at: &[SocketAddr], allow_loopback: bool) -> Side {
    let (entrance, inlet) = entrance();
    let (words, drain) = outlet();
    let (sender, inputs) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(Item::Input(input)) = inlet.next(None) {
            if sender.send(input).is_err() {
                return;
            }
        }
    });
    let task = start(&key(byte), (at, allow_loopback), Clock::start(), entrance, drain).unwrap();
    Side { key: key(byte), words, inputs, task }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn on_loopback(byte: u8) -> Side {
    side(byte, &[loopback()], false)
}

impl Side {
    async fn input(&mut self) -> Input {
        soon("an input", self.inputs.recv()).await.unwrap()
    }

    /// The first input that `wanted` takes; those before it are dropped.
    async fn until<T>(&mut self, mut wanted: impl FnMut(Input) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.input().await) {
                return found;
            }
        }
    }

    async fn addresses(&mut self) -> Vec<String> {
        self.until(|input| match input {
            Input::Listening { addresses } => Some(addresses),
            _ => None,
        })
        .await
    }

    fn dial(&self, whom: &Side, addresses: &[String]) {
        self.words.word(DirectWord::Dial(whom.key.public(), addresses.to_vec())).unwrap();
    }

    async fn link_to(&mut self, whom: &KeyPair) -> LinkId {
        let public = whom.public();
        self.until(|input| match input {
            Input::LinkUp { link, peer: Peer::Node { transport } } => {
                assert_eq!(transport, public);
                Some(link)
            }
            _ => None,
        })
        .await
    }

    async fn lost(&mut self) -> LinkId {
        self.until(|input| match input {
            Input::LinkLost { link } => Some(link),
            _ => None,
        })
        .await
    }

    async fn frame(&mut self) -> (LinkId, Frame) {
        self.until(|input| match input {
            Input::Frame { link, frame } => Some((link, frame)),
            Input::Malformed { .. } | Input::LinkLost { .. } => panic!("no frame but {input:?}"),
            _ => None,
        })
        .await
    }

    fn send(&self, link: LinkId, frame: impl Into<Frame>) {
        self.words.send(DirectWord::Send(link, frame.into()), 1).unwrap();
    }
}

async fn linked(one: &mut Side, two: &mut Side) -> (LinkId, LinkId) {
    let addresses = two.addresses().await;
    one.dial(two, &addresses);
    (one.link_to(&two.key).await, two.link_to(&one.key).await)
}

#[tokio::test]
async fn an_envelope_is_answered_on_the_link_it_came_on() {
    let (mut alice, mut bob) = (on_loopback(1), on_loopback(2));
    let (to_bob, to_alice) = linked(&mut alice, &mut bob).await;
    alice.send(to_bob, envelope(1, 300));
    assert_eq!(bob.frame().await, (to_alice, envelope(1, 300).into()));
    let stored = DirectStored { envelope: envelope(1, 300).envelope.id() };
    bob.send(to_alice, stored.clone());
    assert_eq!(alice.frame().await, (to_bob, stored.into()));
    // And the other way, refused.
    bob.send(to_alice, envelope(2, 300));
    assert_eq!(alice.frame().await, (to_bob, envelope(2, 300).into()));
    let refused = DirectRefused { envelope: envelope(2, 300).envelope.id(), code: RefusalCode::NotFound };
    alice.send(to_bob, refused.clone());
    assert_eq!(bob.frame().await, (to_alice, refused.into()));
}

#[tokio::test]
async fn more_envelopes_than_a_link_takes_at_once_wait_their_turn() {
    let (mut alice, mut bob) = (on_loopback(1), on_loopback(2));
    let (to_bob, to_alice) = linked(&mut alice, &mut bob).await;
    let many = 5 * limits::DIRECT_REQUESTS_MAX as u64;
    for number in 0..many {
        alice.send(to_bob, envelope(number, 20_000));
    }
    // Unanswered, no more than the bound come.
    let mut unanswered = Vec::new();
    for _ in 0..limits::DIRECT_REQUESTS_MAX {
        unanswered.push(bob.frame().await.1);
    }
    assert!(bob.inputs.is_empty());
    let mut seen = BTreeSet::new();
    while (seen.len() as u64) < many {
        let Frame::DirectEnvelope(words) =
            (if unanswered.is_empty() { bob.frame().await.1 } else { unanswered.remove(0) })
        else {
            panic!("not an envelope");
        };
        let envelope = words.envelope.id();
        assert!(seen.insert(envelope));
        bob.send(to_alice, DirectStored { envelope });
    }
    let mut answered = BTreeSet::new();
    while (answered.len() as u64) < many {
        let (_, Frame::DirectStored(words)) = alice.frame().await else { panic!("not an answer") };
        assert!(answered.insert(words.envelope));
    }
    assert_eq!(seen, answered);
}

#[tokio::test]
async fn the_largest_envelope_passes() {
    let (mut alice, mut bob) = (on_loopback(1), on_loopback(2));
    let (to_bob, to_alice) = linked(&mut alice, &mut bob).await;
    let largest = envelope(1, limits::ENVELOPE_BODY_BYTES_MAX);
    alice.send(to_bob, largest.clone());
    assert_eq!(bob.frame().await, (to_alice, largest.into()));
}

#[tokio::test]
async fn another_node_at_the_address_is_not_taken_for_the_one_meant() {
    let (mut alice, mut mallory, bob) = (on_loopback(1), on_loopback(3), on_loopback(2));
    let addresses = mallory.addresses().await;
    alice.dial(&bob, &addresses);
    let refused = alice
        .until(|input| match input {
            Input::DialFailed { transport } => Some(transport),
            Input::LinkUp { .. } => panic!("linked to a stranger"),
            _ => None,
        })
        .await;
    assert_eq!(refused, bob.key.public());
}

#[tokio::test]
async fn a_dial_that_leads_nowhere_is_told() {
    let (mut alice, bob) = (on_loopback(1), on_loopback(2));
    // Held, so that nobody else answers there.
    let silent = std::net::UdpSocket::bind(loopback()).unwrap();
    let silent = format!("/ip4/127.0.0.1/udp/{}/quic-v1", silent.local_addr().unwrap().port());
    for addresses in [vec![], vec!["/dns4/bob.example/udp/1/quic-v1".to_owned()], vec![silent]] {
        alice.dial(&bob, &addresses);
        let failed = alice
            .until(|input| match input {
                Input::DialFailed { transport } => Some(transport),
                _ => None,
            })
            .await;
        assert_eq!(failed, bob.key.public());
    }
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_at_once_have_one_link_each() {
    let (mut alice, mut bob) = (on_loopback(1), on_loopback(2));
    let (at_alice, at_bob) = (alice.addresses().await, bob.addresses().await);
    alice.dial(&bob, &at_bob);
    bob.dial(&alice, &at_alice);
    let to_bob = alice.link_to(&bob.key).await;
    let to_alice = bob.link_to(&alice.key).await;
    for number in 0..20 {
        alice.send(to_bob, envelope(number, 100));
        assert_eq!(bob.frame().await, (to_alice, envelope(number, 100).into()));
    }
    alice.words.word(DirectWord::Close(to_bob)).unwrap();
    assert_eq!(alice.lost().await, to_bob);
    assert_eq!(bob.lost().await, to_alice);
}

#[tokio::test]
async fn a_node_that_leaves_is_missed_at_once_and_can_come_back() {
    let (mut alice, mut bob) = (on_loopback(1), on_loopback(2));
    let (_, to_alice) = linked(&mut alice, &mut bob).await;
    let Side { words, task, .. } = alice;
    drop(words);
    soon("leaving", task).await.unwrap();
    assert_eq!(bob.lost().await, to_alice);
    let mut alice = on_loopback(1);
    let at_alice = alice.addresses().await;
    bob.dial(&alice, &at_alice);
    let again = bob.link_to(&alice.key).await;
    assert_ne!(again, to_alice);
}

#[tokio::test]
async fn a_link_that_was_closed_can_be_had_again_at_once() {
    let (mut alice, mut bob) = (on_loopback(1), on_loopback(2));
    let at_bob = bob.addresses().await;
    alice.dial(&bob, &at_bob);
    for _ in 0..20 {
        let to_bob = alice.link_to(&bob.key).await;
        alice.words.word(DirectWord::Close(to_bob)).unwrap();
        alice.dial(&bob, &at_bob);
        assert_eq!(alice.lost().await, to_bob);
    }
    let to_bob = alice.link_to(&bob.key).await;
    // Of all the links Bob was told of, the last is the one that stands.
    alice.send(to_bob, envelope(1, 100));
    let mut standing = None;
    let on = bob
        .until(|input| match input {
            Input::LinkUp { link, .. } => {
                standing = Some(link);
                None
            }
            Input::LinkLost { link } => {
                standing = standing.filter(|standing| *standing != link);
                None
            }
            Input::Frame { link, .. } => Some((link, standing)),
            _ => None,
        })
        .await;
    assert_eq!(Some(on.0), on.1);
}

#[tokio::test]
async fn a_dial_of_a_node_that_is_linked_already_is_answered() {
    let (mut alice, mut bob) = (on_loopback(1), on_loopback(2));
    let at_alice = alice.addresses().await;
    linked(&mut alice, &mut bob).await;
    bob.dial(&alice, &at_alice);
    assert!(matches!(bob.input().await, Input::DialFailed { .. }));
}

#[tokio::test]
async fn a_wildcard_address_is_told_as_the_addresses_of_the_interfaces() {
    let anywhere = (Ipv4Addr::UNSPECIFIED, 0).into();
    let mut alice = side(1, &[anywhere], true);
    let told = loop {
        let told = alice.addresses().await;
        if told.iter().any(|address| address.starts_with("/ip4/127.0.0.1/udp/")) {
            break told;
        }
    };
    assert!(told.iter().all(|address| !address.starts_with("/ip4/0.0.0.0") && !address.ends_with("/udp/0/quic-v1")));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::UdpSocket::bind(loopback()).unwrap();
    let address = taken.local_addr().unwrap();
    let (entrance, _inlet) = entrance();
    let (_words, drain) = outlet();
    let failed = start(&key(1), (&[address], false), Clock::start(), entrance, drain).unwrap_err();
    assert!(matches!(failed, DirectError::Listen { address: named, .. } if named == address));
}

/// Writes whatever bytes it is given, and reads none.
#[derive(Clone, Copy, Default)]
struct Rude;

impl request_response::Codec for Rude {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        io.read_exact(&mut [0]).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

#[tokio::test]
async fn oversize_and_broken_requests_are_refused_and_the_link_goes_on() {
    let mut bob = on_loopback(2);
    let at_bob: Multiaddr = bob.addresses().await[0].parse().unwrap();
    let mut rude_key = [9; 32];
    let rude_key = Keypair::ed25519_from_bytes(&mut rude_key).unwrap();
    let quic = quic::tokio::Transport::new(quic::Config::new(&rude_key))
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
        .boxed();
    let protocol = (StreamProtocol::new(PROTOCOL_DIRECT), ProtocolSupport::Outbound);
    let requests = request_response::Behaviour::<Rude>::new([protocol], request_response::Config::default());
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    let mut rude = Swarm::new(quic, requests, rude_key.public().to_peer_id(), config);
    let peer = address::peer_id(&bob.key.public()).unwrap();
    let oversize = [&80_u16.to_be_bytes()[..], &u32::MAX.to_be_bytes(), &[0; 100]].concat();
    let broken = [&80_u16.to_be_bytes()[..], &3_u32.to_be_bytes(), b"???"].concat();
    let stranger = whimbrel_protocol::codec::encode(&DirectStored { envelope: envelope(1, 8).envelope.id() }.into());
    let wrong = [oversize, broken, stranger.unwrap()];
    for bytes in wrong.clone() {
        rude.behaviour_mut().send_request_with_addresses(&peer, bytes, vec![at_bob.clone()]);
    }
    let fine = whimbrel_protocol::codec::encode(&envelope(7, 100).into()).unwrap();
    let mut unanswered = 0;
    let mut inputs = Vec::new();
    soon("refusals", async {
        while unanswered < wrong.len() || inputs.len() < 2 + wrong.len() {
            tokio::select! {
                event = rude.select_next_some() => {
                    if let SwarmEvent::Behaviour(request_response::Event::OutboundFailure { .. }) = event {
                        unanswered += 1;
                        if unanswered == wrong.len() {
                            rude.behaviour_mut().send_request_with_addresses(&peer, fine.clone(), vec![at_bob.clone()]);
                        }
                    }
                }
                input = bob.inputs.recv() => inputs.push(input.unwrap()),
            }
        }
    })
    .await;
    assert!(matches!(inputs.remove(0), Input::LinkUp { .. }));
    assert!(matches!(inputs.pop(), Some(Input::Frame { frame: Frame::DirectEnvelope(_), .. })), "the link is gone");
    assert!(inputs.iter().all(|input| matches!(input, Input::Malformed { .. })), "{inputs:?}");
}

/// A core that dials whom it is told, sends one envelope on every link, and stores what comes.
fn echo(reports: mpsc::UnboundedSender<Input>, dial: Option<(PublicKey, Vec<String>)>) -> impl crate::driver::Core {
    scripted(move |input, _: &dyn Reads, step: &mut Step| {
        match &input {
            Input::Command { ticket, .. } => {
                if let Some((transport, addresses)) = dial.clone() {
                    step.outputs.push(Output::Dial { transport, addresses });
                }
                step.outputs.push(Output::Answer { ticket: *ticket, result: Ok(Reply::Done) });
            }
            Input::LinkUp { link, .. } => {
                step.outputs.push(Output::Send { link: *link, frame: envelope(link.get(), 500).into() });
            }
            Input::Frame { link, frame: Frame::DirectEnvelope(words) } => {
                let envelope = words.envelope.id();
                step.batch.put(envelope.as_bytes().to_vec(), b"stored".to_vec());
                step.outputs.push(Output::Send { link: *link, frame: DirectStored { envelope }.into() });
            }
            _ => {}
        }
        let _nobody_asks = reports.send(input);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runtimes_store_each_others_envelopes_over_a_direct_link() {
    let listen = DirectOptions::Listen { at: vec![loopback()], allow_loopback: false };
    let (bob_reports, mut at_bob) = mpsc::unbounded_channel();
    let bob_store = std::sync::Arc::new(MemoryKv::in_memory().unwrap());
    let bob = run(echo(bob_reports, None), bob_store.clone(), &key(2), &listen);
    let Some(Input::Listening { addresses }) = soon("address", at_bob.recv()).await else { panic!("no address") };
    let (alice_reports, mut at_alice) = mpsc::unbounded_channel();
    let alice_store = std::sync::Arc::new(MemoryKv::in_memory().unwrap());
    let dial = Some((key(2).public(), addresses));
    let alice = run(echo(alice_reports, dial), alice_store.clone(), &key(1), &listen);
    soon("dial", alice.command(Command::Status)).await.unwrap();
    for (reports, other) in [(&mut at_alice, &bob_store), (&mut at_bob, &alice_store)] {
        let stored = soon("answer", async {
            loop {
                if let Some(Input::Frame { frame: Frame::DirectStored(words), .. }) = reports.recv().await {
                    return words.envelope;
                }
            }
        })
        .await;
        // Whoever heard "stored" can rely on it.
        assert_eq!(other.get(stored.as_bytes()).unwrap(), Some(b"stored".to_vec()));
    }
    soon("shutdown", alice.shutdown()).await.unwrap();
    soon("loss", async { while !matches!(at_bob.recv().await, Some(Input::LinkLost { .. })) {} }).await;
    soon("shutdown", bob.shutdown()).await.unwrap();
}
