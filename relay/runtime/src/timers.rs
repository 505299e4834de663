//! Timers: calls the core when it asked to be called.
//! Owns: the one deadline that is armed. The core may move it with every poll of any of its futures, so each poll is
//! followed by a look.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

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

    /// A future of the core, with a look after each poll.
    pub(crate) async fn watched<P: Ports, T>(&self, relay: &Relay<P>, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            self.look(relay);
            polled
        })
        .await
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
