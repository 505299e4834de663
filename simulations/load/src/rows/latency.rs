//! R9: how long a message between two takes, at 1,000 a second, whatever the relay does (an open loop).
//! Owns: the even pace, and the floor: the library's echo at the same pace, and one sync of the same disk.
//!
//! A latency counts from the moment the message was due to leave, so a relay that falls behind is not forgiven.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use whimbrel_protocol::Frame;
use whimbrel_protocol::push::EntryBody;

use super::Stage;
use super::pairs::{ENTRY_BYTES, frame_bytes};
use crate::bare::Bare;
use crate::clock;
use crate::crowd::{self, ANSWER_TIME_MAX, AT_ONCE, Line, Mouth, Pair, Way};
use crate::figure::{Budget, Figure, Latencies};

/// Between two messages.
const EVERY: Duration = Duration::from_millis(1);
/// Syncs of the floor, before and again after.
const SYNCS: u32 = 500;

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let relay = stage.relay(2 * stage.pairs + 64, 100_000)?;
    let way = Way::open(relay.link())?;
    let (mut alices, mut bobs) = (Vec::new(), Vec::new());
    let stored = Arc::new(AtomicU64::new(0));
    for Pair { thread, alice: (_, alice), bob: (_, bob) } in crowd::pairs(&way, stage.pairs).await? {
        let (say, said) = mpsc::channel(1_024);
        alices.push((say, tokio::spawn(alice_of(alice, Mouth::new(thread), said, stored.clone()))));
        bobs.push(tokio::spawn(bob_of(bob)));
    }
    // Half of the floor's syncs before and half after: a disk that others use is not the same for long.
    let mut syncs = Latencies::default();
    if stage.floor {
        sync(relay.folder(stage), &mut syncs)?;
    }
    let messages = u64::try_from(stage.time.as_millis() / EVERY.as_millis())?;
    let process = relay.process()?;
    let cpu_s = process.cpu_s()?;
    let begin = clock::now();
    for number in 0..messages {
        let due = begin + EVERY * u32::try_from(number)?;
        until(due).await;
        let (say, _) = alices.get(number as usize % alices.len()).context("nobody")?;
        say.try_send(due.as_nanos() as u64).ok().context("the relay is over a second behind")?;
    }
    let cpu_s = process.cpu_s()? - cpu_s;
    // Whatever is on its way arrives, or does not.
    sleep(Duration::from_millis(500)).await;
    for (say, alice) in alices {
        drop(say);
        alice.await??;
    }
    let stored = stored.load(Ordering::Relaxed);
    let mut latencies = Latencies::default();
    let mut pushed = 0;
    // Alice's line is closed; Bob's ends when nothing comes for a while.
    for bob in bobs {
        let (took, count) = bob.await??;
        latencies.append(took);
        pushed += count;
    }
    let p50 = latencies.quantile_ms(0.5).context("nothing arrived")?;
    let floor = if stage.floor {
        sync(relay.folder(stage), &mut syncs)?;
        let sync = syncs.quantile_ms(0.5).context("no sync")?;
        Some((echo_floor(stage).await?, if stage.store == "memory" { 0.0 } else { sync }))
    } else {
        None
    };
    relay.end()?;
    let mut figure = Figure::new("R9", "1:1 latency at 1,000/s, p50", p50, "ms")
        .over(&stage.store)
        .judged(floor.map(|(echo, sync)| echo + sync), Budget::times(3.0))
        .timed(&latencies)
        .lost(stored.saturating_sub(pushed))
        .with("pairs", stage.pairs)
        .with("messages", stored)
        .with_number("relay_core_share", cpu_s / stage.time.as_secs_f64());
    if let Some((echo, sync)) = floor {
        figure = figure.with_number("floor_echo_ms", echo).with_number("floor_sync_ms", sync);
    }
    Ok(vec![figure])
}

/// Waits to the moment. Timers are a millisecond apart, which is what is measured: so it is watched instead.
async fn until(due: Duration) {
    while clock::now() < due {
        tokio::task::yield_now().await;
    }
}

/// Says what is due, and reads what comes back.
async fn alice_of(
    mut line: Line,
    mut mouth: Mouth,
    mut due: mpsc::Receiver<u64>,
    stored: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let (mut waiting, mut done) = (0_u64, false);
    while !done || waiting > 0 {
        tokio::select! {
            due = due.recv(), if !done => match due {
                Some(due) => {
                    let request = line.request();
                    line.sender.send(&mouth.submit(request, due))?;
                    waiting += 1;
                }
                None => done = true,
            },
            frame = timeout(ANSWER_TIME_MAX, line.receiver.next()), if waiting > 0 => match frame?? {
                Frame::Stored(_) => {
                    waiting -= 1;
                    stored.fetch_add(1, Ordering::Relaxed);
                }
                Frame::Push(push) => line.take(&push),
                other => bail!("a message was answered with {other:?}"),
            }
        }
        line.acknowledge(false)?;
    }
    line.acknowledge(true)?;
    Ok(())
}

/// Reads until nothing comes any more.
async fn bob_of(mut line: Line) -> anyhow::Result<(Latencies, u64)> {
    /// The pace brings every pair its turn well within this.
    const SILENCE: Duration = Duration::from_secs(5);
    let (mut latencies, mut count) = (Latencies::default(), 0);
    while let Ok(frame) = timeout(SILENCE, line.receiver.next()).await {
        let Frame::Push(push) = frame? else { bail!("Bob was sent something else") };
        let now = clock::now();
        for entry in &push.entries {
            if let EntryBody::Envelope(_, envelope) = &entry.body {
                let due = Duration::from_nanos(crowd::number_of(envelope).context("a short body")?);
                latencies.add(now.saturating_sub(due));
                count += 1;
            }
        }
        line.take(&push);
        line.acknowledge(false)?;
    }
    line.acknowledge(true)?;
    Ok((latencies, count))
}

/// The library's echo at the same pace, p50 in milliseconds.
async fn echo_floor(stage: &Stage) -> anyhow::Result<f64> {
    let bare = Bare::start(&stage.machine)?;
    let bytes = frame_bytes()?;
    let connecting = stream::iter(0..stage.pairs).map(|_| bare.connect());
    let lines: Vec<_> = connecting.buffer_unordered(AT_ONCE).try_collect().await?;
    let mut echoing = Vec::new();
    for mut line in lines {
        let (say, mut said) = mpsc::channel::<Duration>(1_024);
        let echo = tokio::spawn(async move {
            let (frame, mut latencies) = (vec![7; bytes], Latencies::default());
            while let Some(due) = said.recv().await {
                line.echo(&frame).await?;
                latencies.add(clock::now() - due);
            }
            anyhow::Ok(latencies)
        });
        echoing.push((say, echo));
    }
    let begin = clock::now();
    let time = stage.time.min(Duration::from_secs(5));
    for number in 0..u32::try_from(time.as_millis() / EVERY.as_millis())? {
        let due = begin + EVERY * number;
        until(due).await;
        let (say, _) = echoing.get(number as usize % echoing.len()).context("nobody")?;
        say.try_send(due).ok().context("the library is over a second behind")?;
    }
    let mut latencies = Latencies::default();
    for (say, echo) in echoing {
        drop(say);
        latencies.append(echo.await??);
    }
    latencies.quantile_ms(0.5).context("no echo")
}

/// Syncs of a message's bytes in a file that has its size already, as an engine's log has.
fn sync(folder: &Path, latencies: &mut Latencies) -> anyhow::Result<()> {
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; ENTRY_BYTES * SYNCS as usize])?;
    file.sync_all()?;
    for turn in 0..SYNCS {
        let begin = clock::now();
        file.write_all_at(&[7; ENTRY_BYTES], u64::from(turn) * ENTRY_BYTES as u64)?;
        file.sync_data()?;
        latencies.add(clock::now() - begin);
    }
    Ok(std::fs::remove_file(&path)?)
}
