//! Links: the core's port to the wire.
//! Owns: which link number stands for which connection, and who waits to be dialled.
//! Never: waits; reads a frame (`serve`).
//! Limits: `limits::LINK_QUEUE_FRAMES_MAX`, `limits::PEERS_MAX`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use tokio::sync::mpsc;
use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::time::Monotonic;
use whimbrel_protocol::{Frame, RefusalCode, limits};
use whimbrel_relay::{Links, PeerAddress, SendError};
use whimbrel_transport::{CloseCode, Encoded, FrameSender};

use crate::clock::Clock;
use crate::figures::Figures;
use crate::poll::Outbox;

/// How frames leave on a link: written as they come, or kept until they are fetched.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// A QUIC stream.
    Quic(FrameSender),
    /// Calls over HTTPS.
    Poll(Arc<Outbox>),
}

impl Outlet {
    fn send(&self, frame: Encoded) -> Result<(), whimbrel_transport::SendError> {
        match self {
            Self::Quic(sender) => sender.send_encoded(frame),
            Self::Poll(outbox) => outbox.send(frame.bytes()),
        }
    }

    /// Resolves when the queue is at most half full.
    pub(crate) async fn has_room(&self) {
        match self {
            Self::Quic(sender) => sender.has_room().await,
            Self::Poll(outbox) => outbox.has_room().await,
        }
    }

    /// Resolves once the queue, having refused a frame, is down to half.
    pub(crate) async fn drained(&self) {
        match self {
            Self::Quic(sender) => sender.drained().await,
            Self::Poll(outbox) => outbox.drained().await,
        }
    }

    /// Ends the link once what is queued has left.
    pub(crate) fn close(&self, code: CloseCode) {
        match self {
            Self::Quic(sender) => sender.close(code),
            Self::Poll(outbox) => outbox.close(),
        }
    }

    /// Ends the link at once.
    pub(crate) fn abort(&self, code: CloseCode) {
        match self {
            Self::Quic(sender) => sender.abort(code),
            Self::Poll(outbox) => outbox.abort(),
        }
    }
}

/// One link, as the core's port and its task share it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) sender: Outlet,
    dialled: bool,
    /// Whether the core has let the peer in: from then on its frames may be large and many at once.
    admitted: AtomicBool,
}

impl Slot {
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
pub(crate) struct LinkTable {
    slots: RwLock<BTreeMap<LinkId, Arc<Slot>>>,
    next: AtomicU64,
    dials: mpsc::Sender<PeerAddress>,
}

impl LinkTable {
    /// An empty table, and the dials it asks for.
    pub(crate) fn new() -> (Self, mpsc::Receiver<PeerAddress>) {
        let (dials, asked) = mpsc::channel(limits::PEERS_MAX);
        (Self { slots: RwLock::default(), next: AtomicU64::new(1), dials }, asked)
    }

    /// Takes a link in under a number never used before. A peer we dialled is admitted: its pin was checked.
    pub(crate) fn add(&self, sender: Outlet, dialled: bool) -> (LinkId, Arc<Slot>) {
        let link = LinkId::new(self.next.fetch_add(1, Ordering::Relaxed));
        let slot = Arc::new(Slot { sender, dialled, admitted: AtomicBool::new(dialled) });
        self.write().insert(link, slot.clone());
        (link, slot)
    }

    /// Links that stand, by what carries them and who began.
    pub(crate) fn counts(&self) -> [(&'static str, usize); 3] {
        let slots = self.read();
        let dialled = slots.values().filter(|slot| slot.dialled).count();
        let polled = slots.values().filter(|slot| matches!(slot.sender, Outlet::Poll(_))).count();
        [("quic", slots.len() - dialled - polled), ("quic_dialled", dialled), ("poll", polled)]
    }

    pub(crate) fn remove(&self, link: LinkId) {
        self.write().remove(&link);
    }

    fn slot(&self, link: LinkId) -> Option<Arc<Slot>> {
        self.read().get(&link).cloned()
    }

    // Nothing that could panic runs under the lock.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<LinkId, Arc<Slot>>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<LinkId, Arc<Slot>>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links for LinkTable {
    fn send(&self, link: LinkId, frame: Arc<Frame>) -> Result<(), SendError> {
        let slot = self.slot(link).ok_or(SendError::Gone)?;
        let encoded = encoded(&frame).map_err(|error| {
            tracing::error!(kind = frame.name(), %error, "a frame of our own is over its bound; the link ends");
            slot.sender.abort(CloseCode::Internal);
            SendError::Gone
        })?;
        slot.sender.send(encoded).map_err(|error| match error {
            whimbrel_transport::SendError::Full => SendError::Full,
            _ => SendError::Gone,
        })?;
        if let Frame::Refused(refused) = &*frame {
            // Nobody listens, most often.
            let _nobody = REFUSED.try_with(|(of, code)| {
                if *of == link {
                    code.set(Some(refused.code));
                }
            });
        }
        if matches!(*frame, Frame::Stored(_)) {
            // Of an opening nobody measures it.
            let _nobody = SUBMITTED.try_with(|submitted| submitted.stored(link));
        }
        // These are what lets a peer in, on either protocol.
        if matches!(*frame, Frame::Admitted(_) | Frame::PeerHello(_)) {
            slot.admitted.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn close(&self, link: LinkId) {
        if let Some(slot) = self.slot(link) {
            slot.sender.close(CloseCode::Done);
        }
    }

    fn dial(&self, peer: PeerAddress) {
        // The core knows at most as many peers as there is room for, and dials each once at a time.
        if let Err(error) = self.dials.try_send(peer) {
            tracing::error!(%error, "a dial was lost");
        }
    }
}

/// An envelope that is on its way through the core.
pub(crate) struct Submitted {
    pub(crate) link: LinkId,
    pub(crate) since: Monotonic,
    pub(crate) clock: Clock,
    pub(crate) figures: Arc<Figures>,
}

impl Submitted {
    /// Its author is told that it is durable.
    fn stored(&self, link: LinkId) {
        if self.link == link {
            self.figures.submitted(self.clock.now().monotonic.since(self.since));
        }
    }

    /// Runs the request that carries it.
    pub(crate) fn around<T>(self, request: impl Future<Output = T>) -> impl Future<Output = T> {
        SUBMITTED.scope(self, request)
    }
}

tokio::task_local! {
    /// The envelope whose request is being polled.
    static SUBMITTED: Submitted;
    /// The link whose request is being polled, and the refusal it was told.
    static REFUSED: (LinkId, Cell<Option<RefusalCode>>);
}

/// Runs a request of a link; tells with what it was refused, if it was while it ran.
pub(crate) async fn refused_of<T>(link: LinkId, request: impl Future<Output = T>) -> (Option<RefusalCode>, T) {
    // Boxed: it would be held twice else, as it is handed in and as it is waited for.
    let request = Box::pin(request);
    let told = async {
        let output = request.await;
        (REFUSED.with(|(_, code)| code.get()), output)
    };
    REFUSED.scope((link, Cell::new(None)), told).await
}

thread_local! {
    /// The frame encoded last on this thread: a fan-out sends one frame on many links in a row.
    static LAST: RefCell<Option<(Weak<Frame>, Encoded)>> = const { RefCell::new(None) };
}

fn encoded(frame: &Arc<Frame>) -> Result<Encoded, whimbrel_protocol::frame::FrameError> {
    LAST.with_borrow_mut(|last| match last {
        // A weak reference keeps the address from being used again.
        Some((of, encoded)) if Weak::as_ptr(of) == Arc::as_ptr(frame) => Ok(encoded.clone()),
        _ => {
            let encoded = Encoded::new(frame)?;
            *last = (Arc::strong_count(frame) > 1).then(|| (Arc::downgrade(frame), encoded.clone()));
            Ok(encoded)
        }
    })
}
