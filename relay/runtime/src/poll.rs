//! Poll: links over HTTPS, for devices whose network lets no UDP through.
//! Owns: which link a caller has, the frames on their way both ways. What they mean and where a device's cursors stand is
//! the core's, as for any link.
//! Never: delivers anything by another way than a link's.
//! Limits: `limits::POLL_*`, and a link's own. Rules: docs/protocol/poll.md.

mod challenge;
mod inlet;
mod outbox;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use whimbrel_crypto::link;
use whimbrel_protocol::codec::{HEADER_BYTES, Header};
use whimbrel_protocol::frame::{FrameError, decode_words, encode_words};
use whimbrel_protocol::id::RelayId;
use whimbrel_protocol::poll::{Challenge, OpenLink, OpenedLink};
use whimbrel_protocol::{Frame, limits};
use whimbrel_relay::LinkPeer;
use whimbrel_relay::poll::{Fetched, Incoming};

use self::challenge::Challenges;
pub(crate) use self::inlet::PollInlet;
pub(crate) use self::outbox::Outbox;
use crate::http::Remote;
use crate::links::Outlet;
use crate::serve::{self, Entering, Inlet, Server, Stop, source};

/// How many frames of a link's were taken since it was opened.
const RECEIVED: &str = "whimbrel-received";

/// A caller's hold on a link.
type LinkKey = [u8; 16];

/// The links that are polled.
pub(crate) struct Poll {
    relay: RelayId,
    server: Arc<Server>,
    challenges: Challenges,
    sessions: Mutex<BTreeMap<LinkKey, Arc<Session>>>,
    begun: mpsc::Sender<Begun>,
    /// Large bodies being received.
    bodies: Semaphore,
    stop: Stop,
}

/// One link.
struct Session {
    outbox: Arc<Outbox>,
    /// Held by the call whose frames are being taken: one at a time, so that they stay in order.
    incoming: tokio::sync::Mutex<Inbox>,
    /// Whether the core has let the device in: from then on its frames may be large.
    admitted: inlet::Admitted,
}

struct Inbox {
    numbers: Incoming,
    frames: mpsc::Sender<Result<Frame, FrameError>>,
}

/// A link that was opened: to be served until it ends.
struct Begun {
    key: LinkKey,
    outbox: Arc<Outbox>,
    entering: Entering,
}

impl Poll {
    /// No links, and those that will be opened.
    pub(crate) fn new(server: Arc<Server>, relay: RelayId, stop: Stop) -> (Arc<Self>, Opened) {
        let (begun, opened) = mpsc::channel(limits::POLL_LINKS_MAX);
        let poll = Self {
            challenges: Challenges::new(server.clock),
            server,
            relay,
            sessions: Mutex::default(),
            begun,
            bodies: Semaphore::new(limits::POLL_BODIES_MAX),
            stop,
        };
        (Arc::new(poll), Opened(opened))
    }
}

/// Links on their way to their tasks.
pub(crate) struct Opened(mpsc::Receiver<Begun>);

/// Everything below `/v1`.
pub(crate) fn router(poll: Arc<Poll>) -> Router {
    Router::new()
        .route("/v1/challenge", get(challenge))
        .route("/v1/link", post(open))
        .route("/v1/link/{link}", post(call).delete(end))
        .with_state(poll)
}

/// Serves what is opened, until told to stop; then lets the links end.
pub(crate) async fn run(server: Arc<Server>, poll: Arc<Poll>, mut opened: Opened, mut stop: Stop) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            Some(begun) = opened.0.recv() => {
                links.spawn(attend(server.clone(), poll.clone(), begun, stop.clone()));
            }
            Some(_) = links.join_next(), if !links.is_empty() => {}
            _ = stop.changed() => break,
        }
    }
    serve::drain(links).await;
}

async fn attend(server: Arc<Server>, poll: Arc<Poll>, begun: Begun, mut stop: Stop) {
    let Begun { key, outbox, entering } = begun;
    serve::attend(&server, entering, stop.clone()).await;
    // What was said last can still be fetched, and nothing else.
    let fetched = async {
        let mut changes = outbox.changes();
        while !outbox.is_empty() && changes.changed().await.is_ok() {}
    };
    tokio::select! {
        () = fetched => {}
        () = sleep(limits::LINK_CLOSE_TIME_MAX) => {}
        _ = stop.wait_for(Option::is_some) => {}
    }
    poll.sessions().remove(&key);
}

/// Why a call came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// No such call, or words that are none.
    Malformed,
    /// The challenge is over or not ours, or the proof is not the key's.
    NotAuthenticated,
    /// No such link: never, or not any more.
    NotFound,
    /// Numbers that leave a gap, or go back behind what another call said.
    Gap,
    /// No length was named.
    Length,
    /// More bytes than may come now.
    TooLarge,
    /// The body did not come in time.
    Slow,
    /// No room now.
    Busy,
    /// A network's share of links is used up; how long until there is more.
    TooFast(Duration),
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NotAuthenticated => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Gap => StatusCode::CONFLICT,
            Self::Length => StatusCode::LENGTH_REQUIRED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => return later(StatusCode::SERVICE_UNAVAILABLE, limits::BUSY_RETRY_AFTER),
            Self::TooFast(after) => return later(StatusCode::TOO_MANY_REQUESTS, after),
        };
        status.into_response()
    }
}

/// A refusal that passes: after so many seconds (RFC 9110 §10.2.3), never fewer than are needed.
fn later(status: StatusCode, after: Duration) -> Response {
    let seconds = after.as_millis().div_ceil(1_000).max(1);
    (status, [(RETRY_AFTER, seconds.to_string())]).into_response()
}

fn cbor(words: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/cbor")], words).into_response()
}

async fn challenge(State(poll): State<Arc<Poll>>) -> Response {
    cbor(encode_words(&Challenge { challenge: poll.challenges.fresh() }))
}

async fn open(
    State(poll): State<Arc<Poll>>,
    Extension(Remote(remote)): Extension<Remote>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let body = read(body, length(&headers, limits::POLL_WORDS_BYTES_MAX)?).await?;
    let words: OpenLink = decode_words(&body).map_err(|_| Fault::Malformed)?;
    if !poll.challenges.holds(&words.challenge) {
        return Err(Fault::NotAuthenticated);
    }
    // A signature costs much more than a challenge, and anybody can send one that does not hold.
    let network = source(remote.ip());
    poll.server.relay.arrive(poll.server.clock.now(), network).map_err(Fault::TooFast)?;
    let exporter = link::poll_exporter(&poll.relay, &words.transport, &words.challenge);
    link::verify_transport(&words.transport, &exporter, &words.proof).map_err(|_| Fault::NotAuthenticated)?;

    let outbox = Arc::new(Outbox::new());
    let (sender, frames) = mpsc::channel(limits::LINK_REQUESTS_MAX);
    let inlet = PollInlet::new(frames, outbox.clone());
    let session = Session {
        outbox: outbox.clone(),
        admitted: inlet.admitted(),
        incoming: Inbox { numbers: Incoming::default(), frames: sender }.into(),
    };
    let peer = LinkPeer::Node { transport: words.transport, exporter, source: network, door: None, counted: true };
    let entering = Entering { peer, sender: Outlet::Poll(outbox), receiver: Inlet::Poll(inlet), dialled: false };
    Ok(cbor(encode_words(&OpenedLink { link: poll.begin(session, entering)? })))
}

async fn end(State(poll): State<Arc<Poll>>, Path(link): Path<String>) -> Result<StatusCode, Fault> {
    poll.session(&link)?.outbox.abort();
    Ok(StatusCode::NO_CONTENT)
}

async fn call(
    State(poll): State<Arc<Poll>>,
    Path(link): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let session = poll.session(&link)?;
    let asked = Asked::parse(uri.query().unwrap_or_default()).ok_or(Fault::Malformed)?;
    let (received, turn) = {
        let mut incoming = session.incoming.lock().await;
        if !session.outbox.acknowledge(asked.after) || !incoming.numbers.follows(asked.from) {
            return Err(Fault::Gap);
        }
        let admitted = session.admitted.get();
        let max = if admitted { limits::POLL_BODY_BYTES_MAX } else { limits::UNAUTHENTICATED_BYTES_MAX };
        let length = length(&headers, max)?;
        let large = length > limits::UNAUTHENTICATED_BYTES_MAX;
        let permit = large.then(|| poll.bodies.try_acquire()).transpose().map_err(|_| Fault::Busy)?;
        let body = read(body, length).await?;
        let taken = incoming.take(&body, asked.from);
        drop(permit);
        if let Err(fault) = taken {
            // Bytes that are no frames: what comes next cannot be told apart from them.
            session.outbox.abort();
            return Err(fault);
        }
        // Whoever waited before does so no more: one call waits, the newest.
        (incoming.numbers.taken(), session.outbox.turn())
    };
    let frames = poll.fetch(&session.outbox, asked, turn).await?;
    let body = Body::from_stream(futures_util::stream::iter(frames.into_iter().map(Ok::<_, std::convert::Infallible>)));
    Ok(([(RECEIVED, received.to_string()), ("content-type", "application/octet-stream".to_owned())], body)
        .into_response())
}

impl Poll {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<LinkKey, Arc<Session>>> {
        // Nothing that could panic runs under the lock.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a link its key, and its task.
    fn begin(&self, session: Session, entering: Entering) -> Result<LinkKey, Fault> {
        let key = challenge::chance();
        let session = Arc::new(session);
        let begun = Begun { key, outbox: session.outbox.clone(), entering };
        let mut sessions = self.sessions();
        if sessions.len() >= limits::POLL_LINKS_MAX || self.begun.try_send(begun).is_err() {
            return Err(Fault::Busy);
        }
        sessions.insert(key, session);
        Ok(key)
    }

    /// One that never was and one that is no more look alike.
    fn session(&self, link: &str) -> Result<Arc<Session>, Fault> {
        let key = unhex(link).ok_or(Fault::NotFound)?;
        self.sessions().get(&key).cloned().ok_or(Fault::NotFound)
    }

    /// What waits, or what comes while there is time.
    async fn fetch(&self, outbox: &Outbox, asked: Asked, turn: u64) -> Result<Vec<Bytes>, Fault> {
        let (mut changes, mut stop) = (outbox.changes(), self.stop.clone());
        let mut over = pin!(sleep(asked.wait));
        loop {
            match outbox.after(asked.after, turn) {
                Fetched::Frames(frames) => return Ok(frames),
                Fetched::Superseded => return Ok(Vec::new()),
                Fetched::Ended => return Err(Fault::NotFound),
                Fetched::Nothing => {}
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = over.as_mut() => return Ok(Vec::new()),
                _ = stop.changed() => return Ok(Vec::new()),
            }
        }
    }
}

/// What a call's address says beside the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    /// Frames up to this number have arrived.
    after: u64,
    /// How many frames of the caller's went before those in the body.
    from: u64,
    /// How long to wait for a frame.
    wait: Duration,
}

impl Asked {
    /// Reads `after=N&from=K&wait=S`, each at most once, absent ones as 0; waits are cut to the bound.
    fn parse(query: &str) -> Option<Self> {
        let (mut after, mut from, mut wait) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let place = match name {
                "after" => &mut after,
                "from" => &mut from,
                "wait" => &mut wait,
                _ => return None,
            };
            if place.replace(value.parse::<u64>().ok()?).is_some() {
                return None;
            }
        }
        let wait = Duration::from_secs(wait.unwrap_or_default()).min(limits::POLL_WAIT_MAX);
        Some(Self { after: after.unwrap_or_default(), from: from.unwrap_or_default(), wait })
    }
}

impl Inbox {
    /// Hands the frames of a body on, as far as there is room; those that were handed on before are passed over.
    fn take(&mut self, mut body: &[u8], from: u64) -> Result<(), Fault> {
        let mut number = from;
        while !body.is_empty() {
            let (header, rest) = body.split_first_chunk::<HEADER_BYTES>().ok_or(Fault::Malformed)?;
            let header = Header::parse(*header).map_err(|_| Fault::TooLarge)?;
            let (frame, rest) = rest.split_at_checked(header.length).ok_or(Fault::Malformed)?;
            if self.numbers.is_new(number) {
                let Ok(room) = self.frames.try_reserve() else { return Ok(()) };
                room.send(header.decode(frame));
                self.numbers.take();
            }
            number += 1;
            body = rest;
        }
        Ok(())
    }
}

/// The body's length, which must be named.
fn length(headers: &HeaderMap, max: usize) -> Result<usize, Fault> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Fault::Length);
    }
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(0) };
    let length = length.to_str().ok().and_then(|text| text.parse().ok()).ok_or(Fault::Malformed)?;
    if length > max { Err(Fault::TooLarge) } else { Ok(length) }
}

/// A body of this length, in time.
async fn read(body: Body, length: usize) -> Result<Bytes, Fault> {
    match timeout(limits::POLL_BODY_TIME_MAX, axum::body::to_bytes(body, length)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Fault::Malformed),
        Err(_) => Err(Fault::Slow),
    }
}

fn unhex(text: &str) -> Option<LinkKey> {
    let bytes = text.as_bytes();
    let mut key = LinkKey::default();
    if bytes.len() != 2 * key.len() || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}
