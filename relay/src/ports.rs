//! Ports: everything the relay core needs from outside.
//! Owns: the traits. Never: implements one; `relay/runtime` and `simulations` do.
//!
//! The relay is driven like this. The runtime calls [`crate::Relay::link_up`], then polls one future of
//! `Relay::handle` per frame, first polls in the order of arrival, at most
//! [`whimbrel_protocol::limits::LINK_REQUESTS_MAX`] at once per link, then `Relay::link_lost`; and it polls
//! `Relay::timeout` whenever `Relay::poll_timeout` says so. `Relay::link_lost` is due once for every link that came up,
//! also for those this relay closed, and every dial is answered once. A future that was polled once is polled to its end even
//! when its link breaks: a request that has reached the store runs to its end.

use std::sync::Arc;

use whimbrel_crypto::{PublicEngine, RelayIdentity};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{DeviceId, Domain, LinkId, PublicKey, RelayId};
use whimbrel_protocol::time::Now;
use whimbrel_protocol::wake::WakeEndpoint;

use crate::store::Store;

/// The ports of one relay process, chosen once by whoever runs it.
pub trait Ports: Send + Sync + 'static {
    /// Where everything durable goes.
    type Store: Store;
    /// How frames leave.
    type Links: Links;

    /// The store.
    fn store(&self) -> &Self::Store;
    /// The links.
    fn links(&self) -> &Self::Links;
    /// What the clocks show now. A request is told its moment when it comes in; this is for what a store that takes long
    /// would make late.
    fn now(&self) -> Now;
    /// Fills the buffer with chance.
    fn chance(&self, buffer: &mut [u8]);
    /// Who this relay is, and the key that it signs with.
    fn identity(&self) -> &RelayIdentity;
    /// What judges the changes of the threads this relay is the hub of.
    fn publics(&self) -> &dyn PublicEngine;
    /// Hands a wake-up to the device's push service. Does not wait, and need not work: what waits is in the log.
    fn wake(&self, order: WakeOrder);
}

/// A wake-up on its way to a push service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WakeOrder {
    /// Whose device; for the runtime's own bookkeeping, never sent.
    pub device: DeviceId,
    /// Where, and the keys it is sealed to.
    pub endpoint: WakeEndpoint,
    /// What it says.
    pub word: WakeWord,
}

/// What a wake-up says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WakeWord {
    /// Something waits.
    Something,
    /// Shows that the device is reached there.
    Challenge([u8; 16]),
}

/// Who is at the other end of a link whose handshake is done. TLS proved the key; nothing else is known yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkPeer {
    /// A node came in.
    Node {
        /// The key of its certificate: must be a device's transport key.
        transport: PublicKey,
        /// 32 bytes of this connection's TLS exporter ([`whimbrel_protocol::EXPORTER_LABEL`]).
        exporter: [u8; 32],
        /// A number for the network it came from: the same for all addresses one party can have for nothing.
        source: u64,
        /// Which of [`crate::Config::push`] it came in at. Nothing: at none of them, and it is served where it is.
        door: Option<u16>,
        /// Whether it took of its network's share before it stood ([`crate::Relay::arrive`]).
        counted: bool,
    },
    /// A relay came in, or we reached it.
    Relay {
        /// Fingerprint of its offline certificate.
        relay: RelayId,
        /// The domain its certificates name.
        domain: Domain,
        /// Whether we dialled (the answer to [`Links::dial`]).
        dialled: bool,
        /// 32 bytes of this connection's TLS exporter ([`whimbrel_protocol::EXPORTER_LABEL`]).
        exporter: [u8; 32],
        /// As of a node. Of a relay we reached it says nothing.
        source: u64,
    },
}

/// Where a peer relay is and who it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAddress {
    /// The domain it serves.
    pub domain: Domain,
    /// `host:port` of its QUIC socket.
    pub endpoint: String,
    /// The identity it must show; anything else is refused during the handshake.
    pub relay: RelayId,
}

/// Why a frame was not taken for sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The link's queue is at its bound. Read the log again when `Relay::link_drained` is called.
    #[error("the link's queue is full")]
    Full,
    /// The link is gone; its loss is told apart.
    #[error("the link is gone")]
    Gone,
}

/// How frames leave. No method waits, and none calls back into the relay before it has returned.
///
/// Bound a link's queue by frames and by bytes: one push frame may have a megabyte.
pub trait Links: Send + Sync + 'static {
    /// Queues a frame on a link; one encoded frame may be shared by many recipients. A link's frames arrive in the
    /// order they were queued, or the link is lost.
    ///
    /// # Errors
    /// The queue is full (the runtime calls `Relay::link_drained` once it has room again) or the link is gone.
    fn send(&self, link: LinkId, frame: Arc<Frame>) -> Result<(), SendError>;

    /// Ends a link once what is queued has left.
    fn close(&self, link: LinkId);

    /// Starts reaching a peer relay: answered by `Relay::link_up` with `dialled`, or by `Relay::dial_failed`.
    fn dial(&self, peer: PeerAddress);
}
