//! Resume: a device that came in gets everything that waited, each log in order, then live entries.
//! The trip: user (stock), store (the device's logs), hold (cursors), push (subscribe, then read).
//! Rules: docs/protocol/channel.md, push.md.

use whimbrel_protocol::id::LinkId;
use whimbrel_protocol::time::Now;
use whimbrel_protocol::user::Stocked;
use whimbrel_storage::planted::{self, Bug};

use super::deliver;
use crate::admission::Admission;
use crate::ports::Ports;
use crate::rooms::Rooms;
use crate::store::{LogId, Store, StoreError};

/// Logs read from the store at once.
const LOGS_PAGE: usize = 256;

/// Subscribes the device to its logs and reads each from its cursor on, the inbox first. Where entries it lacks are gone, the
/// first run of that log says which. What does not fit in the
/// link's queue follows when it has room; then the device is told that it caught up.
pub(crate) async fn resume<P: Ports>(rooms: &Rooms<P>, now: Now, link: LinkId, admission: Admission) {
    match list(rooms, now, link, admission).await {
        Ok(logs) => {
            rooms.push.listed(rooms.links(), link);
            deliver::advance(rooms, link, admission.inbox).await;
            for log in logs.into_iter().filter(|log| *log != admission.inbox) {
                deliver::advance(rooms, link, log).await;
            }
        }
        Err(error) => rooms.refuse_link(now, link, error.into()),
    }
}

/// Subscribes to everything the device reads. A thread opened meanwhile subscribes it by itself.
async fn list<P: Ports>(
    rooms: &Rooms<P>,
    now: Now,
    link: LinkId,
    admission: Admission,
) -> Result<Vec<LogId>, StoreError> {
    let left = rooms.store().package_count(admission.device).await?;
    rooms.answer(now, link, Stocked { request: None, left });
    let mut logs = Vec::new();
    while rooms.reception.lives(link) {
        let page = rooms.store().device_logs(admission.mailbox, logs.last().copied(), LOGS_PAGE).await?;
        let last = page.len() < LOGS_PAGE;
        for mut log in page {
            log.cursor = rooms.hold.cursor(admission.mailbox, log.log, log.cursor);
            if planted::active(Bug::SkipOnResume) && log.cursor < log.head {
                log.cursor = log.cursor.next();
            }
            logs.push(log.log);
            rooms.push.subscribe(link, &log);
        }
        if last {
            break;
        }
    }
    Ok(logs)
}
