//! Http: connections to the home relay over TLS, one request at a time on each.
//! Owns: reaching it, and the bounds on what an answer may be. Never: knows what is said (`poll`).
//! Limits: `limits::RELAY_ADDRESSES_MAX`, `limits::AUTHENTICATION_TIME_MAX`, `limits::POLL_ANSWER_MAX`.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use whimbrel_protocol::invite::RelayLink;
use whimbrel_protocol::limits;

use crate::clock;

/// Names nobody: the pin decides who is there, and watchers learn nothing.
const NO_NAME: &str = "relay.invalid";
/// How many of a link's frames the relay has taken.
const RECEIVED: &str = "whimbrel-received";

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PollError {
    /// Nobody answers there, or no answer of a relay.
    #[error("no answer over HTTPS: {0}")]
    Unreachable(String),
    /// Somebody else answers.
    #[error("over HTTPS somebody else answers: {0}")]
    WrongIdentity(String),
    /// The relay has no room now, or takes no more links of this network.
    #[error("the relay is busy")]
    Busy,
    /// The relay does not do it.
    #[error("the relay refused a call over HTTPS: {0}")]
    Refused(StatusCode),
    /// A fault of ours.
    #[error("HTTPS could not be set up: {0}")]
    Local(String),
}

impl PollError {
    /// Whether somebody other than the pinned relay is there.
    pub(crate) const fn is_mistrust(&self) -> bool {
        matches!(self, Self::WrongIdentity(_))
    }
}

fn unreachable(error: impl ToString) -> PollError {
    PollError::Unreachable(error.to_string())
}

/// Where the relay is, and how it must prove itself.
pub(super) struct Site {
    endpoint: String,
    tls: TlsConnector,
}

/// One connection; it ends when this is dropped.
pub(super) struct Http {
    requests: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Http {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What a call was answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) received: Option<u64>,
    pub(super) body: Bytes,
}

impl Answer {
    /// The answer, if it is a good one.
    pub(super) fn good(self) -> Result<Self, PollError> {
        match self.status {
            StatusCode::OK => Ok(self),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Err(PollError::Busy),
            status => Err(PollError::Refused(status)),
        }
    }
}

impl Site {
    pub(super) fn of(to: &RelayLink) -> Result<Self, PollError> {
        let tls = whimbrel_transport::https_client(to.relay, to.domain.clone(), clock::wall);
        let tls = tls.map_err(|error| PollError::Local(error.to_string()))?;
        Ok(Self { endpoint: to.endpoint.clone(), tls: TlsConnector::from(tls) })
    }

    pub(super) async fn connect(&self) -> Result<Http, PollError> {
        timeout(limits::AUTHENTICATION_TIME_MAX, self.connect_now())
            .await
            .unwrap_or_else(|_| Err(unreachable("too slow")))
    }

    async fn connect_now(&self) -> Result<Http, PollError> {
        let found = tokio::net::lookup_host(&self.endpoint).await.map_err(unreachable)?;
        let mut worst = unreachable("no address");
        for address in found.take(limits::RELAY_ADDRESSES_MAX) {
            match self.connect_to(address).await {
                Ok(http) => return Ok(http),
                // Somebody else at one address weighs more than nobody at another.
                Err(error) if !worst.is_mistrust() => worst = error,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    async fn connect_to(&self, address: std::net::SocketAddr) -> Result<Http, PollError> {
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        // A small call is a whole call.
        let _stays_slow = stream.set_nodelay(true);
        let name = ServerName::try_from(NO_NAME).map_err(|error| PollError::Local(error.to_string()))?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| {
            let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match refused {
                Some(rustls::Error::InvalidCertificate(why)) => PollError::WrongIdentity(format!("{why:?}")),
                _ => unreachable(error),
            }
        })?;
        let handshake = Builder::new().max_buf_size(limits::POLL_BUFFER_BYTES_MAX).handshake(TokioIo::new(stream));
        let (requests, connection) = handshake.await.map_err(unreachable)?;
        // Its end shows in the request that it ends.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Http { requests, driver })
    }
}

impl Http {
    pub(super) async fn ask(&mut self, method: &str, path: &str, body: Bytes) -> Result<Answer, PollError> {
        let request = Request::builder().method(method).uri(path).header(HOST, NO_NAME).body(Full::new(body));
        let request = request.map_err(|error| PollError::Local(error.to_string()))?;
        self.requests.ready().await.map_err(unreachable)?;
        let answer = self.requests.send_request(request).await.map_err(unreachable)?;
        let status = answer.status();
        let received = answer.headers().get(RECEIVED).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(answer.into_body(), limits::POLL_ANSWER_MAX).collect().await.map_err(unreachable)?;
        Ok(Answer { status, received, body: body.to_bytes() })
    }
}
