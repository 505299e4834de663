//! Inlet: frames of a polled link on their way to the core, one by one as from any link.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use whimbrel_protocol::Frame;
use whimbrel_protocol::frame::FrameError;
use whimbrel_transport::{CloseReason, ReceiveError};

use super::Outbox;

/// Whether the core has let the device in.
#[derive(Clone, Debug, Default)]
pub(super) struct Admitted(Arc<AtomicBool>);

impl Admitted {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The receiving half of a polled link.
#[derive(Debug)]
pub(crate) struct PollInlet {
    frames: mpsc::Receiver<Result<Frame, FrameError>>,
    outbox: Arc<Outbox>,
    admitted: Admitted,
}

impl PollInlet {
    pub(super) fn new(frames: mpsc::Receiver<Result<Frame, FrameError>>, outbox: Arc<Outbox>) -> Self {
        Self { frames, outbox, admitted: Admitted::default() }
    }

    pub(super) fn admitted(&self) -> Admitted {
        self.admitted.clone()
    }

    /// The peer is who it says.
    pub(crate) fn authenticated(&self) {
        self.admitted.0.store(true, Ordering::Release);
    }

    /// The next frame; dropping the future loses nothing.
    ///
    /// # Errors
    /// As for any link.
    pub(crate) async fn next(&mut self) -> Result<Frame, ReceiveError> {
        tokio::select! {
            biased;
            // What came before the end is heard: a goodbye, say.
            frame = self.frames.recv() => match frame {
                Some(frame) => frame.map_err(ReceiveError::Malformed),
                None => Err(CloseReason::Finished.into()),
            },
            () = self.outbox.ended() => Err(CloseReason::Finished.into()),
        }
    }
}
