//! Wake: whoever is away and can be woken is, when something was written for it.
//! The trip: wake (who, and when last), the store (where), the port.
//! Rules: docs/protocol/wake.md.

use whimbrel_protocol::id::DeviceId;
use whimbrel_protocol::time::Now;
use whimbrel_protocol::wake::WakeEndpoint;
use whimbrel_storage::planted::{self, Bug};

use crate::ports::{Ports, WakeOrder, WakeWord};
use crate::rooms::Rooms;
use crate::store::command::people::SetWake;
use crate::store::{Command, LogId, Store};

/// Something that is worth waking for was written to a log.
pub(crate) async fn nudge<P: Ports>(rooms: &Rooms<P>, now: Now, log: LogId) {
    let is_here = |mailbox| rooms.push.link_of(mailbox).is_some();
    match rooms.wakes.nudge(rooms.store(), (now.monotonic, now.wall), log, is_here).await {
        Ok(devices) => send(rooms, devices).await,
        Err(error) => tracing::error!(%error, "who is to be woken could not be read"),
    }
}

/// Those whose time has come.
pub(crate) async fn timeout<P: Ports>(rooms: &Rooms<P>, now: Now) {
    send(rooms, rooms.wakes.due(now.monotonic)).await;
}

/// A push service knows an endpoint no more: unless the device has named another by now, it is not woken there again.
pub(crate) async fn ended<P: Ports>(rooms: &Rooms<P>, now: Now, device: DeviceId, endpoint: &WakeEndpoint) {
    let wake = match rooms.store().wake(device).await {
        Ok(wake) => wake,
        Err(error) => return tracing::error!(%error, "where a device is woken could not be read"),
    };
    if wake.live.as_ref() != Some(endpoint) || wake.asked {
        return;
    }
    match rooms.store().commit(Command::SetWake(SetWake { device, endpoint: None, at: now.wall })).await {
        Ok(_) => rooms.wakes.changed(),
        Err(error) => tracing::warn!(%error, "a device's endpoint has ended and could not be taken away"),
    }
}

async fn send<P: Ports>(rooms: &Rooms<P>, devices: Vec<DeviceId>) {
    if planted::active(Bug::WakeNever) {
        return;
    }
    for device in devices {
        match rooms.store().wake(device).await {
            Ok(wake) => {
                if let Some(endpoint) = wake.live
                    && rooms.wakes.take(device, rooms.ports.now().monotonic)
                {
                    rooms.ports.wake(WakeOrder { device, endpoint, word: WakeWord::Something });
                }
            }
            Err(error) => tracing::error!(%error, "where a device is woken could not be read"),
        }
    }
}
