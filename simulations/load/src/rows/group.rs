//! R3 and R4: a message in a group of five hundred, with everybody there, and with ten.
//! Owns: one author, those who listen, those who are away; the floor: the library alone, from one to as many, and for R4
//! the engine's writes.
//!
//! A message is over when its receipt is back and all who are there have it; so many are on their way at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use whimbrel_protocol::Frame;
use whimbrel_protocol::push::{EntryBody, Push};

use super::pairs::{ENTRY_BYTES, Reading, WARM, frame_bytes};
use super::{Measured, Stage, per_100k};
use crate::bare::Bare;
use crate::clock;
use crate::crowd::{self, ANSWER_TIME_MAX, AT_ONCE, Got, Line, Mouth, Person, Way, group};
use crate::engine::{self, Writes};
use crate::figure::{Budget, Figure, Latencies};

/// Who listens in R4.
const ONLINE: usize = 10;
/// Messages on their way at once.
const IN_FLIGHT: [u64; 2] = [1, 16];
/// What is noted of messages on their way is noted in so many places: more than there can be.
const PLACES: usize = 64;
/// The floor's messages from one to many.
const FAN_MESSAGES: usize = 2_000;

/// All members are there.
pub(crate) async fn all_there(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let listeners = stage.members - 1;
    let (told, lost) = Group::talks(stage, listeners).await?;
    let mut figures = Vec::new();
    for (told, (id, most)) in told.into_iter().zip([("R3.one", 1.5), ("R3.sixteen", 0.5)]) {
        let deliveries = told.messages * listeners as u64;
        let floor = if stage.floor { Some(fan_floor(stage, listeners, told.in_flight).await?) } else { None };
        let what = "group, all online: relay CPU s per 100k deliveries";
        let figure = Figure::new(id, what, per_100k(told.cpu_s, deliveries), "CPU s/100k")
            .judged(floor.map(|message| message * 100.0 / listeners as f64), Budget::most(most));
        figures.push(told.describe(figure, stage, listeners).lost(lost).with("deliveries", deliveries));
    }
    Ok(figures)
}

/// Ten are there, the others away.
pub(crate) async fn few_there(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let (told, lost) = Group::talks(stage, ONLINE).await?;
    let mut figures = Vec::new();
    for (told, id) in told.into_iter().zip(["R4.one", "R4.sixteen"]) {
        let floor = if stage.floor {
            let (group, logs, value_bytes, keep) = (told.in_flight, 1, ENTRY_BYTES, u64::MAX);
            let writes = Writes { messages: told.messages.clamp(500, 5_000), group, logs, value_bytes, keep };
            let folder = stage.fresh_folder()?;
            let writes = engine::floor(&stage.machine, &stage.store, folder.path(), writes)? / 100.0;
            Some(fan_floor(stage, ONLINE, told.in_flight).await? + writes)
        } else {
            None
        };
        let value = told.cpu_s * 1e3 / told.messages as f64;
        let figure = Figure::new(id, "group, ten online: relay CPU ms per message", value, "CPU ms")
            .judged(floor, Budget::most(0.2));
        figures.push(told.describe(figure, stage, ONLINE).lost(lost));
    }
    Ok(figures)
}

/// A thread, its author, and those of its members who are there.
struct Group {
    relay: Measured,
    author: Line,
    mouth: Mouth,
    /// Places of the log that commits took.
    before: u64,
    /// The last message.
    number: u64,
    shared: Arc<Shared>,
    over: watch::Sender<bool>,
    listeners: Vec<JoinHandle<anyhow::Result<Got>>>,
}

/// What the author and the listeners share.
#[derive(Debug)]
struct Shared {
    /// A permit for each message that may leave.
    room: Semaphore,
    /// Of each message on its way: when it left, and how many have it.
    sent: Vec<AtomicU64>,
    have: Vec<AtomicU64>,
    listeners: u64,
    /// Messages that all have.
    done: AtomicU64,
    stop: AtomicBool,
    latencies: Mutex<Latencies>,
}

/// What was counted of one stretch.
struct Told {
    in_flight: u64,
    messages: u64,
    /// Places of the log that a message took.
    appends: f64,
    cpu_s: f64,
    written: u64,
    took: Duration,
    latencies: Latencies,
}

impl Told {
    fn describe(&self, figure: Figure, stage: &Stage, online: usize) -> Figure {
        figure
            .over(&stage.store)
            .timed(&self.latencies)
            .with("members", stage.members)
            .with("online", online)
            .with("in_flight", self.in_flight)
            .with("messages", self.messages)
            .with_number("messages_per_s", self.messages as f64 / self.took.as_secs_f64())
            .with_number("relay_core_share", self.cpu_s / self.took.as_secs_f64())
            .with_number("appends_per_message", self.appends)
            .with_number("written_bytes_per_message", self.written as f64 / self.messages as f64)
    }
}

impl Group {
    /// A group of so many who are there talks, with one message on its way, then with sixteen. Gives what was counted,
    /// and how many of its messages did not reach somebody.
    async fn talks(stage: &Stage, online: usize) -> anyhow::Result<(Vec<Told>, u64)> {
        let mut group = Self::gather(stage, online).await?;
        let mut told = Vec::new();
        for in_flight in IN_FLIGHT {
            told.push(group.talk(stage, in_flight).await?);
        }
        Ok((told, group.end().await?))
    }

    /// Everybody registers and consents; one opens a thread with all; so many others stay.
    async fn gather(stage: &Stage, online: usize) -> anyhow::Result<Self> {
        let relay = stage.relay(stage.members + 64, 100_000_000)?;
        let way = Way::open(relay.link())?;
        let mut people = crowd::people(stage.members)?;
        let creator = people.pop().context("nobody")?;
        let mut author = way.register(&creator).await?;
        crowd::invite(&mut author, creator.account(), u32::try_from(people.len())?).await?;
        let coming = stream::iter(&people).map(|person| join(&way, person, &creator));
        let lines: Vec<Line> = coming.buffered(AT_ONCE).try_collect().await?;
        let others: Vec<&Person> = people.iter().collect();
        let founded = group::found(&way, (&creator, &mut author), &others).await?;
        let shared = Arc::new(Shared {
            room: Semaphore::new(0),
            sent: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            have: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            listeners: online as u64,
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            latencies: Mutex::default(),
        });
        let (over, is_over) = watch::channel(false);
        let mut listeners = Vec::new();
        // Those who are there came with any of the commits.
        let each = lines.len() / online;
        for mut line in lines.into_iter().step_by(each).take(online) {
            while line.got.invitations == 0 {
                if let Frame::Push(push) = line.next().await? {
                    line.take(&push);
                }
            }
            line.acknowledge(true)?;
            line.got.before = founded.before;
            listeners.push(tokio::spawn(listen(line, shared.clone(), is_over.clone())));
        }
        let mouth = Mouth::at(founded.thread, founded.epoch);
        Ok(Self { relay, author, mouth, before: founded.before, number: 0, shared, over, listeners })
    }

    /// Talks for the time of the stage, with so many messages on their way.
    async fn talk(&mut self, stage: &Stage, in_flight: u64) -> anyhow::Result<Told> {
        self.shared.stop.store(false, Ordering::Relaxed);
        let shared = self.shared.clone();
        let counting = async {
            sleep(WARM).await;
            shared.take_latencies();
            let (before, began) = (shared.done.load(Ordering::Relaxed), clock::now());
            let begin = Reading::take(&self.relay)?;
            sleep(stage.time).await;
            let end = Reading::take(&self.relay)?;
            let (messages, took) = (shared.done.load(Ordering::Relaxed) - before, clock::now() - began);
            shared.stop.store(true, Ordering::Relaxed);
            ensure!(messages > 0, "no message came through in {took:?}");
            let latencies = shared.take_latencies();
            let (cpu_s, written) = (end.cpu_s - begin.cpu_s, end.written - begin.written);
            Ok(Told { in_flight, messages, appends: 0.0, cpu_s, written, took, latencies })
        };
        let speaking =
            speak(&mut self.author, &mut self.mouth, (self.before, &mut self.number), &self.shared, in_flight);
        let (told, appends) = tokio::try_join!(counting, speaking)?;
        Ok(Told { appends, ..told })
    }

    /// Ends everything, and counts what was lost.
    async fn end(self) -> anyhow::Result<u64> {
        self.over.send(true).context("nobody listens")?;
        let mut lost = 0;
        for listener in self.listeners {
            lost += listener.await??.lost_of(self.number);
        }
        self.relay.end()?;
        Ok(lost)
    }
}

impl Shared {
    fn take_latencies(&self) -> Latencies {
        std::mem::take(&mut *self.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A listener has these.
    fn arrived(&self, push: &Push) {
        for entry in &push.entries {
            let EntryBody::Envelope(_, envelope) = &entry.body else { continue };
            let place = crowd::number_of(envelope).map_or(0, |number| number as usize % PLACES);
            let Some((have, sent)) = self.have.get(place).zip(self.sent.get(place)) else { continue };
            if have.fetch_add(1, Ordering::Relaxed) + 1 == self.listeners {
                let took = clock::now().saturating_sub(Duration::from_nanos(sent.load(Ordering::Relaxed)));
                self.latencies.lock().unwrap_or_else(PoisonError::into_inner).add(took);
                self.done.fetch_add(1, Ordering::Relaxed);
                self.room.add_permits(1);
            }
        }
    }
}

/// A new account that lets the creator open threads with it.
async fn join(way: &Way, person: &Person, creator: &Person) -> anyhow::Result<Line> {
    let mut line = way.register(person).await?;
    crowd::accept(way, &mut line, creator.account(), creator.account()).await?;
    Ok(line)
}

/// Submits until told to stop and nothing is on its way. Gives how many places of the log a message took.
async fn speak(
    line: &mut Line,
    mouth: &mut Mouth,
    (before, number): (u64, &mut u64),
    shared: &Shared,
    in_flight: u64,
) -> anyhow::Result<f64> {
    let in_flight = usize::try_from(in_flight)?;
    let (first, mut waiting, mut upto) = (*number, 0_u64, before + *number);
    shared.room.add_permits(in_flight);
    loop {
        let stop = shared.stop.load(Ordering::Relaxed);
        if stop && waiting == 0 && shared.room.available_permits() == in_flight {
            break;
        }
        tokio::select! {
            permit = shared.room.acquire(), if !stop => {
                permit?.forget();
                *number += 1;
                let place = *number as usize % PLACES;
                if let Some((have, sent)) = shared.have.get(place).zip(shared.sent.get(place)) {
                    have.store(0, Ordering::Relaxed);
                    sent.store(u64::try_from(clock::now().as_nanos())?, Ordering::Relaxed);
                }
                let request = line.request();
                line.sender.send(&mouth.submit(request, *number))?;
                waiting += 1;
            }
            // What a listener lacks is told by the figure, not waited for.
            frame = timeout(ANSWER_TIME_MAX, line.receiver.next()), if waiting > 0 || !stop => match frame.context("no receipt in time")?? {
                Frame::Stored(stored) => {
                    waiting -= 1;
                    upto = upto.max(stored.sequence.get());
                }
                Frame::Push(push) => line.take(&push),
                other => bail!("a message was answered with {other:?}"),
            },
            () = sleep(Duration::from_millis(10)), if stop => {}
        }
        line.acknowledge(false)?;
    }
    line.acknowledge(true)?;
    shared.room.forget_permits(in_flight);
    Ok((upto - before - first) as f64 / (*number - first).max(1) as f64)
}

/// Reads and acknowledges as a node does, until all is over.
async fn listen(mut line: Line, shared: Arc<Shared>, mut over: watch::Receiver<bool>) -> anyhow::Result<Got> {
    loop {
        tokio::select! {
            frame = line.receiver.next() => match frame? {
                Frame::Push(push) => {
                    line.take(&push);
                    shared.arrived(&push);
                }
                Frame::Stocked(_) => {}
                other => bail!("a listener was sent {other:?}"),
            },
            _ = over.wait_for(|over| *over) => break,
        }
        line.acknowledge(false)?;
    }
    line.acknowledge(true)?;
    Ok(line.got)
}

/// Processor milliseconds of a message from one to so many, of the library alone.
async fn fan_floor(stage: &Stage, listeners: usize, in_flight: u64) -> anyhow::Result<f64> {
    let bare = Bare::start(&stage.machine)?;
    let bytes = frame_bytes()?;
    let connecting = stream::iter(0..listeners).map(|_| bare.listen());
    let lines: Vec<_> = connecting.buffer_unordered(AT_ONCE).try_collect().await?;
    let room = Arc::new(Semaphore::new(usize::try_from(in_flight)?));
    let have = Arc::new((0..PLACES).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
    let mut listening = Vec::new();
    for mut line in lines {
        let (room, have) = (room.clone(), have.clone());
        listening.push(tokio::spawn(async move {
            for number in 0..FAN_MESSAGES {
                line.hear(bytes).await?;
                let have = have.get(number % PLACES).context("no place")?;
                if have.fetch_add(1, Ordering::Relaxed) + 1 == listeners as u64 {
                    have.store(0, Ordering::Relaxed);
                    room.add_permits(1);
                }
            }
            anyhow::Ok(())
        }));
    }
    let mut author = bare.speak().await?;
    let (frame, cpu_s) = (vec![7; bytes], bare.process().cpu_s()?);
    for _ in 0..FAN_MESSAGES {
        timeout(ANSWER_TIME_MAX, room.acquire()).await.context("the library lost a message")??.forget();
        author.say(&frame).await?;
    }
    for listener in listening {
        listener.await??;
    }
    Ok((bare.process().cpu_s()? - cpu_s) * 1e3 / FAN_MESSAGES as f64)
}
