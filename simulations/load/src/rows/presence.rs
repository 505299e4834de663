//! R6: presence: accounts that are there, each with fifty friends, and a heartbeat every ten seconds.
//! Owns: who is whose friend, the pace of the heartbeats, one account that comes and goes; the floor: the library's echo.
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

use super::pairs::echo_floor;
use super::{Measured, Stage};
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

    let lines = come_in(&way, &people).await?;
    let steady = steady(stage, &relay, lines).await?;
    let change = changes(stage, &relay, &way, &people, &stranger).await?;
    relay.end()?;
    let echo = if stage.floor { Some(echo_floor(stage).await?) } else { None };

    let share = steady.cpu_s / steady.took.as_secs_f64() / stage.people as f64 * SCALE * 100.0;
    let beats_per_s = SCALE / limits::HEARTBEAT_EVERY.as_secs_f64();
    let floor_share = echo.map(|per_100k| per_100k / 1e5 * beats_per_s * 100.0);
    let what = "presence: one core's share at 100,000 accounts, scaled from those there";
    Ok(vec![
        Figure::new("R6.share", what, share, "% of a core")
            .over(&stage.store)
            .judged(floor_share, Budget::most(30.0))
            .with("accounts", stage.people)
            .with("friends", FRIENDS)
            .with("heartbeats", steady.beats)
            .with_number("seconds", steady.took.as_secs_f64())
            .with_number("us_per_heartbeat", steady.cpu_s * 1e6 / steady.beats.max(1) as f64)
            .with("statuses_told", steady.statuses),
        Figure::new("R6.change", "presence: relay CPU ms of a change seen by 50 friends", change.own_ms, "CPU ms")
            .over(&stage.store)
            .judged(None, Budget::most(0.1))
            .lost(change.unseen)
            .with("changes", change.changes)
            .with_number("with_heartbeats_and_admission_ms", change.all_ms)
            .with_number("heartbeat_us", change.beat_us)
            .with_number("admission_and_goodbye_ms", change.coming_ms)
            .with_number("heartbeats_per_change", change.beats as f64 / change.changes as f64),
    ])
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

async fn steady(stage: &Stage, relay: &Measured, lines: Vec<Line>) -> anyhow::Result<Steady> {
    let counters = Arc::new(Counters::default());
    let count = u32::try_from(lines.len())?;
    let begin = clock::now();
    // Spread over the time between two, as people are.
    let beating = (0..count).zip(lines).map(|(number, line)| {
        let first = begin + limits::HEARTBEAT_EVERY.mul_f64(f64::from(number) / f64::from(count));
        tokio::spawn(beat(line, first, counters.clone()))
    });
    let beating: Vec<_> = beating.collect();
    // The first answers bring the friends who are there.
    sleep(limits::HEARTBEAT_EVERY + Duration::from_secs(1)).await;
    let process = relay.process()?;
    let read = || (counters.beats.load(Ordering::Relaxed), counters.statuses.load(Ordering::Relaxed));
    let (cpu_s, (beats, statuses), began) = (process.cpu_s()?, read(), clock::now());
    // Whole rounds: everybody is heard equally often.
    sleep(stage.time.max(limits::HEARTBEAT_EVERY)).await;
    let (took, cpu_s, end) = (clock::now() - began, process.cpu_s()? - cpu_s, read());
    counters.stop.store(true, Ordering::Relaxed);
    for ended in beating {
        ended.await??;
    }
    Ok(Steady { cpu_s, took, beats: end.0 - beats, statuses: end.1 - statuses })
}

/// A heartbeat at its time, and the answer.
async fn beat(mut line: Line, first: Duration, counters: Arc<Counters>) -> anyhow::Result<()> {
    let (mut due, mut version) = (first, 0);
    while !counters.stop.load(Ordering::Relaxed) {
        sleep(due.saturating_sub(clock::now())).await;
        let (now, statuses) = line.look(version).await?;
        version = now;
        counters.beats.fetch_add(1, Ordering::Relaxed);
        counters.statuses.fetch_add(statuses.len() as u64, Ordering::Relaxed);
        line.acknowledge(false)?;
        due += limits::HEARTBEAT_EVERY;
    }
    Ok(())
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
