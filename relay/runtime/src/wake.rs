//! Wake: wake-ups on their way to push services (RFC 8030), sealed (RFC 8291), by a relay that identifies itself
//! (RFC 8292).
//! Owns: the queue, the key this relay identifies itself with, the rule which addresses it may reach.
//! Never: decides who is woken (the core); says more than that something waits; follows a redirect; reaches into a
//! private network unless the operator says so.
//! Limits: `limits::WAKE_*`. Rules: docs/protocol/wake.md.

mod vapid;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use web_push_native::{Auth, p256};
use whimbrel_protocol::limits;
use whimbrel_relay::{WakeOrder, WakeWord};

pub(crate) use self::vapid::Vapid;
use crate::address;
use crate::figures::{Figures, Woken};
use crate::serve::{Server, Stop};

/// The port of the core: a queue that does not wait.
#[derive(Debug)]
pub(crate) struct WakeQueue {
    orders: mpsc::Sender<WakeOrder>,
    figures: Arc<Figures>,
}

impl WakeQueue {
    /// An empty queue, and what comes out of it.
    pub(crate) fn new(figures: Arc<Figures>) -> (Self, mpsc::Receiver<WakeOrder>) {
        let (orders, asked) = mpsc::channel(limits::WAKE_QUEUE_MAX);
        (Self { orders, figures }, asked)
    }

    /// Takes a wake-up in, or drops it: what waits is in the log.
    pub(crate) fn push(&self, order: WakeOrder) {
        if self.orders.try_send(order).is_err() {
            self.figures.woken(Woken::Dropped);
        }
    }
}

/// What reaching push services takes.
pub(crate) struct Pusher {
    tls: TlsConnector,
    vapid: Vapid,
    allow_private: bool,
    sends: Semaphore,
}

impl Pusher {
    /// One that trusts whom the machine trusts.
    pub(crate) fn new(vapid: Vapid, allow_private: bool) -> Result<Self, rustls::Error> {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (taken, _not_taken) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            tracing::warn!("this machine has no root certificates: no push service can be trusted, nobody is woken");
        }
        let mut tls = rustls::ClientConfig::builder_with_provider(whimbrel_transport::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let sends = Semaphore::new(limits::WAKE_SENDS_MAX);
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), vapid, allow_private, sends })
    }
}

/// Sends what is asked for, until the process ends; what waits then is not sent: the next entry wakes.
pub(crate) async fn run(server: Arc<Server>, pusher: Pusher, mut orders: mpsc::Receiver<WakeOrder>, mut stop: Stop) {
    let pusher = Arc::new(pusher);
    let mut sends = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv(), if sends.len() < limits::WAKE_WAITING_MAX => {
                let Some(order) = order else { break };
                let pusher = Arc::clone(&pusher);
                sends.spawn(async move { (pusher.send(&order).await, order) });
            }
            Some(sent) = sends.join_next(), if !sends.is_empty() => {
                let Ok((outcome, order)) = sent else { continue };
                server.figures.woken(outcome);
                tracing::debug!(?outcome, "a wake-up");
                if outcome == Woken::Ended {
                    let ended = server.relay.wake_ended(server.clock.now(), order.device, &order.endpoint);
                    server.timers.watched(&server.relay, ended).await;
                }
            }
            _ = stop.changed() => break,
        }
    }
    sends.shutdown().await;
}

/// What came of one attempt.
enum Answer {
    Taken,
    Gone,
    Later(Option<Duration>),
    No,
}

/// Why there was no answer.
enum Unsent {
    /// It leads where we do not go.
    Refused,
    /// Nobody there, or not in time.
    Failed,
}

impl Pusher {
    async fn send(&self, order: &WakeOrder) -> Woken {
        let Ok(uri) = order.endpoint.url.parse::<Uri>() else { return Woken::Refused };
        for attempt in 0..=limits::WAKE_RETRIES_MAX {
            let Some(request) = self.request(&uri, order) else { return Woken::Refused };
            let answer = {
                let Ok(_permit) = self.sends.acquire().await else { return Woken::Failed };
                timeout(limits::WAKE_SEND_TIME_MAX, self.attempt(&uri, request)).await
            };
            match answer {
                Ok(Ok(Answer::Taken)) => return Woken::Sent,
                Ok(Ok(Answer::Gone)) => return Woken::Ended,
                Ok(Ok(Answer::Later(after))) if attempt < limits::WAKE_RETRIES_MAX => {
                    sleep(after.unwrap_or(limits::BUSY_RETRY_AFTER).min(limits::WAKE_RETRY_AFTER_MAX)).await;
                }
                Ok(Err(Unsent::Refused)) => return Woken::Refused,
                Ok(Ok(Answer::No | Answer::Later(_)) | Err(Unsent::Failed)) | Err(_) => return Woken::Failed,
            }
        }
        Woken::Failed
    }

    /// The request as it is sent; none for keys that are none.
    fn request(&self, uri: &Uri, order: &WakeOrder) -> Option<Request<Full<Bytes>>> {
        let key = p256::PublicKey::from_sec1_bytes(&order.endpoint.key).ok()?;
        let (word, ttl, urgency) = match order.word {
            WakeWord::Something => (r#"{"v":1,"wake":true}"#.to_owned(), limits::WAKE_TTL, "high"),
            WakeWord::Challenge(code) => {
                let code: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
                (format!(r#"{{"v":1,"challenge":"{code}"}}"#), limits::WAKE_CHALLENGE_AGE_MAX, "normal")
            }
        };
        let sealed = web_push_native::encrypt(word.into_bytes(), &key, &Auth::from(order.endpoint.auth)).ok()?;
        let authority = uri.authority()?;
        let mut request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority.as_str())
            .header(AUTHORIZATION, self.vapid.word_to(authority.as_str())?)
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("ttl", ttl.as_secs())
            .header("urgency", urgency);
        if order.word == WakeWord::Something {
            // A newer one takes an older one's place (RFC 8030 §5.4): one is enough.
            request = request.header("topic", "wake");
        }
        request.body(Full::new(Bytes::from(sealed))).ok()
    }

    async fn attempt(&self, uri: &Uri, request: Request<Full<Bytes>>) -> Result<Answer, Unsent> {
        let host = uri.host().ok_or(Unsent::Refused)?.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Unsent::Refused)?;
        let stream = self.connect(host, uri.port_u16().unwrap_or(443)).await?;
        let stream = self.tls.connect(name, stream).await.map_err(|_| Unsent::Failed)?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(limits::WAKE_ANSWER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Unsent::Failed)?;
        let mut answer = pin!(sender.send_request(request));
        let answer = tokio::select! {
            answer = answer.as_mut() => answer,
            // Closed behind its answer, most often.
            _ = connection => answer.await,
        };
        let answer = answer.map_err(|_| Unsent::Failed)?;
        // Its body is not asked for, a redirect is not followed.
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(match answer.status() {
            status if status.is_success() => Answer::Taken,
            StatusCode::NOT_FOUND | StatusCode::GONE => Answer::Gone,
            StatusCode::TOO_MANY_REQUESTS => Answer::Later(retry_after.map(Duration::from_secs)),
            status if status.is_server_error() => Answer::Later(retry_after.map(Duration::from_secs)),
            _ => Answer::No,
        })
    }

    /// The address is judged where it is connected to: what a name leads to may change between two look-ups.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Unsent> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|_| Unsent::Failed)?;
        let allowed = |address: &SocketAddr| self.allow_private || address::is_public(address.ip());
        let allowed: Vec<SocketAddr> = found.filter(allowed).take(limits::RELAY_ADDRESSES_MAX).collect();
        if allowed.is_empty() {
            return Err(Unsent::Refused);
        }
        for address in allowed {
            if let Ok(stream) = TcpStream::connect(address).await {
                return Ok(stream);
            }
        }
        Err(Unsent::Failed)
    }
}
