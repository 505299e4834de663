//! R1: memory of an idle connection.
//! Owns: admitted devices that say nothing, and the same number of connections to the bare library.
//!
//! The accounts are made first and the relay is started anew, so that what registering left in its memory is not
//! counted.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;
use whimbrel_protocol::limits;

use super::Stage;
use crate::bare::Bare;
use crate::clock;
use crate::crowd::{self, AT_ONCE, Line, Person, Way};
use crate::figure::{Budget, Figure};

/// How long they stay idle before memory is read, and while the processor is watched.
const IDLE: Duration = Duration::from_secs(3);

pub(crate) async fn measure(stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let mut relay = stage.relay(stage.connections + 64, limits::LOG_ENTRIES_MAX as usize)?;
    let people = crowd::people(stage.connections)?;
    let way = Way::open(relay.link())?;
    let mut registering = stream::iter(&people).map(|person| way.register(person)).buffer_unordered(AT_ONCE);
    while let Some(line) = registering.next().await {
        drop(line?);
    }
    drop(registering);
    relay.restart(stage)?;

    let way = Way::open(relay.link())?;
    let process = relay.process()?;
    let before = process.rss_bytes()?;
    let lines = come_in(&way, &people).await?;
    sleep(IDLE).await;
    let each = process.rss_bytes()?.saturating_sub(before) as f64 / lines.len() as f64;
    let cpu_s = process.cpu_s()?;
    sleep(IDLE).await;
    let idle_cpu_s = (process.cpu_s()? - cpu_s) / IDLE.as_secs_f64();
    let count = lines.len();
    drop(lines);
    relay.end()?;
    let floor = if stage.floor { Some(floor(stage).await?) } else { None };
    let figure = Figure::new("R1", "memory of an idle connection", each / 1024.0, "KiB")
        .over(&stage.store)
        .judged(floor, Budget::times(1.3))
        .with("connections", count)
        .with_number("idle_core_share", idle_cpu_s);
    Ok(vec![figure])
}

/// Everybody comes in. Those who came early are kept: coming in takes longer than a link may be silent.
async fn come_in(way: &Way, people: &[Person]) -> anyhow::Result<Vec<Line>> {
    let mut coming = stream::iter(people).map(|person| way.come_in(person)).buffer_unordered(AT_ONCE);
    let (mut lines, mut beat): (Vec<Line>, _) = (Vec::with_capacity(people.len()), clock::now());
    while let Some(line) = coming.next().await {
        lines.push(line?);
        if clock::now() - beat > limits::LINK_IDLE_MAX / 3 {
            lines.iter().try_for_each(Line::beat)?;
            beat = clock::now();
        }
    }
    Ok(lines)
}

/// KiB of a connection to the bare library.
async fn floor(stage: &Stage) -> anyhow::Result<f64> {
    let bare = Bare::start(&stage.machine)?;
    let before = bare.process().rss_bytes()?;
    let (mut lines, mut beat) = (Vec::with_capacity(stage.connections), clock::now());
    let mut coming = stream::iter(0..stage.connections).map(|_| bare.connect()).buffer_unordered(AT_ONCE);
    while let Some(line) = coming.next().await {
        lines.push(line?);
        if clock::now() - beat > limits::LINK_IDLE_MAX / 3 {
            for line in &mut lines {
                line.echo(&[0]).await?;
            }
            beat = clock::now();
        }
    }
    sleep(IDLE).await;
    Ok(bare.process().rss_bytes()?.saturating_sub(before) as f64 / lines.len() as f64 / 1024.0)
}
