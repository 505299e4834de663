//! R6: presence: accounts that are there, each with fifty friends, and a heartbeat every ten seconds.
//! Owns: who is whose friend, the pace of the heartbeats, one account that comes and goes; the floor: the library's echoes
//! at the same pace.
//!
//! The share is told twice. What 100,000 accounts send in a second is sent by those who are there, who beat that much
//! oftener: so the relay works as it would, and only its memory is smaller. And at the pace of those who are there, scaled:
//! a relay that is woken for one heartbeat at a time pays for the waking, as the bare library does.
//!
//! A change is told in the answers to heartbeats that would come anyway, and who comes back is admitted whatever others
//! see of it. So of the loop of one account that comes and goes, these are taken off as they were measured on their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::sleep;
use whimbrel_protocol::id::AccountId;
use whimbrel_protocol::limits;

use super::{Measured, Stage};
use crate::bare::Bare;
use crate::clock;
use crate::crowd::{self, AT_ONCE, Line, Person, Way};
use crate::figure::{Budget, Figure};

/// Friends of each: half of them further on in a ring, half of them behind.
const FRIENDS: usize = 50;
/// How often one account comes and goes in a block; there is a block for each second of the stage, so that what is taken
/// off is measured in the same minute.
const ROUNDS: u64 = 50;
/// Accounts that the share of a core is told for.
const SCALE: f64 = 100_000.0;
/// How often friends ask for a change that is not there yet.
const ASKED_MAX: u64 = 100;

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let mut relay = stage.relay(stage.people + 64, limits::LOG_ENTRIES_MAX as usize)?;
    // One more, who is nobody's friend.
    let mut people = crowd::people(stage.people + 1)?;
    befriend(&Way::open(relay.link())?, &people).await?;
    relay.restart(stage)?;
    let way = Way::open(relay.link())?;
    let stranger = people.pop().context("nobody")?;

    let own_pace = limits::HEARTBEAT_EVERY;
    let full_pace = own_pace.mul_f64(stage.people as f64 / SCALE);
    let (lines, sparse) = steady(stage, &relay, come_in(&way, &people).await?, own_pace).await?;
    let (lines, full) = steady(stage, &relay, lines, full_pace).await?;
    drop(lines);
    let change = changes(stage, &relay, &way, &people, &stranger).await?;
    relay.end()?;

    let mut figures = Vec::new();
    let at_full = "presence: one core's share, as many heartbeats as of 100,000 accounts";
    let at_own = "presence: the same, scaled from the pace of those there";
    for (id, what, steady, pace) in [("R6.share", at_full, full, full_pace), ("R6.sparse", at_own, sparse, own_pace)] {
        let share = |s_per_beat: f64| s_per_beat * SCALE / own_pace.as_secs_f64() * 100.0;
        let floor = if stage.floor { Some(share(echo_at(stage, pace).await?)) } else { None };
        let each = steady.cpu_s / steady.beats.max(1) as f64;
        figures.push(
            Figure::new(id, what, share(each), "% of a core")
                .over(&stage.store)
                .judged(floor, Budget::most(30.0))
                .with("accounts", stage.people)
                .with("friends", FRIENDS)
                .with("heartbeats", steady.beats)
                .with_number("heartbeats_per_s", steady.beats as f64 / steady.took.as_secs_f64())
                .with_number("us_per_heartbeat", each * 1e6)
                .with("statuses_told", steady.statuses),
        );
    }
    figures.push(
        Figure::new("R6.change", "presence: relay CPU ms of a change seen by 50 friends", change.own_ms, "CPU ms")
            .over(&stage.store)
            .judged(None, Budget::most(0.1))
            .lost(change.unseen)
            .with("changes", change.changes)
            .with_number("with_heartbeats_and_admission_ms", change.all_ms)
            .with_number("heartbeat_us", change.beat_us)
            .with_number("admission_and_goodbye_ms", change.coming_ms)
            .with_number("heartbeats_per_change", change.beats as f64 / change.changes as f64),
    );
    Ok(figures)
}

/// Everybody registers and invites; then everybody uses the invites of those who follow in the ring.
async fn befriend(way: &Way, people: &[Person]) -> anyhow::Result<()> {
    let uses = u32::try_from(FRIENDS / 2)?;
    let registering = stream::iter(people).map(async |person| {
        let mut line = way.register(person).await?;
        crowd::invite(&mut line, person.account(), uses).await
    });
    registering.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    // The last is nobody's friend.
    let ring = people.split_last().context("nobody")?.1;
    let accepting = stream::iter(ring.iter().enumerate()).map(async |(place, person)| {
        let mut line = way.catch_up(person).await?;
        for step in 1..=FRIENDS / 2 {
            let host = ring.get((place + step) % ring.len()).context("nobody")?.account();
            crowd::accept(way, &mut line, host, host).await?;
        }
        anyhow::Ok(())
    });
    accepting.buffer_unordered(AT_ONCE).try_collect().await
}

/// Everybody comes in; those who came early are kept.
async fn come_in(way: &Way, people: &[Person]) -> anyhow::Result<Vec<Line>> {
    let mut coming = stream::iter(people).map(|person| way.catch_up(person)).buffered(AT_ONCE);
    let (mut lines, mut beat): (Vec<Line>, _) = (Vec::with_capacity(people.len()), clock::now());
    while let Some(line) = coming.next().await {
        lines.push(line?);
        if clock::now() - beat > limits::LINK_IDLE_MAX / 3 {
            // The answers are read when the line is; waiting for each would take longer than a link may be silent.
            lines.iter().try_for_each(Line::beat)?;
            beat = clock::now();
        }
    }
    Ok(lines)
}

/// What the relay spent while everybody was there.
struct Steady {
    cpu_s: f64,
    took: Duration,
    beats: u64,
    statuses: u64,
}

#[derive(Debug, Default)]
struct Counters {
    beats: AtomicU64,
    statuses: AtomicU64,
    stop: AtomicBool,
}

/// Everybody beats once in so long. Gives the lines back.
async fn steady(
    stage: &Stage,
    relay: &Measured,
    lines: Vec<Line>,
    every: Duration,
) -> anyhow::Result<(Vec<Line>, Steady)> {
    let counters = Arc::new(Counters::default());
    let firsts = spread(lines.len(), every)?;
    let beating: Vec<_> = firsts
        .into_iter()
        .zip(lines)
        .map(|(first, line)| tokio::spawn(beat(line, (first, every), counters.clone())))
        .collect();
    // The first answers bring the friends who are there.
    sleep(every + Duration::from_secs(1)).await;
    let process = relay.process()?;
    let read = || (counters.beats.load(Ordering::Relaxed), counters.statuses.load(Ordering::Relaxed));
    let (cpu_s, (beats, statuses), began) = (process.cpu_s()?, read(), clock::now());
    // Whole rounds: everybody is heard equally often.
    sleep(stage.time.max(every)).await;
    let (took, cpu_s, end) = (clock::now() - began, process.cpu_s()? - cpu_s, read());
    counters.stop.store(true, Ordering::Relaxed);
    let mut lines = Vec::new();
    for ended in beating {
        lines.push(ended.await??);
    }
    Ok((lines, Steady { cpu_s, took, beats: end.0 - beats, statuses: end.1 - statuses }))
}

/// When each of so many begins: over the time between two, as people are.
fn spread(count: usize, every: Duration) -> anyhow::Result<Vec<Duration>> {
    let (begin, count) = (clock::now(), u32::try_from(count)?);
    Ok((0..count).map(|number| begin + every.mul_f64(f64::from(number) / f64::from(count))).collect())
}

/// Bytes of a heartbeat and of its answer on the wire, about.
const BEAT_BYTES: usize = 24;

/// Processor seconds of the library for an echo, of as many connections at the same pace.
async fn echo_at(stage: &Stage, every: Duration) -> anyhow::Result<f64> {
    let bare = Bare::start(&stage.machine)?;
    let connecting = stream::iter(0..stage.people).map(|_| bare.connect());
    let lines: Vec<_> = connecting.buffer_unordered(AT_ONCE).try_collect().await?;
    let counters = Arc::new(Counters::default());
    let firsts = spread(lines.len(), every)?;
    let echoing = firsts.into_iter().zip(lines).map(|(first, mut line)| {
        let counters = counters.clone();
        tokio::spawn(async move {
            let mut due = first;
            while !counters.stop.load(Ordering::Relaxed) {
                sleep(due.saturating_sub(clock::now())).await;
                line.echo(&[7; BEAT_BYTES]).await?;
                counters.beats.fetch_add(1, Ordering::Relaxed);
                due += every;
            }
            anyhow::Ok(())
        })
    });
    let echoing: Vec<_> = echoing.collect();
    sleep(every + Duration::from_secs(1)).await;
    let (cpu_s, before) = (bare.process().cpu_s()?, counters.beats.load(Ordering::Relaxed));
    sleep(stage.time.max(every)).await;
    let cpu_s = bare.process().cpu_s()? - cpu_s;
    let echoes = counters.beats.load(Ordering::Relaxed) - before;
    counters.stop.store(true, Ordering::Relaxed);
    for ended in echoing {
        ended.await??;
    }
    Ok(cpu_s / echoes.max(1) as f64)
}

/// A heartbeat at its time, and the answer. Gives the line back.
async fn beat(mut line: Line, (first, every): (Duration, Duration), counters: Arc<Counters>) -> anyhow::Result<Line> {
    let (mut due, mut version) = (first, 0);
    while !counters.stop.load(Ordering::Relaxed) {
        sleep(due.saturating_sub(clock::now())).await;
        let (now, statuses) = line.look(version).await?;
        version = now;
        counters.beats.fetch_add(1, Ordering::Relaxed);
        counters.statuses.fetch_add(statuses.len() as u64, Ordering::Relaxed);
        line.acknowledge(false)?;
        due += every;
    }
    Ok(line)
}

/// What changes cost.
struct Changed {
    changes: u64,
    /// Heartbeats that were answered until everybody had seen them.
    beats: u64,
    /// Friends who never saw one.
    unseen: u64,
    all_ms: f64,
    beat_us: f64,
    coming_ms: f64,
    own_ms: f64,
}

/// A friend who looks.
struct Friend {
    line: Line,
    version: u64,
}

async fn changes(
    stage: &Stage,
    relay: &Measured,
    way: &Way,
    people: &[Person],
    stranger: &Person,
) -> anyhow::Result<Changed> {
    let person = people.first().context("nobody")?;
    let behind = people.len() - FRIENDS / 2;
    let around: Vec<&Person> = people.iter().skip(1).take(FRIENDS / 2).chain(people.iter().skip(behind)).collect();
    let coming = stream::iter(around).map(async |person| {
        let line = way.catch_up(person).await?;
        anyhow::Ok(Friend { line, version: 0 })
    });
    let mut friends: Vec<Friend> = coming.buffered(AT_ONCE).try_collect().await?;
    ensure!(friends.len() == FRIENDS, "{} friends", friends.len());
    let mut line = way.catch_up(person).await?;
    // Those who left before are offline to everybody, and what is there was told.
    sleep(limits::PRESENCE_OFFLINE_AFTER / 6).await;
    for _ in 0..3 {
        all_look(&mut friends, None).await?;
    }

    let process = relay.process()?;
    let (mut beating, mut coming, mut changing) = (0.0, 0.0, 0.0);
    let (mut beats, mut unseen) = (0, 0);
    let blocks = stage.time.as_secs().max(1);
    for _ in 0..blocks {
        let begin = process.cpu_s()?;
        for _ in 0..2 * ROUNDS {
            all_look(&mut friends, None).await?;
        }
        let beaten = process.cpu_s()?;
        for _ in 0..ROUNDS {
            way.catch_up(stranger).await?.leave().await?;
        }
        let came = process.cpu_s()?;
        for _ in 0..ROUNDS {
            line.leave().await?;
            let offline = all_look(&mut friends, Some((person.account(), false))).await?;
            line = way.catch_up(person).await?;
            let online = all_look(&mut friends, Some((person.account(), true))).await?;
            beats += offline.0 + online.0;
            unseen += offline.1 + online.1;
        }
        let changed = process.cpu_s()?;
        beating += beaten - begin;
        coming += came - beaten;
        changing += changed - came;
    }
    let rounds = (blocks * ROUNDS) as f64;
    let beat_s = beating / (2.0 * rounds * FRIENDS as f64);
    let own_s = changing - beat_s * beats as f64 - coming;
    Ok(Changed {
        changes: 2 * blocks * ROUNDS,
        beats,
        unseen,
        all_ms: changing * 1e3 / (2.0 * rounds),
        beat_us: beat_s * 1e6,
        coming_ms: coming * 1e3 / rounds,
        own_ms: own_s * 1e3 / (2.0 * rounds),
    })
}

/// All send a heartbeat, again and again until they see what there is to be seen. Gives how many were sent, and how many
/// friends saw nothing.
async fn all_look(friends: &mut [Friend], change: Option<(AccountId, bool)>) -> anyhow::Result<(u64, u64)> {
    let looking = friends.iter_mut().map(async |friend| {
        for asked in 1..=ASKED_MAX {
            let (version, statuses) = friend.line.look(friend.version).await?;
            friend.version = version;
            let seen = change.is_none_or(|(account, online)| {
                statuses.iter().any(|status| status.account == account && status.online == online)
            });
            if seen {
                return anyhow::Ok((asked, 0));
            }
        }
        Ok((ASKED_MAX, 1))
    });
    let looked: Vec<(u64, u64)> = stream::iter(looking).buffer_unordered(FRIENDS).try_collect().await?;
    Ok(looked.into_iter().fold((0, 0), |(beats, unseen), (more, missing)| (beats + more, unseen + missing)))
}
