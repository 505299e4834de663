//! T50 and T55: many who come and say next to nothing, and many who come back at once.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use whimbrel_protocol::limits;
use whimbrel_transport::bare::{Connection, ConnectionError, Dialler, SendStream};

use super::services::friends_here;
use super::*;

const CROWD: usize = 2_000;
/// Handshakes at once: below where a relay asks for a proof of address, which costs a round trip more.
const AT_ONCE: usize = 50;
/// What one of them may cost at the most: bytes kept before authentication, and as much again for the connection.
pub(super) const BYTES_EACH_MAX: u64 = 2 * limits::UNAUTHENTICATED_BYTES_MAX as u64;
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
pub(super) fn peak(running: &Running) -> u64 {
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

/// Connects from one of the loopback's addresses, says this, and gives how long it took until the other side ended it.
async fn until_ended(address: &str, from: Ipv4Addr, say: &[u8]) -> Duration {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
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
    // From as many addresses as it takes: one alone may not have so many.
    let of = |at: usize| Ipv4Addr::new(127, 0, 0, 2 + (at / limits::HTTP_CONNECTIONS_OF_ONE_MAX) as u8);
    let crowd = (0..CROWD).map(|at| until_ended(&https, of(at), b"\x16"));
    let crowd = crowd.collect::<FuturesUnordered<_>>().fold(Duration::ZERO, async |slowest, time| slowest.max(time));
    // Half a request, and none at all.
    let heads = (0..100).map(|at| {
        until_ended(&metrics, Ipv4Addr::LOCALHOST, if at % 2 == 0 { b"GET /metrics HTTP/1.1\r\nhost:" } else { b"" })
    });
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

/// A link, however long the machine takes for a handshake.
async fn reach(person: &Person, to: &RelayLink) -> Link {
    let mut tries = 0..20;
    loop {
        let dialler = Endpoint::bind_dialler(Identity::node(&person.transport).unwrap(), present).unwrap();
        match dialler.connect(to).await {
            Ok(link) => return link,
            Err(error) => drop(tries.next().unwrap_or_else(|| panic!("no link: {error}"))),
        }
    }
}

/// What came of one attempt to come back.
enum Came {
    /// Let in, with so many frames before everything that waited was there.
    In(Box<Link>, usize),
    /// Refused, with the time after which it passes.
    Wait(Duration),
    /// The relay was too busy for the handshake.
    Lost,
}

async fn try_back(person: &Person, to: &RelayLink) -> Came {
    let dialler = Endpoint::bind_dialler(Identity::node(&person.transport).unwrap(), present).unwrap();
    let Ok(mut link) = dialler.connect(to).await else { return Came::Lost };
    link.receiver.authenticated();
    // Whoever is refused at once hears so, whether or not there is an end to say hello to.
    let _either = link.sender.send(&person.hello(&link));
    let mut heard = 0;
    loop {
        match link.receiver.next().await {
            Ok(Frame::CaughtUp(_)) => return Came::In(Box::new(link), heard),
            Ok(Frame::Refused(refused)) => {
                assert_eq!((refused.request, refused.code), (None, RefusalCode::TooFast));
                return Came::Wait(Duration::from_millis(refused.retry_after_ms.expect("a time to wait").into()));
            }
            Ok(frame) => {
                let usual = matches!(frame, Frame::Admitted(_) | Frame::Stocked(_) | Frame::Push(_));
                assert!(usual, "told unasked: {frame:?}");
                heard += 1;
            }
            Err(_) => return Came::Lost,
        }
    }
}

/// Comes back as nodes do: after what was named at the least, and ever later, by chance. Gives the link, when it was let
/// in, and how often it was refused.
async fn back(person: &Person, to: &RelayLink, permits: &Semaphore, n: u64) -> (Box<Link>, Instant, usize) {
    let mut chance = Chance::from_seed(Seed::from_bytes([n as u8; 32]));
    let mut refused = 0;
    for attempt in 0_u32.. {
        assert!(attempt < ATTEMPTS_MAX, "the relay lets nobody in");
        let came = {
            let _permit = permits.acquire().await.unwrap();
            try_back(person, to).await
        };
        let named = match came {
            Came::In(link, heard) => {
                assert!(heard <= 8, "{heard} frames for one that was away for a moment");
                return (link, Instant::now(), refused);
            }
            Came::Wait(time) => {
                refused += 1;
                time
            }
            Came::Lost => Duration::ZERO,
        };
        let full = limits::RELAY_BACKOFF_MIN.saturating_mul(1 << attempt.min(4));
        let by_chance = full / 2 + Duration::from_millis(chance.below(full.as_millis() as u64 / 2 + 1));
        tokio::time::sleep(by_chance.max(named)).await;
    }
    unreachable!("it tries until it is in")
}

/// Comes back, and beats as a device does until so many are in.
async fn stay(
    person: &Person,
    to: &RelayLink,
    permits: &Semaphore,
    (n, inside): (u64, &AtomicUsize),
) -> (Instant, usize) {
    let (mut link, at, refused) = back(person, to, permits, n).await;
    inside.fetch_add(1, Ordering::SeqCst);
    loop {
        let last = inside.load(Ordering::SeqCst) == CROWD;
        let answer = ask(&mut link, &Heartbeat::default().into()).await;
        assert!(matches!(answer, Frame::HeartbeatAnswer(_)), "{answer:?}");
        if last {
            return (at, refused);
        }
        tokio::time::sleep(limits::HEARTBEAT_EVERY).await;
    }
}

/// Links a second after the first, and those at once.
const RATE: u32 = 50;
/// Tries to come back, each after a pause of up to eight seconds.
const ATTEMPTS_MAX: u32 = 200;
const BURST: u32 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn t55_two_thousand_sessions_that_return_after_a_restart_are_let_in_at_the_rate_and_served_as_before() {
    let place = place();
    // Nobody reads its log until it ends, and a line for each who registers would fill the pipe.
    place.edit("level = \"info\"", "level = \"warn\"");
    let running = place.start();
    let to = running.link.clone();
    let (mut alice, mut bob) = friends_here(&to).await;
    let person = |n: usize| {
        let mut seed = [77; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        Person::seeded(seed)
    };
    let people: Vec<Arc<Person>> = (0..CROWD).map(|n| Arc::new(person(n))).collect();
    let joining = people.iter().enumerate().map(|(n, person)| {
        let (person, to) = (person.clone(), to.clone());
        async move { come_in_on(&person, reach(&person, &to).await, &format!("c{n}")).await }
    });
    let links: Vec<Link> = futures_util::stream::iter(joining).buffer_unordered(AT_ONCE).collect().await;
    assert_eq!(links.len(), CROWD);

    // The relay dies with all of them on it, and takes fewer links a second from this network than come.
    let endpoint = to.endpoint.clone();
    running.kill();
    place.edit("127.0.0.1:0", &endpoint);
    let rate = format!("arrivals = {{ rate = \"{}/min\", burst = {BURST} }}", RATE * 60);
    place.edit("arrivals = \"unbounded\"", &rate);
    drop(links);
    let begin = Instant::now();
    let running = place.start();
    let (permits, inside) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(AtomicUsize::new(0)));
    let mut coming = JoinSet::new();
    for (n, person) in people.iter().enumerate() {
        let (person, to, permits, inside) = (person.clone(), to.clone(), permits.clone(), inside.clone());
        coming.spawn(async move { stay(&person, &to, &permits, (n as u64, &inside)).await });
    }
    let came = coming.join_all().await;
    let mut times: Vec<Duration> = came.iter().map(|(at, _)| at.duration_since(begin)).collect();
    times.sort_unstable();
    let refused: usize = came.iter().map(|(_, refused)| refused).sum();
    println!(
        "{CROWD} came back, refused {refused} times, 99 of 100 within {:?}, the last after {:?}",
        times[CROWD * 99 / 100],
        times[CROWD - 1]
    );
    assert_eq!(times.len(), CROWD);
    let slowly = Duration::from_secs(CROWD as u64 / u64::from(RATE));
    assert!(refused > 0 || times[CROWD - 1] >= slowly, "the rate was met, unless the machine is slower than that");
    // Whoever is in was let in before it says so: never more than the rate gives, on a machine of any speed.
    for (count, time) in (1..).zip(&times) {
        let most = f64::from(BURST) + f64::from(RATE) * time.as_secs_f64() + 1.0;
        assert!(f64::from(count) <= most, "{count} within {time:?}");
    }

    // Everybody's heartbeats were answered meanwhile and after, and who writes is heard as before.
    for (client, n) in [(&mut alice, 1_u64), (&mut bob, 2)] {
        client.link = *back(&client.person, &running.link, &permits, n).await.0;
        client.heard.clear();
    }
    let said = alice.say(b"after the crowd").await;
    assert!(matches!(said, Frame::Stored(_)), "{said:?}");
    let is_it = |entry: &whimbrel_protocol::push::Entry| format!("{:?}", entry.body).contains("Envelope");
    assert!(bob.entries(super::services::LOG, 1).await.iter().any(is_it));
}
