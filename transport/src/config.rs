//! Config: how QUIC and TLS are set up. Every number has its reason beside it.
//! Owns: TLS 1.3 only, mutual, without resumption or early data (SMP's precedent: a ticket links connections, early
//! data can be replayed); flow-control windows; what an endpoint keeps for strangers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, NoneTokenStore, TimeSource, TransportConfig, ValidationTokenConfig, VarInt};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use whimbrel_protocol::{ALPN_NODE, ALPN_RELAY, limits};

use crate::identity::{Identity, Kind};
use crate::verify::{Anyone, Pinned};
use crate::{BindError, Clock};

/// What an acceptor takes in ahead of its reader. A link has one stream, so stream and connection share the window.
/// Idle memory does not depend on it; a stranger's bytes do, so it is what a stranger may cost. At 100 ms of round
/// trip it carries 640 kB/s.
const ACCEPT_WINDOW: u32 = limits::UNAUTHENTICATED_BYTES_MAX as u32;
/// What a dialler takes in ahead of its reader: it has few links, to relays it has pinned.
const DIAL_WINDOW: u32 = 256 * 1024;
/// Unacknowledged bytes kept for sending again, per link: the bandwidth-delay product of 20 Mbit/s at 100 ms.
const SEND_WINDOW: u64 = 256 * 1024;
/// Bytes kept for one handshake that was not accepted yet, and for all of them.
const INCOMING_BYTES: u64 = 64 * 1024;
const INCOMING_BYTES_ALL: u64 = 32 * 1024 * 1024;

/// The handed-in clock, as TLS and QUIC want to ask it.
#[derive(Debug)]
pub(crate) struct Time(pub(crate) Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs((self.0)().as_secs())))
    }
}

impl TimeSource for Time {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs((self.0)().as_secs())
    }
}

/// Whoever dialled keeps the link open while it waits: for the word of another device, ten minutes. How long a link may
/// stay without a frame is for those to say who read it.
const KEEP_ALIVE: Duration = Duration::from_secs(limits::LINK_IDLE_MAX.as_secs() / 3);

fn transport(window: u32, streams_in: u8, keep_alive: Option<Duration>) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    // The idle bound fits a QUIC variable-length integer of milliseconds; 60,000 does.
    let idle = VarInt::from_u32(limits::LINK_IDLE_MAX.as_millis() as u32);
    transport
        .max_idle_timeout(Some(IdleTimeout::from(idle)))
        .keep_alive_interval(keep_alive)
        .stream_receive_window(window.into())
        .receive_window(window.into())
        .send_window(SEND_WINDOW)
        .max_concurrent_bidi_streams(streams_in.into())
        .max_concurrent_uni_streams(0_u8.into())
        .datagram_receive_buffer_size(None)
        // Measured: 1.6-2.4 times less processor time for sending.
        .enable_segmentation_offload(true);
    Arc::new(transport)
}

pub(crate) fn accept(
    identity: &Identity,
    provider: &Arc<CryptoProvider>,
    clock: Clock,
) -> Result<quinn::ServerConfig, BindError> {
    let verifier = Anyone { clock, algorithms: provider.signature_verification_algorithms };
    let mut tls = rustls::ServerConfig::builder_with_details(provider.clone(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
    tls.alpn_protocols = vec![ALPN_NODE.to_vec(), ALPN_RELAY.to_vec()];
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    let tls = QuicServerConfig::try_from(tls).map_err(|_| BindError::Suite)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let mut tokens = ValidationTokenConfig::default();
    // A token for the next connection would link the two.
    tokens.sent(0);
    config
        .transport_config(transport(ACCEPT_WINDOW, 1, None))
        .max_incoming(limits::HANDSHAKES_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL)
        .migration(true)
        .time_source(Arc::new(Time(clock)))
        .validation_token_config(tokens);
    Ok(config)
}

pub(crate) fn dial(
    identity: &Identity,
    provider: &Arc<CryptoProvider>,
    clock: Clock,
    pinned: Arc<Pinned>,
) -> Result<quinn::ClientConfig, BindError> {
    let mut tls = rustls::ClientConfig::builder_with_details(provider.clone(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
    tls.alpn_protocols = vec![
        match identity.kind {
            Kind::Node => ALPN_NODE,
            Kind::Relay => ALPN_RELAY,
        }
        .to_vec(),
    ];
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_early_data = false;
    // The pin decides; the name would only tell watchers whom we talk to.
    tls.enable_sni = false;
    let tls = QuicClientConfig::try_from(tls).map_err(|_| BindError::Suite)?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(transport(DIAL_WINDOW, 0, Some(KEEP_ALIVE))).token_store(Arc::new(NoneTokenStore));
    Ok(config)
}
