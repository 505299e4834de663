//! Poll: the home link over HTTPS, for a network that lets no UDP through.
//! Owns: opening it, its calls, and frames both ways, in order and once.
//! Never: takes another relay for the pinned one, or decides when it is used instead of QUIC (`home`).
//! Limits: `limits::POLL_*`, `limits::LINK_QUEUE_*`. Rules: docs/protocol/poll.md.

mod http;
mod queue;

use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};
use whimbrel_crypto::{KeyPair, link};
use whimbrel_node::api::Input;
use whimbrel_node::poll::Calls as Numbers;
use whimbrel_protocol::codec::{HEADER_BYTES, Header};
use whimbrel_protocol::frame::{decode_words, encode_words};
use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::poll::{Challenge, OpenLink, OpenedLink};
use whimbrel_protocol::{Frame, limits};
use whimbrel_transport::CloseReason;

pub(crate) use self::http::PollError;
use self::http::{Answer, Http, Site};
pub(crate) use self::queue::Queue;
use self::queue::{Order, queue};
use crate::entrance::{Entrance, Gone};

/// A polled link that was opened.
pub(crate) struct Opened {
    /// What takes the place of the TLS exporter.
    pub(crate) exporter: [u8; 32],
    /// Takes frames for the relay.
    pub(crate) sender: Queue,
    /// To be run until it ends.
    pub(crate) calls: Calls,
}

/// The calls of one link.
pub(crate) struct Calls {
    site: Site,
    path: String,
    frames: queue::Drain,
    /// What has arrived, here and there.
    numbers: Numbers<Bytes>,
    /// One call waits for frames while another one carries some there, so there are two connections.
    waiting: Option<Http>,
    speaking: Option<Http>,
    /// When the link ends so that QUIC is tried again, if that is wanted.
    until: Option<Instant>,
}

/// Opens a link at the relay's own address, over TCP.
///
/// # Errors
/// As [`PollError`] says.
pub(crate) async fn open(to: &RelayLink, transport: &KeyPair, forever: bool) -> Result<Opened, PollError> {
    timeout(limits::POLL_OPEN_TIME_MAX, open_now(to, transport, forever))
        .await
        .unwrap_or_else(|_| Err(PollError::Unreachable("too slow".to_owned())))
}

async fn open_now(to: &RelayLink, transport: &KeyPair, forever: bool) -> Result<Opened, PollError> {
    let site = Site::of(to)?;
    let mut http = site.connect().await?;
    let answer = http.ask("GET", "/v1/challenge", Bytes::new()).await?.good()?;
    let malformed = |_| PollError::Unreachable("its answer is no answer of a relay".to_owned());
    let Challenge { challenge } = decode_words(&answer.body).map_err(malformed)?;
    let key = transport.public();
    let exporter = link::poll_exporter(&to.relay, &key, &challenge);
    let proof = link::prove_transport(transport, &exporter);
    let words = encode_words(&OpenLink { challenge, transport: key, proof });
    let answer = http.ask("POST", "/v1/link", words.into()).await?.good()?;
    let OpenedLink { link } = decode_words(&answer.body).map_err(malformed)?;
    let path: String = link.iter().map(|byte| format!("{byte:02x}")).collect();
    let (sender, frames) = queue();
    let calls = Calls {
        site,
        path: format!("/v1/link/{path}"),
        frames,
        numbers: Numbers::default(),
        waiting: None,
        speaking: Some(http),
        until: (!forever).then(|| Instant::now() + limits::POLL_LINK_AGE_MAX),
    };
    Ok(Opened { exporter, sender, calls })
}

/// Why the calls of a link end.
enum End {
    Link(CloseReason),
    Core,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Core
    }
}

fn lost(why: impl ToString) -> End {
    End::Link(CloseReason::Lost(why.to_string()))
}

impl Calls {
    /// Calls until the link ends, whoever ends it; the relay is told then.
    pub(crate) async fn run(mut self, link: LinkId, entrance: Entrance) -> Result<CloseReason, Gone> {
        let end = loop {
            if let Err(end) = self.turn(link, &entrance).await {
                break end;
            }
        };
        // Whoever is not told finds out by the silence.
        let _told_or_not = timeout(limits::LINK_CLOSE_TIME_MAX, self.end()).await;
        match end {
            End::Link(reason) => Ok(reason),
            End::Core => Err(Gone),
        }
    }

    /// One call, or two: what is to be said, or else a wait for what is to be heard.
    async fn turn(&mut self, link: LinkId, entrance: &Entrance) -> Result<(), End> {
        self.gather();
        match self.frames.order() {
            Order::Abort => return Err(End::Link(CloseReason::Here)),
            Order::Close if self.numbers.is_idle() => return Err(End::Link(CloseReason::Here)),
            Order::Run if self.numbers.is_idle() => {}
            _ => {
                let taken = self.numbers.from();
                let (after, answer) = self.speak().await;
                self.heard(link, entrance, after, answer).await?;
                if self.numbers.from() == taken && !self.numbers.has_failed() {
                    // It has no room for them now.
                    sleep(limits::POLL_RETRY_DELAY).await;
                }
                return Ok(());
            }
        }
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(End::Link(CloseReason::Here));
        }
        self.wait(link, entrance).await
    }

    /// Waits for frames; what is to be said meanwhile overtakes the call that waits, which then has nothing to answer.
    async fn wait(&mut self, link: LinkId, entrance: &Entrance) -> Result<(), End> {
        let mut http = match self.waiting.take() {
            Some(http) => http,
            None => match self.site.connect().await {
                Ok(http) => http,
                Err(error) => return self.failed(error).await,
            },
        };
        let (after, path) = (self.numbers.after(), self.call_path(limits::POLL_WAIT_MAX));
        let patience = limits::POLL_WAIT_MAX + limits::POLL_BODY_TIME_MAX;
        let mut call = Box::pin(async move { (within(patience, http.ask("POST", &path, Bytes::new())).await, http) });
        let until = self.until;
        let over = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (answer, http) = &mut call => {
                self.waiting = Some(http);
                return self.heard(link, entrance, after, answer).await;
            }
            // The call goes with its connection; what its answer may have had is answered again.
            () = over => return Ok(()),
            () = self.frames.changed() => {}
        }
        self.gather();
        if self.numbers.is_idle() {
            return Ok(());
        }
        let (spoke_after, spoken) = self.speak().await;
        self.heard(link, entrance, spoke_after, spoken).await?;
        // A newer call has ended its wait; if nobody answers, its connection is of no use any more.
        match timeout(limits::POLL_OVERTAKEN_TIME_MAX, call).await {
            Ok((Ok(answer), http)) => {
                self.waiting = Some(http);
                // It may have arrived after the one that overtook it, with numbers of before.
                if answer.status == hyper::StatusCode::CONFLICT {
                    return Ok(());
                }
                self.heard(link, entrance, after, Ok(answer)).await
            }
            Ok((Err(_), _)) | Err(_) => Ok(()),
        }
    }

    /// Takes over what waits in the queue, within the bound of a body.
    fn gather(&mut self) {
        while self.numbers.has_room() {
            let Some(frame) = self.frames.take() else { return };
            let bytes = frame.len();
            self.numbers.push(frame, bytes);
        }
    }

    fn call_path(&self, wait: Duration) -> String {
        format!("{}?after={}&from={}&wait={}", self.path, self.numbers.after(), self.numbers.from(), wait.as_secs())
    }

    /// A call with frames, which waits for none.
    async fn speak(&mut self) -> (u64, Result<Answer, PollError>) {
        let body = self.numbers.body().concat();
        let (after, path) = (self.numbers.after(), self.call_path(Duration::ZERO));
        let mut http = match self.speaking.take() {
            Some(http) => http,
            None => match self.site.connect().await {
                Ok(http) => http,
                Err(error) => return (after, Err(error)),
            },
        };
        let answer = within(limits::POLL_BODY_TIME_MAX * 2, http.ask("POST", &path, body.into())).await;
        if answer.is_ok() {
            self.speaking = Some(http);
        }
        (after, answer)
    }

    /// Takes what a call brought: which of our frames the relay has, and frames of its own, those that arrived before
    /// passed over.
    async fn heard(
        &mut self,
        link: LinkId,
        entrance: &Entrance,
        after: u64,
        answer: Result<Answer, PollError>,
    ) -> Result<(), End> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failed(error).await,
        };
        if answer.status == hyper::StatusCode::NOT_FOUND {
            return Err(End::Link(CloseReason::Finished));
        }
        let answer = match answer.good() {
            Ok(answer) => answer,
            Err(error @ PollError::Busy) => return self.failed(error).await,
            Err(error) => return Err(lost(error)),
        };
        let taken = answer.received.ok_or_else(|| lost("the relay does not say what it has"))?;
        self.numbers.answered(taken).map_err(lost)?;
        let (mut body, mut number) = (&answer.body[..], after);
        while !body.is_empty() {
            let (header, rest) = body.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| lost("half a frame"))?;
            let header = Header::parse(*header).map_err(lost)?;
            let (frame, rest) = rest.split_at_checked(header.length).ok_or_else(|| lost("half a frame"))?;
            (body, number) = (rest, number + 1);
            if !self.numbers.arrives(number) {
                continue;
            }
            match header.decode(frame) {
                Ok(frame) => {
                    if matches!(frame, Frame::Admitted(_)) {
                        self.numbers.let_in();
                    }
                    entrance.input(Input::Frame { link, frame }).await?;
                }
                Err(error) => {
                    tracing::debug!(link = link.get(), %error, "the home relay sent a frame that is none");
                    entrance.input(Input::Malformed { link }).await?;
                }
            }
        }
        Ok(())
    }

    /// A call came to nothing: it is made again, on another connection, a bounded number of times.
    async fn failed(&mut self, error: PollError) -> Result<(), End> {
        let Some(delay) = self.numbers.failed().filter(|_| !error.is_mistrust()) else { return Err(lost(error)) };
        tracing::debug!(%error, "a call to the home relay is made again");
        sleep(delay).await;
        Ok(())
    }

    /// Tells the relay that it is over.
    async fn end(&mut self) {
        let http = match self.speaking.take() {
            Some(http) => Ok(http),
            None => self.site.connect().await,
        };
        if let Ok(mut http) = http {
            let _told_or_not = http.ask("DELETE", &self.path, Bytes::new()).await;
        }
    }
}

async fn within(time: Duration, call: impl Future<Output = Result<Answer, PollError>>) -> Result<Answer, PollError> {
    timeout(time, call).await.unwrap_or_else(|_| Err(PollError::Unreachable("no answer in time".to_owned())))
}
