//! T50: many who come and say next to nothing.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use whimbrel_transport::bare::{Connection, ConnectionError, Dialler, SendStream};

use super::*;

const CROWD: usize = 2_000;
/// Handshakes at once: below where a relay asks for a proof of address, which costs a round trip more.
const AT_ONCE: usize = 50;
/// What one of them may cost at the most: bytes kept before authentication, and as much again for the connection.
const BYTES_EACH_MAX: u64 = 2 * whimbrel_protocol::limits::UNAUTHENTICATED_BYTES_MAX as u64;
/// Far beyond the bound, on a machine that is busy with the handshakes themselves.
const PATIENCE: Duration = Duration::from_secs(120);

fn place() -> Place {
    let place = Place::new("a.example");
    place.edit("# https = [\"[::]:4433\"]", "https = [\"127.0.0.1:0\"]");
    place.edit("# metrics = \"127.0.0.1:9464\"", "metrics = \"127.0.0.1:0\"");
    // They come from one network, and it is not the rate that is to be seen.
    place.edit("arrivals = { rate = \"600/min\", burst = 1200 }", "arrivals = \"unbounded\"");
    place
}

/// The largest that a process was, in bytes.
#[cfg(target_os = "linux")]
fn peak(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Comes and sends one byte; nobody when the relay is too busy to finish the handshake in its time.
async fn one_byte(dialler: &Dialler, to: &RelayLink) -> Option<(Connection, SendStream)> {
    let connection = dialler.connect(to.endpoint.parse().unwrap()).unwrap().await.ok()?;
    let (mut stream, _) = connection.open_bi().await.ok()?;
    stream.write_all(b"\x00").await.ok()?;
    Some((connection, stream))
}

/// Until the other side closes it: how, and how long that took.
async fn closed(connection: Connection, stream: SendStream) -> (ConnectionError, Duration) {
    let since = Instant::now();
    let reason = tokio::time::timeout(PATIENCE, connection.closed()).await.expect("it is closed");
    drop(stream);
    (reason, since.elapsed())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn t50_two_thousand_links_that_send_one_byte_are_closed_cost_little_and_keep_nobody_out() {
    let place = place();
    let running = place.start();
    let mut alice = come_in(&Person::new(1), &running.link, "alice").await;
    let before = peak(&running);
    let identity = Identity::node(&Person::new(9).transport).unwrap();
    let dialler = Dialler::bind(&identity, present, &running.link).unwrap();
    let (connection, stream) = one_byte(&dialler, &running.link).await.unwrap();
    // One stream a link, and none without an end to answer on.
    assert!(tokio::time::timeout(Duration::from_millis(500), connection.open_bi()).await.is_err());
    assert!(tokio::time::timeout(Duration::from_millis(500), connection.open_uni()).await.is_err());
    let mut ends = JoinSet::new();
    ends.spawn(closed(connection, stream));
    let coming = futures_util::stream::iter((0..CROWD).map(|_| one_byte(&dialler, &running.link)));
    let mut coming = std::pin::pin!(coming.buffer_unordered(AT_ONCE));
    while let Some(came) = coming.next().await {
        if let Some((connection, stream)) = came {
            ends.spawn(closed(connection, stream));
        }
    }
    let came = ends.len();
    assert!(came > CROWD * 9 / 10, "only {came} came in");
    let answer = ask(&mut alice, &Heartbeat::default().into()).await;
    assert!(matches!(answer, Frame::HeartbeatAnswer(_)), "{answer:?}");
    come_in(&Person::new(2), &running.link, "bob").await;
    let mut slowest = Duration::ZERO;
    while let Some(end) = ends.join_next().await {
        let (reason, time) = end.unwrap();
        assert!(!matches!(reason, ConnectionError::LocallyClosed | ConnectionError::TimedOut), "{reason:?}");
        slowest = slowest.max(time);
    }
    let grown = peak(&running) - before;
    println!("{came} links: closed within {slowest:?}, {} KiB each at the peak", grown / CROWD as u64 / 1024);
    assert!(grown < CROWD as u64 * BYTES_EACH_MAX, "{grown} bytes");
    let answer = ask(&mut alice, &Heartbeat::default().into()).await;
    assert!(matches!(answer, Frame::HeartbeatAnswer(_)), "{answer:?}");
}

/// Connects, says this, and gives how long it took until the other side ended it.
async fn until_ended(address: &str, say: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let since = Instant::now();
    stream.write_all(say).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is ended");
    // An end or a reset, but no wait.
    let _either = ended;
    since.elapsed()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn t50_two_thousand_slow_connections_over_tcp_are_closed_and_keep_nobody_out() {
    let place = place();
    let running = place.start();
    let before = peak(&running);
    let https = running.https.clone().unwrap();
    let metrics = running.metrics.clone().unwrap();
    let crowd = (0..CROWD).map(|_| until_ended(&https, b"\x16"));
    let crowd = crowd.collect::<FuturesUnordered<_>>().fold(Duration::ZERO, async |slowest, time| slowest.max(time));
    // Half a request, and none at all.
    let heads =
        (0..100).map(|at| until_ended(&metrics, if at % 2 == 0 { b"GET /metrics HTTP/1.1\r\nhost:" } else { b"" }));
    let heads = heads.collect::<FuturesUnordered<_>>().fold(Duration::ZERO, async |slowest, time| slowest.max(time));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        come_in(&Person::new(1), &running.link, "alice").await;
        let page = {
            let metrics = metrics.clone();
            tokio::task::spawn_blocking(move || watch::fetch(&metrics, "/readyz")).await.unwrap()
        };
        assert_eq!(page.0, 200);
    };
    let (slowest, heads, ()) = tokio::join!(crowd, heads, meanwhile);
    let grown = peak(&running) - before;
    println!(
        "{CROWD} connections: closed within {slowest:?}, half a request within {heads:?}, {} KiB each at the peak",
        grown / CROWD as u64 / 1024
    );
    assert!(grown < CROWD as u64 * BYTES_EACH_MAX, "{grown} bytes");
    assert!(slowest < heads && heads < Duration::from_secs(60), "{slowest:?} {heads:?}");
}
