//! R2: a message between two. Pairs in a closed loop: submit, durable, receipt, push, acknowledgement.
//! Owns: the loop, and the floor: two echoes of the library and the engine's own writes.
//!
//! A pair's next message leaves when the receipt of the last has come back to Alice and the push has reached Bob. Both
//! acknowledge as nodes do, for 100 ms or 64 entries. Alice is pushed her own entries too: her cursor moves by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{sleep, timeout};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{RequestId, Sequence, ThreadId};
use whimbrel_protocol::push::Push;
use whimbrel_transport::Encoded;

use super::{Measured, Stage, per_100k};
use crate::bare::Bare;
use crate::clock;
use crate::crowd::{self, ANSWER_TIME_MAX, AT_ONCE, Line, Mouth, Pair, Way};
use crate::engine::{self, Writes};
use crate::figure::{Budget, Figure, Latencies};

/// Before anything is counted: caches fill, windows open.
pub(crate) const WARM: Duration = Duration::from_secs(1);
/// Bytes of a message's entry in a store: the body, its author and its running totals.
pub(crate) const ENTRY_BYTES: usize = crowd::BODY_BYTES + 104;
/// Entries that a log keeps in the floor: a relay trims once a second.
const KEPT: u64 = 64;

#[derive(Debug, Default)]
struct Counters {
    done: AtomicU64,
    stop: AtomicBool,
}

/// What one pair saw.
#[derive(Default)]
struct Seen {
    latencies: Latencies,
    stored: u64,
    pushed: u64,
    acknowledgements: u64,
}

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let relay = stage.relay(2 * stage.pairs + 64, 100_000)?;
    let way = Way::open(relay.link())?;
    let pairs = crowd::pairs(&way, stage.pairs).await?;
    let counters = Arc::new(Counters::default());
    let talks: Vec<_> = pairs.into_iter().map(|pair| tokio::spawn(talk(pair, counters.clone()))).collect();

    sleep(WARM).await;
    let process = relay.process()?;
    let (begin, began) = (Reading::take(&relay)?, (clock::now(), counters.done.load(Ordering::Relaxed)));
    sleep(stage.time).await;
    // A disk that stood still all the time says nothing yet.
    while counters.done.load(Ordering::Relaxed) == began.1 && clock::now() - began.0 < stage.time + ANSWER_TIME_MAX {
        sleep(Duration::from_millis(100)).await;
    }
    let end = Reading::take(&relay)?;
    let (took, messages) = (clock::now() - began.0, counters.done.load(Ordering::Relaxed) - began.1);
    counters.stop.store(true, Ordering::Relaxed);

    let mut seen = Seen::default();
    for talk in talks {
        let one = talk.await??;
        seen.latencies.append(one.latencies);
        seen.stored += one.stored;
        seen.pushed += one.pushed;
        seen.acknowledgements += one.acknowledgements;
    }
    let rss = process.rss_bytes()?;
    relay.end()?;
    ensure!(messages > 0, "no message came through in {took:?}");
    let cpu_s = end.cpu_s - begin.cpu_s;
    let floor = if stage.floor { Some(floor(stage, messages).await?) } else { None };
    let budget = Budget::times(1.5).and_most(match stage.store.as_str() {
        "sled" => Some(7.5),
        "fjall" => Some(7.0),
        "memory" => Some(5.0),
        _ => None,
    });
    let mut figure = Figure::new("R2", "1:1 message, relay CPU s per 100k", per_100k(cpu_s, messages), "CPU s/100k")
        .over(&stage.store)
        .judged(floor.map(|(echoes, writes)| echoes + writes), budget)
        .timed(&seen.latencies)
        .lost(seen.stored.saturating_sub(seen.pushed))
        .with("pairs", stage.pairs)
        .with("messages", messages)
        .with_number("messages_per_s", messages as f64 / took.as_secs_f64())
        .with_number("relay_core_share", cpu_s / took.as_secs_f64())
        .with_number("acknowledgements_per_message", seen.acknowledgements as f64 / seen.stored.max(1) as f64)
        .with_number("written_bytes_per_message", (end.written - begin.written) as f64 / messages as f64)
        .with("rss_bytes", rss);
    if let Some((echoes, writes)) = floor {
        figure = figure.with_number("floor_two_echoes", echoes).with_number("floor_engine", writes);
    }
    Ok(vec![figure])
}

/// What the system has counted of the relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) cpu_s: f64,
    pub(crate) written: u64,
}

impl Reading {
    pub(crate) fn take(relay: &Measured) -> anyhow::Result<Self> {
        let process = relay.process()?;
        Ok(Self { cpu_s: process.cpu_s()?, written: process.written_bytes()? })
    }
}

async fn talk(pair: Pair, counters: Arc<Counters>) -> anyhow::Result<Seen> {
    let Pair { thread, alice: (_, mut alice), bob: (_, mut bob) } = pair;
    let mut mouth = Mouth::new(thread);
    let mut seen = Seen::default();
    let mut number = 0;
    while !counters.stop.load(Ordering::Relaxed) {
        number += 1;
        let request = alice.request();
        let sent = clock::now();
        alice.sender.send(&mouth.submit(request, number))?;
        let mut round = Round::new(request, number);
        let ran = timeout(ANSWER_TIME_MAX, round.run(&mut alice, &mut bob)).await;
        ensure!(round.stored, "a message was not answered in time");
        seen.stored += 1;
        // Without an arrival it is lost, and told so: the round is over all the same.
        if let Some(arrived) = round.arrived {
            seen.pushed += 1;
            seen.latencies.add(arrived - sent);
        }
        ran.unwrap_or(Ok(()))?;
        for line in [&mut alice, &mut bob] {
            seen.acknowledgements += u64::from(line.acknowledge(false)?);
        }
        counters.done.fetch_add(1, Ordering::Relaxed);
    }
    for line in [&mut alice, &mut bob] {
        seen.acknowledgements += u64::from(line.acknowledge(true)?);
    }
    Ok(seen)
}

/// One message's way.
pub(super) struct Round {
    request: RequestId,
    number: u64,
    stored: bool,
    pub(super) arrived: Option<Duration>,
}

impl Round {
    pub(super) fn new(request: RequestId, number: u64) -> Self {
        Self { request, number, stored: false, arrived: None }
    }

    pub(super) async fn run(&mut self, alice: &mut Line, bob: &mut Line) -> anyhow::Result<()> {
        while !(self.stored && self.arrived.is_some()) {
            tokio::select! {
                frame = alice.receiver.next() => self.of_alice(alice, frame.context("Alice")?)?,
                frame = bob.receiver.next() => self.of_bob(bob, frame.context("Bob")?)?,
            }
        }
        Ok(())
    }

    fn of_alice(&mut self, line: &mut Line, frame: Frame) -> anyhow::Result<()> {
        match frame {
            Frame::Stored(stored) if stored.request == self.request => {
                ensure!(stored.sequence == Sequence::new(self.number), "stored at {:?}", stored.sequence);
                self.stored = true;
            }
            Frame::Push(push) => line.take(&push),
            other => bail!("a message was answered with {other:?}"),
        }
        Ok(())
    }

    fn of_bob(&mut self, line: &mut Line, frame: Frame) -> anyhow::Result<()> {
        let Frame::Push(push) = frame else { bail!("Bob was sent {frame:?}") };
        line.take(&push);
        if upto_number(&push) == Some(self.number) {
            self.arrived = Some(clock::now());
        }
        Ok(())
    }
}

/// The number of the last message of a run.
pub(crate) fn upto_number(push: &Push) -> Option<u64> {
    push.entries.last().and_then(|entry| match &entry.body {
        whimbrel_protocol::push::EntryBody::Envelope(_, envelope) => crowd::number_of(envelope),
        _ => None,
    })
}

/// Two echoes of the library, and the engine's writes, for 100,000 messages.
async fn floor(stage: &Stage, messages: u64) -> anyhow::Result<(f64, f64)> {
    let echo = echo_floor(stage).await?;
    let writes = Writes {
        messages: messages.clamp(10_000, 200_000),
        group: stage.pairs as u64,
        logs: stage.pairs as u64,
        value_bytes: ENTRY_BYTES,
        keep: KEPT,
    };
    let folder = stage.fresh_folder()?;
    let writes = engine::floor(&stage.machine, &stage.store, folder.path(), writes)?;
    Ok((2.0 * echo, writes))
}

/// Processor seconds for 100,000 echoes of a message's frame, one in flight on each of so many connections.
pub(crate) async fn echo_floor(stage: &Stage) -> anyhow::Result<f64> {
    let bare = Bare::start(&stage.machine)?;
    let bytes = frame_bytes()?;
    let connecting = stream::iter(0..2 * stage.pairs).map(|_| bare.connect());
    let lines: Vec<_> = connecting.buffer_unordered(AT_ONCE).try_collect().await?;
    let counters = Arc::new(Counters::default());
    let mut echoing: FuturesUnordered<_> = lines
        .into_iter()
        .map(|mut line| {
            let counters = counters.clone();
            tokio::spawn(async move {
                let frame = vec![7; bytes];
                while !counters.stop.load(Ordering::Relaxed) {
                    line.echo(&frame).await?;
                    counters.done.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    sleep(WARM).await;
    let (cpu_s, before) = (bare.process().cpu_s()?, counters.done.load(Ordering::Relaxed));
    sleep(stage.time.min(Duration::from_secs(5))).await;
    let cpu_s = bare.process().cpu_s()? - cpu_s;
    let echoes = counters.done.load(Ordering::Relaxed) - before;
    counters.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = echoing.next().await {
        ended??;
    }
    Ok(per_100k(cpu_s, echoes))
}

/// Bytes of a message's frame on the wire.
pub(crate) fn frame_bytes() -> anyhow::Result<usize> {
    let mut mouth = Mouth::new(ThreadId::from_bytes([7; 32]));
    Ok(Encoded::new(&mouth.submit(RequestId::new(1_000), 1))?.bytes_len())
}
