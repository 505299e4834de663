#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
//! Real sockets on loopback.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use whimbrel_crypto::{CertificateError, KeyPair, RelayIdentity};
use whimbrel_protocol::codec::HEADER_BYTES;
use whimbrel_protocol::id::{Domain, RelayId, RequestId};
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::reception::Done;
use whimbrel_protocol::thread::Blob;
use whimbrel_protocol::time::Wall;
use whimbrel_protocol::{ALPN_NODE, Frame, limits};

use crate::identity::Kind;
use crate::verify::Pinned;
use crate::*;

const DAY_MS: u64 = 86_400_000;
const START: Wall = Wall::from_millis(20_000 * DAY_MS);

fn today() -> Wall {
    START
}

fn next_year() -> Wall {
    Wall::from_millis(START.as_millis() + 365 * DAY_MS)
}

fn key(byte: u8) -> KeyPair {
    KeyPair::from_seed_bytes([byte; 32])
}

fn relay_of(byte: u8, domain: &str) -> RelayIdentity {
    RelayIdentity::create(&key(byte), &key(byte + 1), &domain.parse().unwrap(), START).unwrap()
}

fn node(byte: u8) -> Endpoint {
    Endpoint::bind_dialler(Identity::node(&key(byte)).unwrap(), today).unwrap()
}

/// A relay on loopback, and the link that leads to it.
fn relay(byte: u8, domain: &str) -> (Endpoint, RelayLink) {
    let identity = relay_of(byte, domain);
    let link_for = |endpoint: &Endpoint| RelayLink {
        domain: identity.domain().clone(),
        endpoint: endpoint.local_address().unwrap().to_string(),
        relay: identity.id(),
    };
    let endpoint = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), Identity::relay(&identity).unwrap(), today).unwrap();
    let link = link_for(&endpoint);
    (endpoint, link)
}

fn done(number: u64) -> Frame {
    Done { request: RequestId::new(number) }.into()
}

async fn accept(relay: &Endpoint) -> Result<Link, AcceptError> {
    relay.accept().await.unwrap().establish().await
}

/// Both ends of a link; the dialler has sent `done(0)`, which was read.
async fn joined(dialler: &Endpoint, relay: &Endpoint, to: &RelayLink) -> (Link, Link) {
    let (ours, theirs) = tokio::join!(
        async {
            let link = dialler.connect(to).await.unwrap();
            link.sender.send(&done(0)).unwrap();
            link
        },
        async {
            let mut link = accept(relay).await.unwrap();
            assert_eq!(link.receiver.next().await.unwrap(), done(0));
            link
        }
    );
    (ours, theirs)
}

/// A node's identity, to be given another certificate.
fn nobody() -> Identity {
    Identity::node(&KeyPair::from_seed_bytes([99; 32])).unwrap()
}

#[tokio::test]
async fn frames_go_both_ways_between_proved_ends() {
    let (relay, to) = relay(1, "a.example");
    let (mut ours, mut theirs) = joined(&node(9), &relay, &to).await;
    assert_eq!(theirs.peer, Peer::Node { key: key(9).public() });
    assert_eq!(ours.peer, Peer::Relay { relay: to.relay, domain: to.domain.clone() });
    assert_eq!(ours.exporter, theirs.exporter);
    for number in 1..20 {
        ours.sender.send(&done(number)).unwrap();
        assert_eq!(theirs.receiver.next().await.unwrap(), done(number));
        theirs.sender.send(&done(number + 100)).unwrap();
        assert_eq!(ours.receiver.next().await.unwrap(), done(number + 100));
    }
}

#[tokio::test]
async fn two_relays_know_each_other_by_certificate() {
    let (a, to_a) = relay(1, "a.example");
    let (b, to_b) = relay(5, "b.example");
    let (ours, theirs) = joined(&a, &b, &to_b).await;
    assert_eq!(ours.peer, Peer::Relay { relay: to_b.relay, domain: to_b.domain });
    assert_eq!(theirs.peer, Peer::Relay { relay: to_a.relay, domain: to_a.domain });
}

#[tokio::test]
async fn each_connection_has_an_exporter_of_its_own() {
    let (relay, to) = relay(1, "a.example");
    let node = node(9);
    let (first, _keep) = joined(&node, &relay, &to).await;
    let (second, _keep_too) = joined(&node, &relay, &to).await;
    assert_ne!(first.exporter, second.exporter);
}

/// What a dial that must fail came to; the relay answers knocks meanwhile.
async fn dial_fails(dialler: &Endpoint, relay: &Endpoint, to: &RelayLink) -> ConnectError {
    tokio::select! {
        outcome = dialler.connect(to) => outcome.map(|_| ()).unwrap_err(),
        () = async { loop { let _refused = accept(relay).await; } } => unreachable!(),
    }
}

#[tokio::test]
async fn a_relay_with_another_identity_is_told_apart_from_none() {
    let (relay, to) = relay(1, "a.example");
    let expected = RelayId::from_bytes([7; 32]);
    let error = dial_fails(&node(9), &relay, &RelayLink { relay: expected, ..to.clone() }).await;
    assert_eq!(error, ConnectError::WrongRelay { expected, found: to.relay });
    assert!(error.is_mistrust());
}

#[tokio::test]
async fn a_relay_of_another_domain_is_refused() {
    let (relay, to) = relay(1, "a.example");
    let meant: Domain = "b.example".parse().unwrap();
    let error = dial_fails(&node(9), &relay, &RelayLink { domain: meant.clone(), ..to.clone() }).await;
    assert_eq!(error, ConnectError::WrongDomain { expected: meant, found: to.domain });
}

#[tokio::test]
async fn an_expired_online_certificate_is_refused() {
    let (relay, to) = relay(1, "a.example");
    let node = Endpoint::bind_dialler(Identity::node(&key(9)).unwrap(), next_year).unwrap();
    let error = dial_fails(&node, &relay, &to).await;
    assert_eq!(error, ConnectError::Certificate(CertificateError::Dates));
    assert!(error.is_mistrust());
}

#[tokio::test]
async fn nobody_there_is_unreachable_or_a_time_out() {
    let node = node(9);
    let (_, to) = relay(1, "a.example");
    let error = node.connect(&RelayLink { endpoint: "no-such-host.invalid:1".to_owned(), ..to }).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(!error.is_mistrust());
}

#[tokio::test]
async fn an_endpoint_by_name_leads_to_whichever_address_answers() {
    let (relay, to) = relay(1, "a.example");
    let port = relay.local_address().unwrap().port();
    joined(&node(9), &relay, &RelayLink { endpoint: format!("localhost:{port}"), ..to }).await;
}

/// A dial that the relay must refuse. TLS 1.3 tells the dialler only once it reads.
async fn refused_by_relay(dialler: &Endpoint, relay: &Endpoint, to: &RelayLink) -> (AcceptError, CloseReason) {
    let (told, accepted) = tokio::join!(
        async {
            match dialler.connect(to).await {
                Ok(mut link) => {
                    let _lost = link.sender.send(&done(0));
                    match link.receiver.next().await.unwrap_err() {
                        ReceiveError::Closed(reason) => reason,
                        error => panic!("{error}"),
                    }
                }
                Err(ConnectError::Closed(reason)) => reason,
                Err(ConnectError::Version) => CloseReason::Version,
                Err(error) => panic!("{error}"),
            }
        },
        accept(relay),
    );
    (accepted.map(|_| ()).unwrap_err(), told)
}

#[tokio::test]
async fn a_node_certificate_on_the_relays_protocol_is_refused() {
    let (relay, to) = relay(1, "a.example");
    let identity = Identity { kind: Kind::Relay, ..Identity::node(&key(9)).unwrap() };
    let pretender = Endpoint::bind_dialler(identity, today).unwrap();
    let (accepted, told) = refused_by_relay(&pretender, &relay, &to).await;
    assert_eq!(accepted, AcceptError::Kind);
    assert_eq!(told, CloseReason::ByPeer(CloseCode::NotAllowed));
}

#[tokio::test]
async fn a_relay_certificate_on_the_nodes_protocol_is_refused() {
    let (relay, to) = relay(1, "a.example");
    let identity = Identity { kind: Kind::Node, ..Identity::relay(&relay_of(5, "b.example")).unwrap() };
    let pretender = Endpoint::bind_dialler(identity, today).unwrap();
    assert_eq!(refused_by_relay(&pretender, &relay, &to).await.0, AcceptError::Kind);
}

#[tokio::test]
async fn a_node_certificate_that_is_not_ed25519_is_refused() {
    let (relay, to) = relay(1, "a.example");
    let made = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certified = Arc::new(CertifiedKey::from_der(vec![certificate], secret, &provider()).unwrap());
    let node = Endpoint::bind_dialler(Identity { certified, ..nobody() }, today).unwrap();
    let (_, told) = refused_by_relay(&node, &relay, &to).await;
    assert_eq!(told, CloseReason::CertificateRefused);
}

#[tokio::test]
async fn a_certificate_with_a_foreign_key_is_refused() {
    let (relay, to) = relay(1, "a.example");
    let victim = Identity::node(&key(9)).unwrap().certified.cert.clone();
    let own = Identity::node(&key(8)).unwrap().certified.key.clone();
    let certified = Arc::new(CertifiedKey::new(victim, own));
    let thief = Endpoint::bind_dialler(Identity { certified, ..nobody() }, today).unwrap();
    assert!(matches!(refused_by_relay(&thief, &relay, &to).await.0, AcceptError::Handshake(_)));
}

#[tokio::test]
async fn a_relay_with_an_expired_certificate_is_refused_as_a_dialler_too() {
    let (_, to) = relay(1, "a.example");
    let late =
        Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), Identity::relay(&relay_of(1, "a.example")).unwrap(), next_year)
            .unwrap();
    let to = RelayLink { endpoint: late.local_address().unwrap().to_string(), ..to };
    // Its clock is right a year later, when both certificates are long over; only the acceptor judges the dialler.
    let dialler = Endpoint::bind_dialler(Identity::relay(&relay_of(5, "b.example")).unwrap(), today).unwrap();
    let (_, told) = refused_by_relay(&dialler, &late, &to).await;
    assert_eq!(told, CloseReason::CertificateRefused);
}

/// A dialler of our own making, for what [`Endpoint`] never does.
async fn raw(to: &RelayLink, with_certificate: bool, alpn: &[u8]) -> Result<quinn::Connection, quinn::ConnectionError> {
    let provider = provider();
    let pinned = Pinned::new(to.relay, to.domain.clone(), today, provider.signature_verification_algorithms);
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(pinned);
    let mut tls = if with_certificate {
        let certified = Identity::node(&key(9)).unwrap().certified;
        builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
    } else {
        builder.with_no_client_auth()
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = to.endpoint.parse().unwrap();
    endpoint.connect_with(quinn::ClientConfig::new(Arc::new(tls)), address, "relay.invalid").unwrap().await
}

#[tokio::test]
async fn a_node_without_a_certificate_is_refused() {
    let (relay, to) = relay(1, "a.example");
    let (told, accepted) = tokio::join!(
        async {
            match raw(&to, false, ALPN_NODE).await {
                Ok(connection) => connection.closed().await,
                Err(error) => error,
            }
        },
        accept(&relay)
    );
    assert!(matches!(accepted, Err(AcceptError::Handshake(_))));
    assert_eq!(CloseReason::from(told), CloseReason::CertificateRefused);
}

#[tokio::test]
async fn an_unknown_protocol_version_is_told() {
    let (relay, to) = relay(1, "a.example");
    let (told, accepted) = tokio::join!(raw(&to, true, b"whimbrel-node/999"), accept(&relay));
    assert_eq!(accepted.map(|_| ()).unwrap_err(), AcceptError::Handshake(CloseReason::Version));
    assert_eq!(CloseReason::from(told.unwrap_err()), CloseReason::Version);
}

#[tokio::test]
async fn a_header_over_its_bound_closes_the_link_and_costs_no_memory() {
    let (relay, to) = relay(1, "a.example");
    for claimed in [u32::MAX, limits::UNAUTHENTICATED_BYTES_MAX as u32 + 1] {
        // A kind that allows 4 MiB, but not before authentication.
        let kind = Frame::from(Blob { request: RequestId::new(1), bytes: Vec::new() }).kind();
        let (connection, link) = tokio::join!(
            async {
                let connection = raw(&to, true, ALPN_NODE).await.unwrap();
                let (mut stream, _) = connection.open_bi().await.unwrap();
                stream.write_all(&[&kind.to_be_bytes()[..], &claimed.to_be_bytes()].concat()).await.unwrap();
                connection
            },
            accept(&relay)
        );
        let mut link = link.unwrap();
        let error = link.receiver.next().await.unwrap_err();
        assert!(matches!(error, ReceiveError::Oversize { claimed: found, .. } if found == claimed as usize), "{error}");
        assert!(link.receiver.buffered_capacity() <= 64);
        assert_eq!(CloseReason::from(connection.closed().await), CloseReason::ByPeer(CloseCode::Protocol));
    }
}

#[tokio::test]
async fn a_malformed_body_is_told_and_the_next_frame_read() {
    let (relay, to) = relay(1, "a.example");
    let (connection, link) = tokio::join!(
        async {
            let connection = raw(&to, true, ALPN_NODE).await.unwrap();
            let (mut stream, _) = connection.open_bi().await.unwrap();
            let kind = done(1).kind().to_be_bytes();
            let mut bytes = [&kind[..], &3_u32.to_be_bytes(), &[0xff, 0xff, 0xff]].concat();
            bytes.extend(whimbrel_protocol::codec::encode(&done(2)).unwrap());
            // Byte by byte, so that headers and bodies come in pieces.
            for byte in bytes {
                stream.write_all(&[byte]).await.unwrap();
            }
            (connection, stream)
        },
        accept(&relay)
    );
    let mut link = link.unwrap();
    assert!(matches!(link.receiver.next().await, Err(ReceiveError::Malformed(_))));
    assert_eq!(link.receiver.next().await.unwrap(), done(2));
    drop(connection);
}

/// A link whose other end writes bytes as it likes.
async fn written_by_hand(relay: &Endpoint, to: &RelayLink) -> (quinn::Connection, quinn::SendStream, Link) {
    let ((connection, stream), link) = tokio::join!(
        async {
            let connection = raw(to, true, ALPN_NODE).await.unwrap();
            let (mut stream, _) = connection.open_bi().await.unwrap();
            stream.write_all(&whimbrel_protocol::codec::encode(&done(1)).unwrap()).await.unwrap();
            (connection, stream)
        },
        accept(relay)
    );
    let mut link = link.unwrap();
    assert_eq!(link.receiver.next().await.unwrap(), done(1));
    (connection, stream, link)
}

/// How long a receiver waits before it ends the link, in seconds of a clock that jumps to whatever is due next; and for
/// how much of the frame.
async fn given_up(link: &mut Link) -> (u64, usize) {
    let since = tokio::time::Instant::now();
    match link.receiver.next().await.unwrap_err() {
        ReceiveError::Slow { received } => (since.elapsed().as_secs(), received),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn t50_a_frame_that_began_has_its_header_in_time_and_comes_on_at_the_least_rate_or_the_link_ends() {
    let header = limits::FRAME_HEADER_TIME_MAX.as_secs();
    let kind = Frame::from(Blob { request: RequestId::new(1), bytes: Vec::new() }).kind();
    let claim = [&kind.to_be_bytes()[..], &40_000_u32.to_be_bytes()].concat();
    // Of a header one byte; a header; a header and ten seconds' worth of a body.
    for (bytes, waited) in
        [(vec![0], header), (claim.clone(), header), ([&claim[..], &[0; 10 * 1_024]].concat(), header + 10)]
    {
        let (relay, to) = relay(1, "a.example");
        let (connection, mut stream, mut link) = written_by_hand(&relay, &to).await;
        tokio::time::pause();
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(given_up(&mut link).await, (waited, bytes.len()));
        assert_eq!(CloseReason::from(connection.closed().await), CloseReason::ByPeer(CloseCode::Slow));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn t50_a_frame_that_comes_slowly_but_at_the_least_rate_is_read_and_so_is_whatever_comes_after_a_silence() {
    let (relay, to) = relay(1, "a.example");
    let (_connection, mut stream, mut link) = written_by_hand(&relay, &to).await;
    let frame = Frame::from(Blob { request: RequestId::new(1), bytes: vec![7; 40_000] });
    let bytes = whimbrel_protocol::codec::encode(&frame).unwrap();
    tokio::time::pause();
    let write = async {
        // Nothing began: this is nobody's fault.
        tokio::time::sleep(limits::FRAME_HEADER_TIME_MAX * 2).await;
        for second in bytes.chunks(1_024) {
            stream.write_all(second).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    };
    let read = async {
        // Whoever waits is called away again and again, and what they waited counts on.
        loop {
            let waited = std::time::Duration::from_millis(300);
            if let Ok(read) = tokio::time::timeout(waited, link.receiver.next()).await {
                return read;
            }
        }
    };
    let (read, ()) = tokio::join!(read, write);
    assert!(read.unwrap() == frame);
    // Called away in the middle of a frame, for twice the time it may take: that is not the sender's time.
    stream.write_all(&bytes[..2_000]).await.unwrap();
    let called_away = tokio::time::timeout(std::time::Duration::from_secs(1), link.receiver.next()).await;
    assert!(called_away.is_err());
    tokio::time::sleep(limits::FRAME_HEADER_TIME_MAX * 2).await;
    stream.write_all(&bytes[2_000..]).await.unwrap();
    assert!(link.receiver.next().await.unwrap() == frame);
    // Calls that end before the time is up do not begin it anew.
    stream.write_all(&bytes[..1]).await.unwrap();
    let mut calls = 0;
    let ended = loop {
        let waited = std::time::Duration::from_secs(3);
        match tokio::time::timeout(waited, link.receiver.next()).await {
            Ok(ended) => break ended,
            Err(_) => calls += 1,
        }
    };
    assert_eq!((ended, calls), (Err(ReceiveError::Slow { received: 1 }), 3));
}

#[tokio::test]
async fn the_largest_frame_passes_once_authenticated() {
    let (relay, to) = relay(1, "a.example");
    let (ours, mut theirs) = joined(&node(9), &relay, &to).await;
    theirs.receiver.authenticated();
    let bytes = vec![0x5a; limits::LARGE_FRAME_BYTES_MAX - 32];
    let largest = Frame::from(Blob { request: RequestId::new(1), bytes });
    let encoded = Encoded::new(&largest).unwrap();
    assert!(encoded.bytes_len() > limits::LARGE_FRAME_BYTES_MAX - 32 + HEADER_BYTES);
    ours.sender.send_encoded(encoded).unwrap();
    ours.sender.send(&done(1)).unwrap();
    assert!(theirs.receiver.next().await.unwrap() == largest);
    assert_eq!(theirs.receiver.next().await.unwrap(), done(1));
    assert!(theirs.receiver.buffered_capacity() <= 64 * 1024);
}

#[tokio::test]
async fn an_own_frame_over_its_bound_is_not_taken() {
    let (relay, to) = relay(1, "a.example");
    let (ours, _theirs) = joined(&node(9), &relay, &to).await;
    let bytes = vec![0; limits::LARGE_FRAME_BYTES_MAX + 1];
    let error = ours.sender.send(&Blob { request: RequestId::new(1), bytes }.into()).unwrap_err();
    assert!(matches!(error, SendError::Oversize(_)));
}

#[tokio::test]
async fn a_full_queue_refuses_then_tells_that_it_drained_and_order_is_kept() {
    let (relay, to) = relay(1, "a.example");
    let (ours, mut theirs) = joined(&node(9), &relay, &to).await;
    let total = 20_000;
    let write = async {
        let mut refused = 0;
        for number in 1..=total {
            while ours.sender.send(&done(number)) == Err(SendError::Full) {
                refused += 1;
                ours.sender.drained().await;
                ours.sender.has_room().await;
                assert!(!ours.sender.is_crowded());
            }
        }
        refused
    };
    let read = async {
        for number in 1..=total {
            assert_eq!(theirs.receiver.next().await.unwrap(), done(number));
        }
    };
    let (refused, ()) = tokio::join!(write, read);
    assert!(refused > 0);
}

#[tokio::test]
async fn the_queue_is_bounded_in_bytes_too() {
    let (relay, to) = relay(1, "a.example");
    let (ours, _theirs) = joined(&node(9), &relay, &to).await;
    let large = Encoded::new(&Blob { request: RequestId::new(1), bytes: vec![0; 1024 * 1024] }.into()).unwrap();
    let taken = std::iter::repeat_with(|| ours.sender.send_encoded(large.clone())).take_while(Result::is_ok).count();
    assert_eq!(taken, limits::LINK_QUEUE_BYTES_MAX / (1024 * 1024) - 1);
}

#[tokio::test]
async fn many_small_frames_travel_in_few_packets() {
    let (relay, to) = relay(1, "a.example");
    let (ours, mut theirs) = joined(&node(9), &relay, &to).await;
    let before = ours.sender.packets_sent();
    for number in 1..=1_000 {
        ours.sender.send(&done(number)).unwrap();
    }
    for number in 1..=1_000 {
        assert_eq!(theirs.receiver.next().await.unwrap(), done(number));
    }
    let packets = ours.sender.packets_sent() - before;
    assert!(packets < 100, "{packets} packets for 1,000 frames");
}

#[tokio::test]
async fn what_is_queued_leaves_before_a_close() {
    let (relay, to) = relay(1, "a.example");
    let (ours, mut theirs) = joined(&node(9), &relay, &to).await;
    for number in 1..=500 {
        ours.sender.send(&done(number)).unwrap();
    }
    ours.sender.close(CloseCode::Done);
    assert_eq!(ours.sender.send(&done(501)), Err(SendError::Gone));
    for number in 1..=500 {
        assert_eq!(theirs.receiver.next().await.unwrap(), done(number));
    }
    assert_eq!(theirs.receiver.next().await, Err(ReceiveError::Closed(CloseReason::Finished)));
}

#[tokio::test]
async fn a_dropped_link_is_noticed_by_the_other_side() {
    let (relay, to) = relay(1, "a.example");
    let (ours, mut theirs) = joined(&node(9), &relay, &to).await;
    drop(ours);
    assert!(matches!(theirs.receiver.next().await, Err(ReceiveError::Closed(_))));
    theirs.sender.closed().await;
    tokio::task::yield_now().await;
}

#[tokio::test]
async fn an_abort_says_why() {
    let (relay, to) = relay(1, "a.example");
    let (mut ours, theirs) = joined(&node(9), &relay, &to).await;
    theirs.sender.abort(CloseCode::Shutdown);
    assert_eq!(ours.receiver.next().await, Err(ReceiveError::Closed(CloseReason::ByPeer(CloseCode::Shutdown))));
}

#[tokio::test]
async fn beyond_the_bound_a_stranger_proves_its_address_first() {
    let (relay, to) = relay(1, "a.example");
    relay.handshakes_counter().store(limits::HANDSHAKES_BEFORE_RETRY, Ordering::Relaxed);
    let node = node(9);
    let (ours, theirs) = tokio::join!(
        async {
            let link = node.connect(&to).await.unwrap();
            link.sender.send(&done(0)).unwrap();
            link
        },
        async {
            let incoming = relay.accept().await.unwrap();
            assert!(incoming.is_address_proved());
            incoming.establish().await.unwrap()
        }
    );
    drop((ours, theirs));
    relay.handshakes_counter().store(limits::HANDSHAKES_MAX, Ordering::Relaxed);
    let outcome = tokio::select! {
        outcome = node.connect(&to) => outcome,
        _ = relay.accept() => panic!("let in"),
    };
    assert!(matches!(outcome, Err(ConnectError::Closed(_))));
}

#[tokio::test]
async fn an_endpoint_that_stopped_accepting_keeps_its_links() {
    let (relay, to) = relay(1, "a.example");
    let (ours, mut theirs) = joined(&node(9), &relay, &to).await;
    relay.stop_accepting();
    ours.sender.send(&done(1)).unwrap();
    assert_eq!(theirs.receiver.next().await.unwrap(), done(1));
}

#[test]
fn the_handshake_is_hybrid_first_and_tls_1_3_only() {
    let provider = provider();
    let groups: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups, [rustls::NamedGroup::X25519MLKEM768, rustls::NamedGroup::X25519]);
    assert!(provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()));
}
