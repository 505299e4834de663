//! Home: the link to the home relay.
//! Owns: reaching it, by QUIC or where that does not get through over HTTPS (`reach`), the one link at a time, frames both
//! ways in order, and the last reason why it could not be had.
//! Never: decides when to try again (the core asks), or takes another relay for the pinned one.
//! Rules: docs/protocol/links.md, poll.md.

mod reach;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use whimbrel_node::api::{Input, Peer};
use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::{Frame, limits};
use whimbrel_transport::{
    CloseCode, CloseReason, ConnectError, FrameReceiver, FrameSender, Link, ReceiveError, SendError,
};

pub use self::reach::Transport;
pub(crate) use self::reach::Ways;
use self::reach::{Reached, reach};
use crate::driver::HomeWord;
use crate::entrance::{Entrance, Gone};
use crate::outlet::{Drain, Held};
use crate::poll;

/// Why the home relay is not there. Gone as soon as a link stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayProblem {
    /// Nobody answers; the node tries again by itself.
    #[error("the home relay cannot be reached: {0}")]
    Unreachable(String),
    /// Somebody else answers, or the relay cannot prove who it is. The link may be wrong, or somebody is in between.
    #[error("the home relay is not who it should be: {0}")]
    WrongIdentity(String),
    /// The relay speaks no version of the protocol that this node does.
    #[error("no common protocol version with the home relay")]
    Version,
    /// The relay ended the link.
    #[error("the link to the home relay ended: {0}")]
    Lost(String),
    /// This node is at fault.
    #[error("this node could not dial: {0}")]
    Local(String),
}

impl RelayProblem {
    /// Whether somebody other than the pinned relay is there, as opposed to nobody.
    pub const fn is_mistrust(&self) -> bool {
        matches!(self, Self::WrongIdentity(_))
    }
}

impl From<ConnectError> for RelayProblem {
    fn from(error: ConnectError) -> Self {
        match error {
            error if error.is_mistrust() => Self::WrongIdentity(error.to_string()),
            ConnectError::Version => Self::Version,
            ConnectError::Local(reason) => Self::Local(reason),
            error => Self::Unreachable(error.to_string()),
        }
    }
}

/// Owns the home link until `words` end or the core is gone; then closes what stands and the socket.
pub(crate) async fn run(
    ways: Ways,
    mut words: Drain<HomeWord>,
    entrance: Entrance,
    problem: watch::Sender<Option<RelayProblem>>,
) {
    let mut home = Home { ways, entrance, problem, connecting: None, up: None };
    loop {
        let done = tokio::select! {
            word = words.next() => match word {
                Some((word, held)) => home.word(word, held).await,
                None => break,
            },
            outcome = connected(&mut home.connecting) => home.connected(outcome).await,
            turn = turn(&mut home.up) => home.turn(turn).await,
        };
        if done == Err(Gone) {
            break;
        }
    }
    home.leave().await;
}

type Connecting = Pin<Box<dyn Future<Output = Result<Reached, RelayProblem>> + Send>>;

struct Home {
    ways: Ways,
    entrance: Entrance,
    problem: watch::Sender<Option<RelayProblem>>,
    connecting: Option<Connecting>,
    up: Option<Up>,
}

/// Where frames for the relay go.
enum Outgoing {
    Quic(FrameSender),
    Poll(poll::Queue),
}

impl Outgoing {
    fn send(&self, frame: &Frame) -> Result<(), SendError> {
        match self {
            Self::Quic(sender) => sender.send(frame),
            Self::Poll(queue) => queue.send(frame),
        }
    }

    async fn drained(&self) {
        match self {
            Self::Quic(sender) => sender.drained().await,
            Self::Poll(queue) => queue.drained().await,
        }
    }

    fn close(&self, code: CloseCode) {
        match self {
            Self::Quic(sender) => sender.close(code),
            Self::Poll(queue) => queue.close(),
        }
    }

    fn abort(&self, code: CloseCode) {
        match self {
            Self::Quic(sender) => sender.abort(code),
            Self::Poll(queue) => queue.abort(),
        }
    }
}

/// A link that stands.
struct Up {
    link: LinkId,
    sender: Outgoing,
    /// Hands frames to the core; ends with the link.
    reader: JoinHandle<Result<CloseReason, Gone>>,
    /// What the sender had no room for.
    waiting: VecDeque<(Frame, Held)>,
    /// When patience with the last frames ends, once the core has ended the link.
    closing: Option<Instant>,
}

enum Turn {
    /// The sender has room again.
    Room,
    /// What waited did not leave in time.
    Overdue,
    /// The link ended.
    Ended(Result<CloseReason, Gone>),
}

async fn connected(connecting: &mut Option<Connecting>) -> Result<Reached, RelayProblem> {
    match connecting {
        Some(attempt) => {
            let outcome = attempt.await;
            *connecting = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

async fn turn(up: &mut Option<Up>) -> Turn {
    let Some(up) = up else { return std::future::pending().await };
    let overdue = async {
        match up.closing {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let room = async {
        match up.waiting.is_empty() {
            true => std::future::pending().await,
            false => up.sender.drained().await,
        }
    };
    tokio::select! {
        ended = &mut up.reader => Turn::Ended(ended.unwrap_or(Err(Gone))),
        () = overdue => Turn::Overdue,
        () = room => Turn::Room,
    }
}

impl Home {
    async fn word(&mut self, word: HomeWord, held: Held) -> Result<(), Gone> {
        match word {
            HomeWord::Connect(relay) => {
                self.drop_link().await?;
                let ways = self.ways.clone();
                self.connecting = Some(Box::pin(async move { reach(&ways, &relay).await }));
            }
            HomeWord::Send(link, frame) => {
                if let Some(up) = self.up_at(link)
                    && up.closing.is_none()
                {
                    up.waiting.push_back((frame, held));
                    up.flush();
                }
            }
            HomeWord::Close(link) => {
                if let Some(up) = self.up_at(link) {
                    up.close();
                }
            }
            HomeWord::Drop(link) => {
                if let Some(up) = self.up_at(link) {
                    up.abort();
                }
            }
        }
        Ok(())
    }

    async fn connected(&mut self, outcome: Result<Reached, RelayProblem>) -> Result<(), Gone> {
        let reached = match outcome {
            Ok(reached) => reached,
            Err(problem) => {
                tracing::debug!(%problem, "the home relay was not reached");
                let reason = problem.to_string();
                self.problem.send_replace(Some(problem));
                return self.entrance.input(Input::ConnectFailed { reason }).await;
            }
        };
        self.problem.send_replace(None);
        let link = self.entrance.next_link();
        let exporter = reached.exporter();
        self.entrance.input(Input::LinkUp { link, peer: Peer::Relay { exporter } }).await?;
        let (sender, reader) = match reached {
            Reached::Quic(Link { sender, mut receiver, .. }) => {
                // TLS proved that it is the pinned relay.
                receiver.authenticated();
                let reader = tokio::spawn(read(receiver, sender.clone(), link, self.entrance.clone()));
                (Outgoing::Quic(sender), reader)
            }
            Reached::Poll(poll::Opened { sender, calls, .. }) => {
                tracing::info!("the home relay is polled over HTTPS");
                (Outgoing::Poll(sender), tokio::spawn(calls.run(link, self.entrance.clone())))
            }
        };
        self.up = Some(Up { link, sender, reader, waiting: VecDeque::new(), closing: None });
        Ok(())
    }

    async fn turn(&mut self, turn: Turn) -> Result<(), Gone> {
        match turn {
            Turn::Room => {
                if let Some(up) = &mut self.up {
                    up.flush();
                }
                Ok(())
            }
            Turn::Overdue => {
                if let Some(up) = &mut self.up {
                    up.abort();
                }
                Ok(())
            }
            Turn::Ended(reason) => self.ended(reason?).await,
        }
    }

    async fn ended(&mut self, reason: CloseReason) -> Result<(), Gone> {
        let Some(Up { link, closing, .. }) = self.up.take() else { return Ok(()) };
        if closing.is_none() {
            tracing::debug!(link = link.get(), %reason, "the link to the home relay is lost");
            let problem = match reason {
                CloseReason::Version => RelayProblem::Version,
                reason => RelayProblem::Lost(reason.to_string()),
            };
            self.problem.send_replace(Some(problem));
        }
        self.entrance.input(Input::LinkLost { link }).await
    }

    /// Ends what stands or is being tried, and tells the core.
    async fn drop_link(&mut self) -> Result<(), Gone> {
        self.connecting = None;
        if let Some(up) = &mut self.up {
            up.abort();
            let reason = (&mut up.reader).await.unwrap_or(Err(Gone))?;
            self.ended(reason).await?;
        }
        Ok(())
    }

    async fn leave(mut self) {
        let stood = self.up.is_some();
        if let Some(mut up) = self.up.take() {
            up.flush();
            up.sender.close(CloseCode::Shutdown);
            let _told_or_not = match &up.sender {
                Outgoing::Quic(sender) => timeout(limits::LINK_CLOSE_TIME_MAX, sender.closed()).await.map(drop),
                Outgoing::Poll(_) => timeout(limits::LINK_CLOSE_TIME_MAX, &mut up.reader).await.map(drop),
            };
            up.reader.abort();
        }
        self.ways.endpoint.close(CloseCode::Shutdown);
        if stood {
            let _told_or_not = timeout(limits::LINK_CLOSE_TIME_MAX, self.ways.endpoint.idle()).await;
        }
        // Otherwise nobody ever answered, and there is nobody to be told: an attempt drains for seconds.
    }

    fn up_at(&mut self, link: LinkId) -> Option<&mut Up> {
        self.up.as_mut().filter(|up| up.link == link)
    }
}

impl Up {
    /// Hands waiting frames over while there is room; closes once none waits any more, if the core wants that.
    fn flush(&mut self) {
        while let Some((frame, _)) = self.waiting.front() {
            match self.sender.send(frame) {
                Ok(()) => {}
                Err(SendError::Full) => return,
                // The reader tells the end.
                Err(SendError::Gone) => {}
                Err(error) => {
                    // In order or not at all: the core made a frame that no relay would take.
                    tracing::error!(frame = frame.name(), %error, "a frame cannot be sent; the link is given up");
                    self.abort();
                    return;
                }
            }
            self.waiting.pop_front();
        }
        if self.closing.is_some() {
            self.sender.close(CloseCode::Done);
        }
    }

    fn close(&mut self) {
        if self.closing.is_none() {
            // The runtime's own patience, not a time the core reasons about.
            self.closing = Some(Instant::now() + limits::LINK_CLOSE_TIME_MAX);
            self.flush();
        }
    }

    fn abort(&mut self) {
        self.waiting.clear();
        self.sender.abort(CloseCode::Slow);
    }
}

/// Hands every frame to the core, in order; waiting for the core means not reading from the relay.
async fn read(
    mut receiver: FrameReceiver,
    sender: FrameSender,
    link: LinkId,
    entrance: Entrance,
) -> Result<CloseReason, Gone> {
    loop {
        match receiver.next().await {
            Ok(frame) => entrance.input(Input::Frame { link, frame }).await?,
            Err(ReceiveError::Malformed(error)) => {
                tracing::debug!(link = link.get(), %error, "the home relay sent a frame that is none");
                entrance.input(Input::Malformed { link }).await?;
            }
            Err(ReceiveError::Closed(CloseReason::Finished)) => {
                // Why is said with the connection's end, which follows once we have acknowledged the last frame.
                let end = timeout(limits::LINK_CLOSE_TIME_MAX, sender.closed()).await;
                sender.abort(CloseCode::Done);
                return Ok(end.unwrap_or(CloseReason::Finished));
            }
            Err(ReceiveError::Closed(reason)) => return Ok(reason),
            Err(error) => return Ok(CloseReason::Lost(error.to_string())),
        }
    }
}
