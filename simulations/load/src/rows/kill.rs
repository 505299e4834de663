//! R7: killed at full load. What was acknowledged is there afterwards, and it serves again soon.
//! Owns: the kill while receipts stream in, the start on what is left, the counting of every receipt against what is
//! handed out then; the floor: the engine alone, killed with as many messages, opened again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::{sleep, timeout};
use whimbrel_protocol::Frame;

use super::hold::{PAIRS, apart, read_all};
use super::pairs::ENTRY_BYTES;
use super::{Measured, Stage};
use crate::clock;
use crate::crowd::{self, ANSWER_TIME_MAX, Line, Mouth, Way};
use crate::engine::{self, Writes};
use crate::figure::{Budget, Figure};

const MESSAGES: u64 = 1_000_000;
/// Messages of one sender on their way: more than is needed to keep the relay busy.
const WINDOW: u64 = 64;
/// How long the filling may take.
const TIME_MAX: Duration = Duration::from_secs(1_800);

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let wanted = stage.messages.unwrap_or(MESSAGES);
    let relay = stage.relay(2 * PAIRS + 64, usize::try_from(wanted)?)?;
    let Measured::Own { mut relay, folder } = relay else { bail!("only a relay of our own is killed") };
    let way = Way::open(&relay.link)?;
    let (writers, readers) = apart(crowd::pairs(&way, PAIRS).await?);
    let stored: Vec<_> = writers.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
    let writing: Vec<_> = writers
        .into_iter()
        .zip(&stored)
        .map(|((line, mouth), stored)| tokio::spawn(write(line, mouth, stored.clone())))
        .collect();
    let all = || stored.iter().map(|one| one.load(Ordering::Relaxed)).sum::<u64>();
    let began = clock::now();
    while all() < wanted {
        ensure!(clock::now() - began < TIME_MAX, "the relay does not take {wanted} messages in time");
        ensure!(writing.iter().any(|writer| !writer.is_finished()), "nobody can write any more");
        sleep(Duration::from_millis(10)).await;
    }
    relay.kill()?;
    // Receipts that are on their way count: they were sent.
    sleep(Duration::from_millis(500)).await;
    writing.iter().for_each(tokio::task::JoinHandle::abort);
    let acknowledged = all();

    let began = clock::now();
    relay.start(&stage.machine)?;
    let way = Way::open(&relay.link)?;
    // It serves when it takes somebody in.
    let stranger = crowd::people(2 * PAIRS + 1)?.pop().context("nobody")?;
    drop(way.register(&stranger).await?);
    let (cpu_s, took) = (relay.process()?.cpu_s_with_children()?, clock::now() - began);
    let got = read_all(&way, &readers).await?;
    let pushed: u64 = got.iter().map(|got| got.messages).sum();
    let lost = got.iter().zip(&stored).map(|(got, stored)| got.lost_of(stored.load(Ordering::Relaxed))).sum();
    relay.stop()?;
    drop(folder);
    let floor = if stage.floor {
        let (group, logs, value_bytes) = (256, PAIRS as u64, ENTRY_BYTES);
        let writes = Writes { messages: acknowledged, group, logs, value_bytes, keep: u64::MAX };
        Some(engine::floor_of_opening(&stage.machine, &stage.store, stage.fresh_folder()?.path(), writes)?)
    } else {
        None
    };
    let budget = Budget::most(if stage.store == "fjall" { 5.0 } else { 10.0 });
    let figure = Figure::new("R7", "killed at full load: CPU s until it serves again", cpu_s, "CPU s")
        .over(&stage.store)
        .judged(floor, budget)
        .lost(lost)
        .with("messages", acknowledged)
        .with("delivered", pushed)
        .with_number("wall_s", took.as_secs_f64());
    Ok(vec![figure])
}

/// Hands in as much as the window allows, until the relay is gone. Counts the receipts that came.
async fn write(mut line: Line, mut mouth: Mouth, stored: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut sent = 0;
    loop {
        while sent - stored.load(Ordering::Relaxed) < WINDOW {
            sent += 1;
            let request = line.request();
            line.sender.send(&mouth.submit(request, sent))?;
        }
        match timeout(ANSWER_TIME_MAX, line.receiver.next()).await.context("no receipt in time")?? {
            Frame::Stored(_) => {
                stored.fetch_add(1, Ordering::Relaxed);
            }
            Frame::Push(push) => line.take(&push),
            other => bail!("a message was answered with {other:?}"),
        }
        line.acknowledge(false)?;
    }
}
