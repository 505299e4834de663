//! T50: streams whose first bytes never come, and devices that were let in and then all but stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use whimbrel_protocol::codec::{self, Decoder};
use whimbrel_protocol::{EXPORTER_LABEL, limits};
use whimbrel_transport::bare::{Connection, ConnectionError, Dialler, RecvStream, SendStream};

use super::*;

const MANY: usize = 200;
/// Far beyond every bound here: nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(180);
/// What a datagram of a hole has at the least; what comes after it is in smaller ones.
const LARGE: usize = 600;

/// A path to a relay on which large datagrams of links that stand are lost, again and again.
struct Path {
    at: SocketAddr,
    lost: Arc<AtomicUsize>,
    _carries: JoinSet<()>,
}

impl Path {
    async fn to(relay: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        far.connect(relay).await.unwrap();
        let (at, lost) = (near.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = lost.clone();
        let mut carries = JoinSet::new();
        carries.spawn(async move {
            let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
            let mut node = None;
            loop {
                tokio::select! {
                    received = near.recv_from(&mut there) => {
                        let (length, from) = received.unwrap();
                        node = Some(from);
                        // The handshake has long headers (RFC 9000 §17.2) and passes.
                        let short = there[0] & 0x80 == 0;
                        if short && length > LARGE {
                            count.fetch_add(1, Ordering::SeqCst);
                        } else {
                            let _lost_like_any = far.send(&there[..length]).await;
                        }
                    }
                    received = far.recv(&mut back) => {
                        if let (Ok(length), Some(node)) = (received, node) {
                            let _lost_like_any = near.send_to(&back[..length], node).await;
                        }
                    }
                }
            }
        });
        Self { at, lost, _carries: carries }
    }
}

/// Sends what is lost, and then what comes after it: a little at a time, as long as the link stands. Gives how it ended.
async fn with_a_hole(connection: Connection, mut stream: SendStream) -> ConnectionError {
    let sending = async {
        if stream.write_all(&[7; 1_100]).await.is_ok() {
            while stream.write_all(&[7; 16]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = sending => unreachable!("it never ends"),
        reason = tokio::time::timeout(PATIENCE, connection.closed()) => reason.expect("it is closed"),
    }
}

/// All that ended, in order.
async fn in_order(mut ends: JoinSet<(u8, ConnectionError)>) -> (Vec<u8>, Vec<ConnectionError>) {
    let mut ended = (Vec::new(), Vec::new());
    while let Some(end) = ends.join_next().await {
        let (whose, reason) = end.unwrap();
        ended.0.push(whose);
        ended.1.push(reason);
    }
    ended
}

/// The relay ended it; it did not come to the time after which a link that nobody holds is gone by itself.
fn by_the_relay(reason: &ConnectionError) -> bool {
    matches!(reason, ConnectionError::ApplicationClosed(_))
}

/// A device that is let in, by hand.
async fn let_in(person: &Person, to: &RelayLink, at: SocketAddr) -> (Connection, SendStream, RecvStream) {
    let dialler = Dialler::bind(&Identity::node(&person.transport).unwrap(), present, to).unwrap();
    let connection = dialler.connect(at).unwrap().await.unwrap();
    let (mut sender, mut receiver) = connection.open_bi().await.unwrap();
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").unwrap();
    sender.write_all(&codec::encode(&person.hello_over(&exporter)).unwrap()).await.unwrap();
    let mut decoder = Decoder::default();
    loop {
        while let Some(frame) = decoder.next_frame().unwrap() {
            assert!(!matches!(frame, Frame::Refused(_)), "{frame:?}");
            if frame == Frame::from(CaughtUp {}) {
                return (connection, sender, receiver);
            }
        }
        let mut bytes = vec![0; 4_096];
        let read = receiver.read(&mut bytes).await.unwrap().expect("it goes on");
        decoder.push(&bytes[..read]);
    }
}

fn place() -> Place {
    let place = Place::new("a.example");
    place.edit("arrivals = { rate = \"600/min\", burst = 1200 }", "arrivals = \"unbounded\"");
    place
}

/// A device that beats until the others are done: it is none the worse.
async fn beats(mut link: Link, done: Arc<tokio::sync::Notify>) {
    loop {
        let answer = ask(&mut link, &Heartbeat::default().into()).await;
        assert!(matches!(answer, Frame::HeartbeatAnswer(_)), "{answer:?}");
        tokio::select! {
            () = done.notified() => return,
            () = tokio::time::sleep(limits::HEARTBEAT_EVERY) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t50_streams_whose_first_bytes_never_come_are_ended_in_time_before_and_after_admission() {
    let place = place();
    let running = place.start();
    let to = running.link.clone();
    let alice = come_in(&Person::new(1), &to, "alice").await;
    drop(come_in(&Person::new(2), &to, "bob").await);
    let before = crowd::peak(&running);
    let path = Path::to(to.endpoint.parse().unwrap()).await;
    let done = Arc::new(tokio::sync::Notify::new());
    let well = tokio::spawn(beats(alice, done.clone()));

    let mut ends = JoinSet::new();
    let identity = Identity::node(&Person::new(9).transport).unwrap();
    let dialler = Dialler::bind(&identity, present, &to).unwrap();
    // A path carries one socket's links.
    let bobs = Path::to(to.endpoint.parse().unwrap()).await;
    let mut strangers = 0;
    for _ in 0..MANY {
        let Ok(connection) = dialler.connect(path.at).unwrap().await else { continue };
        let Ok((stream, receiver)) = connection.open_bi().await else { continue };
        strangers += 1;
        ends.spawn(async move {
            let reason = with_a_hole(connection, stream).await;
            drop(receiver);
            (0, reason)
        });
    }
    assert!(strangers > MANY * 9 / 10, "only {strangers} came in");
    // The last to come: his minute begins now, whatever the others took.
    let (bob, sender, receiver) = let_in(&Person::new(2), &to, bobs.at).await;
    ends.spawn(async move {
        let reason = with_a_hole(bob, sender).await;
        drop(receiver);
        (2, reason)
    });
    come_in(&Person::new(3), &to, "carol").await;
    let (order, reasons) = in_order(ends).await;
    assert!(reasons.iter().all(by_the_relay), "{reasons:?}");
    // Strangers have as long as it takes to say who they are; a device is silent, and has a minute.
    assert_eq!(order.last(), Some(&2), "{order:?}");
    assert!(path.lost.load(Ordering::SeqCst) >= strangers, "what was to be lost was");
    let grown = crowd::peak(&running) - before;
    println!("{strangers} streams with holes: {} KiB each at the peak", grown / strangers as u64 / 1024);
    assert!(grown < strangers as u64 * crowd::BYTES_EACH_MAX, "{grown} bytes");
    done.notify_one();
    well.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn t50_devices_that_were_let_in_and_send_a_byte_a_minute_are_ended_and_others_are_not() {
    let place = place();
    let running = place.start();
    let to = running.link.clone();
    let alice = come_in(&Person::new(1), &to, "alice").await;
    let done = Arc::new(tokio::sync::Notify::new());
    let well = tokio::spawn(beats(alice, done.clone()));
    let mut ends = JoinSet::new();
    // The last of them is silent, and has a minute for that: longer than whoever began a frame.
    for byte in (3..52).chain([2]) {
        let person = Person::new(byte);
        drop(come_in(&person, &to, &format!("p{byte}")).await);
        let (connection, mut sender, receiver) = let_in(&person, &to, to.endpoint.parse().unwrap()).await;
        ends.spawn(async move {
            let slow = async {
                while byte != 2 && sender.write_all(&[0]).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                std::future::pending::<()>().await;
            };
            let reason = tokio::select! {
                () = slow => unreachable!("it never ends"),
                reason = tokio::time::timeout(PATIENCE, connection.closed()) => reason.expect("it is closed"),
            };
            drop((sender, receiver));
            (byte, reason)
        });
    }
    let (order, reasons) = in_order(ends).await;
    assert!(reasons.iter().all(by_the_relay), "{reasons:?}");
    assert_eq!(order.last(), Some(&2), "{order:?}");
    done.notify_one();
    well.await.unwrap();
}
