//! T66 of the threat model at full size: ten times the rated messages for as long as it is told (ten minutes: `--seconds 600`).
//! Owns: those who flood, those beside them who keep to their rate, and what is counted of both.
//!
//! The relay runs with the rate of messages it ships with. Who floods hands in ten times as much, whatever comes back; then
//! waits as told and is heard again. Whoever keeps to the rate talks all the while, before, during and after.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::{sleep, timeout};
use whimbrel_protocol::Frame;
use whimbrel_protocol::id::{RequestId, ThreadId};
use whimbrel_protocol::push::EntryBody;
use whimbrel_protocol::reception::Refused;
use whimbrel_protocol::refusal::RefusalCode;

use super::Stage;
use super::pairs::Round;
use crate::clock;
use crate::crowd::{self, ANSWER_TIME_MAX, Line, Mouth, Pair, Way};
use crate::figure::{Budget, Figure, Latencies};

/// The rate that relays ship with, of one account (`messages` in their configuration).
const RATED_PER_S: u64 = 20;
/// So many times as much is handed in.
const TIMES: u64 = 10;
/// Who floods, each with somebody to say it to.
const FLOODING: usize = 32;
/// Who keeps to the rate, and how often each says something.
const BESIDE: usize = 8;
const BESIDE_EVERY: Duration = Duration::from_millis(250);
/// The flood comes in portions, so often.
const PORTION_EVERY: Duration = Duration::from_millis(50);
const PORTION: u64 = TIMES * RATED_PER_S / 20;
/// What one who floods has under way at most: a client's memory is its own bound. What finds it full is not handed in.
const UNDER_WAY_MAX: usize = 4_096;
/// Quiet before, to compare with, and what is looked at after.
const BEFORE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(60);
/// Whoever is told nothing for so long after the flood was told everything.
const SILENCE: Duration = Duration::from_secs(20);

/// When the flood begins and ends.
#[derive(Clone, Copy)]
struct Flood {
    begin: Duration,
    end: Duration,
}

/// What one who floods saw.
#[derive(Default)]
struct Seen {
    offered: u64,
    not_handed_in: u64,
    accepted: u64,
    shed: u64,
    /// Of these, without a time to come back after.
    timeless: u64,
    longest: Duration,
    /// From the end of the flood until a message of theirs was taken again.
    recovered: Duration,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.not_handed_in += other.not_handed_in;
        self.accepted += other.accepted;
        self.shed += other.shed;
        self.timeless += other.timeless;
        self.longest = self.longest.max(other.longest);
        self.recovered = self.recovered.max(other.recovered);
    }
}

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let entries = TIMES * RATED_PER_S * (stage.time + AFTER).as_secs();
    let relay = stage.rated_relay(2 * (FLOODING + BESIDE) + 64, usize::try_from(entries)?)?;
    let way = Way::open(relay.link())?;
    let mut pairs = crowd::pairs(&way, FLOODING + BESIDE).await?;
    let beside = pairs.split_off(FLOODING);
    let process = relay.process()?;
    let (rss_before, begin) = (process.rss_bytes()?, clock::now() + BEFORE);
    let flood = Flood { begin, end: begin + stage.time };

    let talks: Vec<_> = beside.into_iter().map(|pair| tokio::spawn(talk(pair, flood))).collect();
    let (mut flooding, mut hearing) = (Vec::new(), Vec::new());
    for Pair { thread, alice: (_, alice), bob: (_, bob) } in pairs {
        flooding.push(tokio::spawn(pour(alice, thread, flood)));
        hearing.push(tokio::spawn(hear(bob, flood.end)));
    }
    sleep(flood.begin.saturating_sub(clock::now())).await;
    let cpu_s = process.cpu_s()?;
    sleep(flood.end.saturating_sub(clock::now())).await;
    let (cpu_s, rss_after) = (process.cpu_s()? - cpu_s, process.rss_bytes()?);

    let mut seen = Seen::default();
    for one in flooding {
        seen.add(&one.await??);
    }
    let mut pushed = 0;
    for one in hearing {
        pushed += one.await??;
    }
    let mut beside = [(); 3].map(|()| Latencies::default());
    for one in talks {
        beside.iter_mut().zip(one.await??).for_each(|(all, one)| all.append(one));
    }
    relay.end()?;
    ensure!(seen.accepted > 0, "nothing was accepted");
    let [before, during, after] = beside;
    let mut figure =
        Figure::new("T66", "ten times the rate: until all are heard again", seen.recovered.as_secs_f64(), "s")
            .over(&stage.store)
            .judged(None, Budget::most(60.0))
            .timed(&during)
            .lost(seen.accepted.saturating_sub(pushed))
            .with("flooding", FLOODING)
            .with("beside", BESIDE)
            .with_number("flood_s", stage.time.as_secs_f64())
            .with("offered", seen.offered)
            .with("accepted", seen.accepted)
            .with("shed", seen.shed)
            .with("shed_without_a_time", seen.timeless)
            .with("not_handed_in", seen.not_handed_in)
            .with_number("longest_time_named_s", seen.longest.as_secs_f64())
            .with_number("relay_core_share", cpu_s / stage.time.as_secs_f64())
            .with("rss_before_bytes", rss_before)
            .with("rss_after_bytes", rss_after);
    for (p50, p99, latencies) in [("before_p50_ms", "before_p99_ms", &before), ("after_p50_ms", "after_p99_ms", &after)]
    {
        for (key, quantile) in [(p50, 0.5), (p99, 0.99)] {
            figure = figure.with_number(key, latencies.quantile_ms(quantile).context("nobody talked")?);
        }
    }
    Ok(vec![figure])
}

/// Hands in ten times as much as is allowed until the end, whatever is answered; then waits as told until it is heard.
async fn pour(mut line: Line, thread: ThreadId, flood: Flood) -> anyhow::Result<Seen> {
    let mut pouring = Pouring { mouth: Mouth::new(thread), open: BTreeSet::new(), last: None, seen: Seen::default() };
    let mut due = flood.begin;
    while due < flood.end || !pouring.open.is_empty() {
        tokio::select! {
            () = sleep(due.saturating_sub(clock::now())), if due < flood.end => {
                for _ in 0..PORTION {
                    pouring.offer(&mut line)?;
                }
                due += PORTION_EVERY;
            }
            frame = timeout(ANSWER_TIME_MAX, line.receiver.next()) => {
                pouring.heard(&mut line, frame.context("no answer in time")??)?;
            }
        }
        line.acknowledge(false)?;
    }
    let before = pouring.seen.accepted;
    let mut wait = pouring.seen.longest;
    while pouring.seen.accepted == before {
        sleep(wait).await;
        let shed = pouring.seen.shed;
        pouring.offer(&mut line)?;
        while !pouring.open.is_empty() {
            let frame = timeout(ANSWER_TIME_MAX, line.receiver.next()).await.context("no answer in time")??;
            wait = pouring.heard(&mut line, frame)?.unwrap_or(wait);
        }
        ensure!(
            clock::now() < flood.end + AFTER,
            "shed for a minute after the flood, {} times",
            pouring.seen.shed - shed
        );
    }
    pouring.seen.recovered = clock::now().saturating_sub(flood.end);
    line.acknowledge(true)?;
    Ok(pouring.seen)
}

/// What one who floods has under way.
struct Pouring {
    mouth: Mouth,
    open: BTreeSet<RequestId>,
    last: Option<RequestId>,
    seen: Seen,
}

impl Pouring {
    fn offer(&mut self, line: &mut Line) -> anyhow::Result<()> {
        if self.open.len() >= UNDER_WAY_MAX {
            self.seen.not_handed_in += 1;
            return Ok(());
        }
        // Everything before the oldest without an answer was heard of.
        let heard = match self.open.first() {
            Some(oldest) => oldest.get().checked_sub(1).map(RequestId::new),
            None => self.last,
        };
        let request = line.request();
        line.sender.send(&self.mouth.submit_having_heard(request, request.get(), heard))?;
        self.open.insert(request);
        self.last = Some(request);
        self.seen.offered += 1;
        Ok(())
    }

    /// Takes a frame. Gives the time after which to come back, where one is named.
    fn heard(&mut self, line: &mut Line, frame: Frame) -> anyhow::Result<Option<Duration>> {
        match frame {
            Frame::Stored(stored) => {
                ensure!(self.open.remove(&stored.request), "answered twice");
                self.seen.accepted += 1;
            }
            Frame::Refused(Refused {
                request: Some(request),
                code: RefusalCode::TooFast | RefusalCode::Busy,
                retry_after_ms,
            }) => {
                ensure!(self.open.remove(&request), "answered twice");
                self.seen.shed += 1;
                let wait = retry_after_ms.map(|ms| Duration::from_millis(ms.into()));
                self.seen.timeless += u64::from(wait.is_none());
                self.seen.longest = self.seen.longest.max(wait.unwrap_or_default());
                return Ok(wait);
            }
            Frame::Push(push) => line.take(&push),
            other => bail!("a message was answered with {other:?}"),
        }
        Ok(None)
    }
}

/// Reads and acknowledges until the flood is over and nothing comes any more. Gives how many messages came.
async fn hear(mut line: Line, end: Duration) -> anyhow::Result<u64> {
    let mut count = 0;
    loop {
        match timeout(SILENCE, line.receiver.next()).await {
            Ok(frame) => {
                let Frame::Push(push) = frame? else { bail!("Bob was sent something else") };
                let messages = push.entries.iter().filter(|entry| matches!(entry.body, EntryBody::Envelope(..)));
                count += messages.count() as u64;
                line.take(&push);
            }
            Err(_) if clock::now() > end + SILENCE => break,
            // Before the flood there is nothing to hear.
            Err(_) => line.beat()?,
        }
        line.acknowledge(false)?;
    }
    line.acknowledge(true)?;
    Ok(count)
}

/// Talks at a pace that is allowed: how long each message took, before the flood, during it, and after it.
async fn talk(pair: Pair, flood: Flood) -> anyhow::Result<[Latencies; 3]> {
    let Pair { thread, alice: (_, mut alice), bob: (_, mut bob) } = pair;
    let mut mouth = Mouth::new(thread);
    let mut latencies = [(); 3].map(|()| Latencies::default());
    let (mut due, mut number) = (clock::now(), 0);
    while due < flood.end + AFTER {
        sleep(due.saturating_sub(clock::now())).await;
        number += 1;
        let request = alice.request();
        alice.sender.send(&mouth.submit(request, number))?;
        let mut round = Round::new(request, number);
        timeout(ANSWER_TIME_MAX, round.run(&mut alice, &mut bob))
            .await
            .context("a message within the rate was lost")??;
        let arrived = round.arrived.context("a message within the rate was lost")?;
        let [before, during, after] = &mut latencies;
        let phase = match () {
            () if due < flood.begin => before,
            () if due < flood.end => during,
            () => after,
        };
        phase.add(arrived.saturating_sub(due));
        for line in [&mut alice, &mut bob] {
            line.acknowledge(false)?;
        }
        due += BESIDE_EVERY;
    }
    for line in [&mut alice, &mut bob] {
        line.acknowledge(true)?;
    }
    Ok(latencies)
}
