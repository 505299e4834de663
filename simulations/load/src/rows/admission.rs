//! R8: coming in: handshake, authentication and first sync of a device with fifty threads, news in two of them.
//! Owns: those devices, who come and go; the floor: the library's full mutual handshake, one byte there and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::sleep;
use whimbrel_protocol::{Frame, limits};

use super::Stage;
use super::pairs::WARM;
use crate::bare::Bare;
use crate::clock;
use crate::crowd::{self, ANSWER_TIME_MAX, Line, Mouth, Person, Way};
use crate::figure::{Budget, Figure, Latencies};

/// Devices that come and go, and how many at once.
const PEOPLE: usize = 16;
const COMING: usize = 8;
const THREADS: u64 = 50;
const NEWS: u64 = 2;

#[derive(Debug, Default)]
struct Counters {
    done: AtomicU64,
    stop: AtomicBool,
}

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let mut relay = stage.relay(PEOPLE + 64, limits::LOG_ENTRIES_MAX as usize)?;
    let way = Way::open(relay.link())?;
    let mut people = crowd::people(PEOPLE + 1)?;
    let friend = people.pop().context("nobody")?;
    befriended(&way, &people, &friend).await?;
    relay.restart(stage)?;

    let way = Way::open(relay.link())?;
    let counters = Arc::new(Counters::default());
    let mut coming = Vec::new();
    let mut people = people.into_iter();
    for _ in 0..COMING {
        let own: Vec<Person> = people.by_ref().take(PEOPLE / COMING).collect();
        coming.push(tokio::spawn(come_and_go(way.clone(), own, counters.clone())));
    }
    sleep(WARM).await;
    let process = relay.process()?;
    let (cpu_s, before) = (process.cpu_s()?, counters.done.load(Ordering::Relaxed));
    sleep(stage.time).await;
    let cpu_s = process.cpu_s()? - cpu_s;
    let admitted = counters.done.load(Ordering::Relaxed) - before;
    counters.stop.store(true, Ordering::Relaxed);
    let mut latencies = Latencies::default();
    let mut lost = 0;
    for ended in coming {
        let (took, missing) = ended.await??;
        latencies.append(took);
        lost += missing;
    }
    relay.end()?;
    ensure!(admitted > 0, "nobody came in");
    let floor = if stage.floor { Some(floor(stage).await?) } else { None };
    let figure =
        Figure::new("R8", "admission: handshake, authentication, first sync", cpu_s * 1e3 / admitted as f64, "CPU ms")
            .over(&stage.store)
            .judged(floor, Budget::most(0.9))
            .timed(&latencies)
            .lost(lost)
            .with("admissions", admitted)
            .with("threads", THREADS)
            .with("news", NEWS);
    Ok(vec![figure])
}

/// Everybody has fifty threads with one friend, who has said something in two of them.
async fn befriended(way: &Way, people: &[Person], friend: &Person) -> anyhow::Result<()> {
    let mut friend_line = way.register(friend).await?;
    for (number, person) in people.iter().enumerate() {
        let mut line = way.register(person).await?;
        crowd::befriend(way, (person, &mut line), (friend, &mut friend_line)).await?;
        for turn in 0..THREADS {
            let thread = crowd::open(way, (person, &mut line), &[friend], number as u64 * THREADS + turn).await?;
            if turn < NEWS {
                let request = friend_line.request();
                friend_line.sender.send(&Mouth::new(thread).submit(request, turn))?;
                stored(&mut friend_line).await?;
            }
        }
        friend_line.acknowledge(true)?;
    }
    Ok(())
}

/// Waits for the receipt.
async fn stored(line: &mut Line) -> anyhow::Result<()> {
    loop {
        match line.next().await? {
            Frame::Stored(_) => return Ok(()),
            Frame::Push(push) => line.take(&push),
            // Left over from a claim.
            Frame::Stocked(_) => {}
            other => bail!("a message was answered with {other:?}"),
        }
    }
}

/// Comes in, sees the news, acknowledges nothing, and goes: the next time is the same.
async fn come_and_go(way: Way, people: Vec<Person>, counters: Arc<Counters>) -> anyhow::Result<(Latencies, u64)> {
    let (mut latencies, mut lost) = (Latencies::default(), 0);
    for person in people.iter().cycle() {
        if counters.stop.load(Ordering::Relaxed) {
            break;
        }
        let begin = clock::now();
        let line = tokio::time::timeout(ANSWER_TIME_MAX, way.come_in(person)).await.context("nobody let in")??;
        latencies.add(clock::now() - begin);
        lost += NEWS.saturating_sub(line.got.messages);
        counters.done.fetch_add(1, Ordering::Relaxed);
    }
    Ok((latencies, lost))
}

/// Processor milliseconds of the library's handshake.
async fn floor(stage: &Stage) -> anyhow::Result<f64> {
    let bare = Bare::start(&stage.machine)?;
    let shakes = async |count: usize| -> anyhow::Result<()> {
        let shaking = stream::iter(0..count).map(|_| async { bare.connect().await.map(crate::bare::Line::close) });
        shaking.buffer_unordered(COMING).try_collect().await
    };
    shakes(100).await?;
    let (cpu_s, end) = (bare.process().cpu_s()?, clock::now() + stage.time.min(std::time::Duration::from_secs(5)));
    let mut count = 0;
    while clock::now() < end {
        shakes(100).await?;
        count += 100;
    }
    Ok((bare.process().cpu_s()? - cpu_s) * 1e3 / f64::from(count))
}
