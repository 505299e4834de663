//! The executor: runs the futures of one process, one at a time, in the order they were woken.
//! Owns: the futures, in slots that are used again, and the list of those that were woken.
//! Never: a thread, a clock; it polls when the wheel says so and at no other time.
//!
//! Dropping it is a crash: every future is gone where it stood.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future of a process; it says what ended by its value.
pub type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Woken slots, in the order they were woken.
type Ready = Arc<Mutex<Vec<usize>>>;

struct Alarm {
    slot: usize,
    ready: Ready,
    /// Whether the slot is on the list already.
    rung: AtomicBool,
    /// Set once the future ended: whoever still holds the waker wakes nobody.
    over: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.over.load(Ordering::Relaxed) && !self.rung.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
        }
    }
}

struct Slot<T> {
    task: Task<T>,
    alarm: Arc<Alarm>,
    /// What is said of it when it is dropped where it stands; nothing of one that must not be.
    cancelled: Option<T>,
}

/// Futures of one process.
pub struct Executor<T> {
    slots: Vec<Option<Slot<T>>>,
    free: Vec<usize>,
    ready: Ready,
    polled: u64,
    /// The slot that was polled last.
    last: usize,
}

impl<T> Default for Executor<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Executor<T> {
    /// Nothing to run.
    pub fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), ready: Ready::default(), polled: 0, last: 0 }
    }

    /// Takes a future in; it is polled first after all that were woken before.
    pub fn spawn(&mut self, task: Task<T>) {
        self.take_in(task, None);
    }

    /// The same, of one that [`Executor::cancel`] may drop: what is said of it then.
    pub fn spawn_cancellable(&mut self, task: Task<T>, cancelled: T) {
        self.take_in(task, Some(cancelled));
    }

    fn take_in(&mut self, task: Task<T>, cancelled: Option<T>) {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        let alarm = Arc::new(Alarm {
            slot,
            ready: Arc::clone(&self.ready),
            rung: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        alarm.wake_by_ref();
        let entry = Some(Slot { task, alarm, cancelled });
        match self.slots.get_mut(slot) {
            Some(place) => *place = entry,
            None => self.slots.push(entry),
        }
    }

    /// Futures that have not ended.
    pub fn running(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether any future was woken since it was polled last.
    pub fn has_ready(&self) -> bool {
        !self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Polls every woken future once, in wake order; those woken meanwhile wait for the next call. With a bound it polls
    /// so many at most, and the others stay woken. Returns the values of those that ended, in the order they ended.
    pub fn poll_ready(&mut self, most: Option<u32>) -> Vec<T> {
        let mut woken = std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(most) = most
            && woken.len() > most as usize
        {
            let rest = woken.split_off(most as usize);
            *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        }
        self.polled += woken.len() as u64;
        self.last = woken.last().copied().unwrap_or(self.last);
        let mut ended = Vec::new();
        for index in woken {
            let Some(place) = self.slots.get_mut(index) else { continue };
            let Some(slot) = place else { continue };
            slot.alarm.rung.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&slot.alarm));
            if let Poll::Ready(value) = slot.task.as_mut().poll(&mut Context::from_waker(&waker)) {
                slot.alarm.over.store(true, Ordering::Relaxed);
                // A future may wake itself and end in the same poll; its slot must not be found ready again.
                if slot.alarm.rung.load(Ordering::Relaxed) {
                    self.ready.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != index);
                }
                *place = None;
                self.free.push(index);
                ended.push(value);
            }
        }
        ended
    }

    /// Drops one future between two of its awaits: the one that was polled last or, if that has ended or must not be
    /// dropped, the next behind it that may be. Returns what is said of it.
    pub fn cancel(&mut self) -> Option<T> {
        let slots = self.slots.len();
        let index = (0..slots).map(|n| (self.last + n) % slots).find(|index| {
            let slot = self.slots.get(*index).and_then(Option::as_ref);
            slot.is_some_and(|slot| slot.cancelled.is_some())
        })?;
        let slot = self.slots.get_mut(index).and_then(Option::take)?;
        slot.alarm.over.store(true, Ordering::Relaxed);
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != index);
        self.free.push(index);
        slot.cancelled
    }

    /// How often futures were polled so far.
    pub const fn polled(&self) -> u64 {
        self.polled
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A gate that futures wait at until it is opened; notes who passes and who is dropped.
    #[derive(Clone, Default)]
    struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

    impl Gate {
        async fn pass(self) {
            poll_fn(|cx| {
                let mut gate = self.0.lock().unwrap();
                if gate.0 {
                    return Poll::Ready(());
                }
                gate.1.push(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }

        fn open(&self) {
            let mut gate = self.0.lock().unwrap();
            gate.0 = true;
            // Latest first, to see that wake order and not slot order decides.
            gate.1.drain(..).rev().for_each(Waker::wake);
        }
    }

    struct Note(Arc<Mutex<Vec<u32>>>, u32);

    impl Drop for Note {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1);
        }
    }

    #[test]
    fn futures_run_in_the_order_they_were_woken() {
        let (mut executor, gate) = (Executor::new(), Gate::default());
        for n in 0..3 {
            let gate = gate.clone();
            executor.spawn(Box::pin(async move {
                gate.pass().await;
                n
            }));
        }
        assert!(executor.poll_ready(None).is_empty());
        assert!(!executor.has_ready());
        gate.open();
        assert_eq!(executor.poll_ready(None), [2, 1, 0]);
        assert_eq!(executor.running(), 0);
    }

    #[test]
    fn a_dropped_executor_drops_every_future_where_it_stood() {
        let (mut executor, gate, notes) = (Executor::new(), Gate::default(), Arc::new(Mutex::new(Vec::new())));
        for n in 0..3 {
            let (gate, note) = (gate.clone(), Note(Arc::clone(&notes), n));
            executor.spawn(Box::pin(async move {
                gate.pass().await;
                let Note(notes, n) = &note;
                notes.lock().unwrap().push(n + 100);
            }));
        }
        executor.poll_ready(None);
        drop(executor);
        gate.open();
        assert_eq!(*notes.lock().unwrap(), [0, 1, 2], "dropped, and none went on");
    }

    #[test]
    fn the_future_that_was_polled_last_is_dropped_alone_where_it_stands() {
        let (mut executor, gate, notes) = (Executor::new(), Gate::default(), Arc::new(Mutex::new(Vec::new())));
        for n in 0..4 {
            let (gate, note) = (gate.clone(), Note(Arc::clone(&notes), n));
            let task = Box::pin(async move {
                gate.pass().await;
                let Note(_, n) = &note;
                *n
            });
            // The last one must not be dropped.
            if n < 3 { executor.spawn_cancellable(task, n + 10) } else { executor.spawn(task) }
        }
        executor.poll_ready(Some(2));
        assert_eq!(executor.cancel(), Some(11));
        assert_eq!(*notes.lock().unwrap(), [1], "and what it held");
        executor.poll_ready(None);
        assert_eq!(executor.cancel(), Some(10), "the one polled last must not be: the next behind it");
        gate.open();
        assert_eq!((executor.poll_ready(None), executor.running()), (vec![3, 2], 0), "the others go on");
        assert_eq!(executor.cancel(), None);
    }

    #[test]
    fn a_waker_of_a_future_that_ended_does_not_wake_the_next_in_its_slot() {
        let mut executor = Executor::new();
        let kept: Arc<Mutex<Option<Waker>>> = Arc::default();
        let keep = Arc::clone(&kept);
        executor.spawn(Box::pin(poll_fn(move |cx| {
            *keep.lock().unwrap() = Some(cx.waker().clone());
            cx.waker().wake_by_ref();
            Poll::Ready(())
        })));
        assert_eq!(executor.poll_ready(None).len(), 1);
        assert!(!executor.has_ready());
        executor.spawn(Box::pin(std::future::pending()));
        executor.poll_ready(None);
        kept.lock().unwrap().take().unwrap().wake();
        assert!(!executor.has_ready());
        assert_eq!((executor.running(), executor.slots.len()), (1, 1), "the slot is used again");
    }
}
