//! Timers: calls the core when it asked to be called.
//! Owns: the one deadline that is armed. The core may move it with every poll of any of its futures, so each poll is
//! followed by a look.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{Notify, watch};
use whimbrel_protocol::time::Monotonic;
use whimbrel_relay::{Ports, Relay};

use crate::clock::Clock;

const NONE: u64 = u64::MAX;

fn nanos(due: Option<Monotonic>) -> u64 {
    due.map_or(NONE, |due| u64::try_from(due.since_start().as_nanos()).unwrap_or(NONE))
}

#[derive(Debug)]
pub(crate) struct Timers {
    /// What the timer task sleeps for, in nanoseconds since the start; [`NONE`] while it sleeps for nothing.
    armed: AtomicU64,
    earlier: Notify,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { armed: AtomicU64::new(NONE), earlier: Notify::new() }
    }

    /// After a call into the core that may have moved its deadline.
    pub(crate) fn look<P: Ports>(&self, relay: &Relay<P>) {
        if nanos(relay.poll_timeout()) < self.armed.load(Ordering::Acquire) {
            self.earlier.notify_one();
        }
    }

    /// A future of the core, with a look after each poll. It is boxed once and moved no more.
    pub(crate) fn watched<'s, P: Ports>(
        &'s self,
        relay: &'s Relay<P>,
        future: impl Future<Output = ()> + Send + 's,
    ) -> Watched<'s, P> {
        Watched { timers: self, relay, future: Box::pin(future) }
    }

    /// Calls the core's timeouts until `stop` changes.
    pub(crate) async fn run<P: Ports>(&self, relay: &Relay<P>, clock: Clock, mut stop: watch::Receiver<bool>) {
        loop {
            // Whoever moves the deadline while we look at it notifies in vain, rather than being missed.
            self.armed.store(NONE, Ordering::Release);
            let due = relay.poll_timeout();
            self.armed.store(nanos(due), Ordering::Release);
            let sleep = async {
                match due {
                    Some(due) => clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => relay.timeout(clock.now()).await,
                () = self.earlier.notified() => {}
                _ = stop.changed() => return,
            }
        }
    }
}

/// A future of the core that is looked after.
pub(crate) struct Watched<'s, P: Ports> {
    timers: &'s Timers,
    relay: &'s Relay<P>,
    future: Pin<Box<dyn Future<Output = ()> + Send + 's>>,
}

impl<P: Ports> Future for Watched<'_, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let polled = this.future.as_mut().poll(context);
        this.timers.look(this.relay);
        polled
    }
}
