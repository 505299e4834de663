//! R5: holding for those who are away, and handing out when they come back.
//! Owns: senders who do not wait, readers who come when all is stored, the disk before, between and after.
//!
//! Four figures: storing and handing out, in processor time; the disk that a held message takes; what is left of it once
//! half of the messages are trimmed, against the disk that the other half took alone.

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use whimbrel_protocol::Frame;

use super::pairs::{ENTRY_BYTES, Reading};
use super::{Stage, per_100k};
use crate::clock;
use crate::crowd::{self, ANSWER_TIME_MAX, AT_ONCE, Got, Line, Mouth, Pair, Person, Way};
use crate::engine::{self, Writes};
use crate::figure::{Budget, Figure};

/// Those who write, each to one who is away.
pub(crate) const PAIRS: usize = 50;
/// Messages of one sender on their way: well within an author's window.
const WINDOW: u64 = 32;
const MESSAGES: u64 = 100_000;
/// How long trimming may take: it runs once a second, 1,024 entries of a log at a time.
const TRIM_TIME: Duration = Duration::from_secs(10);

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let each = stage.messages.unwrap_or(MESSAGES) / PAIRS as u64;
    let relay = stage.relay(2 * PAIRS + 64, each as usize + 1_000)?;
    let way = Way::open(relay.link())?;
    let (mut writers, readers) = apart(crowd::pairs(&way, PAIRS).await?);
    let late = writers.split_off(PAIRS / 2);
    let (staying, leaving) = readers.split_at(PAIRS / 2);

    // What the first half is sent stays to the end: alone at first, then beside as much that comes and goes.
    let (empty, begin, began) = (relay.store_bytes()?, Reading::take(&relay)?, clock::now());
    let mut lines = write_all(writers, each).await?;
    let alone = relay.store_bytes()?;
    lines.extend(write_all(late, each).await?);
    let stored = each * PAIRS as u64;
    let (full, end, took) = (relay.store_bytes()?, Reading::take(&relay)?, clock::now() - began);

    let before = Reading::take(&relay)?;
    let mut got = read_all(&way, leaving).await?;
    let drained = Reading::take(&relay)?;
    let pushed = got.iter().map(|got| got.messages).sum();
    sleep(TRIM_TIME).await;
    let trimmed = relay.store_bytes()?;
    // sled gives no space back but by a copy; that of fjall is told beside.
    let copy = if stage.store == "memory" { None } else { relay.export_bytes()? };
    got.extend(read_all(&way, staying).await?);
    drop(lines);
    relay.end()?;

    let floor = if stage.floor {
        let value_bytes = ENTRY_BYTES;
        let writes = Writes { messages: stored, group: 256, logs: PAIRS as u64, value_bytes, keep: u64::MAX };
        Some(engine::floor(&stage.machine, &stage.store, stage.fresh_folder()?.path(), writes)?)
    } else {
        None
    };
    let lost = got.iter().map(|got| got.lost_of(each)).sum();
    let store = per_100k(end.cpu_s - begin.cpu_s, stored);
    let drain = per_100k(drained.cpu_s - before.cpu_s, pushed);
    let (store_budget, disk_budget) = match stage.store.as_str() {
        "sled" => (Budget::most(6.0), Budget::most(4.0)),
        "fjall" => (Budget::most(5.0), Budget::most(1.5)),
        _ => (Budget::default(), Budget::default()),
    };
    let mut figures = vec![
        Figure::new("R5.store", "hold: store, relay CPU s per 100k", store, "CPU s/100k")
            .over(&stage.store)
            .judged(floor, store_budget)
            .lost(lost)
            .with("messages", stored)
            .with_number("messages_per_s", stored as f64 / took.as_secs_f64())
            .with_number("written_bytes_per_message", (end.written - begin.written) as f64 / stored.max(1) as f64),
        Figure::new("R5.drain", "hold: drain, relay CPU s per 100k", drain, "CPU s/100k")
            .over(&stage.store)
            .judged(None, Budget::most(1.5))
            .lost(lost)
            .with("readers", leaving.len())
            .with("messages", pushed),
    ];
    if let (Some(empty), Some(full), Some(trimmed)) = (empty, full, trimmed)
        && stage.store != "memory"
    {
        let times = full.saturating_sub(empty) as f64 / stored.max(1) as f64 / ENTRY_BYTES as f64;
        figures.push(
            Figure::new("R5.disk", "hold: disk of a held message, times its payload", times, "x payload")
                .over(&stage.store)
                .judged(None, disk_budget)
                .with("payload_bytes", ENTRY_BYTES)
                .with("store_bytes", full),
        );
        if let (Some(alone), Some(copy)) = (alone, copy) {
            let after = if stage.store == "sled" { copy } else { trimmed };
            let what = "hold: disk once half is trimmed, times that of the other half alone";
            figures.push(
                Figure::new("R5.after", what, after as f64 / alone.max(1) as f64, "x live")
                    .over(&stage.store)
                    .judged(None, Budget::most(1.2))
                    .with("live_alone_bytes", alone)
                    .with("trimmed_bytes", trimmed)
                    .with("exported_bytes", copy),
            );
        }
    }
    Ok(figures)
}

/// Senders stay; receivers go away.
pub(crate) fn apart(pairs: Vec<Pair>) -> (Vec<(Line, Mouth)>, Vec<Person>) {
    let apart = |Pair { thread, alice: (_, alice), bob: (bob, _gone) }: Pair| ((alice, Mouth::new(thread)), bob);
    pairs.into_iter().map(apart).unzip()
}

/// All write so much, each in its own thread.
async fn write_all(writers: Vec<(Line, Mouth)>, each: u64) -> anyhow::Result<Vec<Line>> {
    let writing = writers.into_iter().map(|(line, mouth)| tokio::spawn(write(line, mouth, each)));
    let written: Vec<_> = stream::iter(writing).buffered(PAIRS).try_collect().await?;
    written.into_iter().collect()
}

/// Hands in so many, never more than a window of them unanswered.
async fn write(mut line: Line, mut mouth: Mouth, count: u64) -> anyhow::Result<Line> {
    let (mut sent, mut stored) = (0, 0);
    while stored < count {
        while sent < count && sent - stored < WINDOW {
            sent += 1;
            let request = line.request();
            line.sender.send(&mouth.submit(request, sent))?;
        }
        match timeout(ANSWER_TIME_MAX, line.receiver.next()).await.context("no receipt in time")?? {
            Frame::Stored(_) => stored += 1,
            Frame::Push(push) => line.take(&push),
            other => bail!("a message was answered with {other:?}"),
        }
        line.acknowledge(false)?;
    }
    line.acknowledge(true)?;
    Ok(line)
}

/// All come back, take everything, and acknowledge it as it comes.
pub(crate) async fn read_all(way: &Way, people: &[Person]) -> anyhow::Result<Vec<Got>> {
    let reading = stream::iter(people).map(async |person| anyhow::Ok(way.catch_up(person).await?.got));
    reading.buffered(AT_ONCE).try_collect().await
}
