//! Held: what the rows hold for those who are away, added up for whoever runs the relay.
//! Owns: the sums and where a count stands. Never: decides anything by them; a count is of many moments, not of one.

use whimbrel_storage::{Order, Reads, StorageError};

use super::rows::{self, LogRow, space};

/// What was added up so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Held {
    /// Entries in logs, of threads and inboxes, that nobody has let go.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that wait for peer relays.
    pub forwards: u64,
}

/// Where a count goes on. It begins with the default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place(Option<Vec<u8>>);

/// Adds the rows that follow a place, so many at most; gives where the count goes on, or nothing at its end.
///
/// # Errors
/// See [`super::account`].
pub fn add_held(
    reads: &dyn Reads,
    Place(from): Place,
    limit: usize,
    held: &mut Held,
) -> Result<Option<Place>, StorageError> {
    let from = from.unwrap_or_else(|| vec![space::LOG]);
    let logs = from.first() == Some(&space::LOG);
    let space = if logs { space::LOG } else { space::OUTBOUND };
    let found = reads.scan(&from, &rows::end(&[space]), Order::Ascending, limit)?;
    for (key, value) in &found {
        if logs {
            let log: LogRow = rows::read(key, value)?;
            held.entries += log.entries();
            held.bytes += log.bytes();
        } else {
            held.forwards += 1;
        }
    }
    Ok(match found.last() {
        Some((last, _)) if found.len() >= limit => Some(Place(Some(rows::after(last)))),
        _ if logs => Some(Place(Some(vec![space::OUTBOUND]))),
        _ => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use whimbrel_protocol::id::{Domain, Sequence, ThreadId};
    use whimbrel_protocol::push::LogRef;
    use whimbrel_protocol::time::Wall;
    use whimbrel_storage::{MemoryKv, OrderedKv, Overlay};

    use super::super::LogId;
    use super::rows::Total;
    use super::*;

    #[test]
    fn a_count_in_parts_of_any_size_adds_up_what_is_not_trimmed_and_what_waits_for_peers() {
        let store = MemoryKv::in_memory().unwrap();
        let mut rows = Overlay::new(&store);
        let id = |n: u8| LogId::from_bytes([n; 16]);
        for n in 1..=5_u8 {
            let which = LogRef::Thread(ThreadId::from_bytes([n; 32]));
            let mut log = LogRow::new(which, Wall::default());
            (log.head, log.total) = (Sequence::new(10), Total { bytes: 1_000, messages: 10 });
            (log.trimmed, log.trimmed_total) = (Sequence::new(4), Total { bytes: 300, messages: 4 });
            rows::put(&mut rows, rows::log(id(n)), &log);
        }
        for (peer, n) in [("b.example", 1), ("b.example", 2), ("c.example", 1)] {
            let peer: Domain = peer.parse().unwrap();
            rows::put(&mut rows, rows::outbound(&peer, id(n), Sequence::new(7)), &0_u8);
        }
        store.apply(&rows.into_batch()).unwrap();
        for limit in [1, 2, 3, 5, 100] {
            let (mut held, mut place, mut parts) = (Held::default(), Some(Place::default()), 0);
            while let Some(from) = place {
                place = add_held(&store, from, limit, &mut held).unwrap();
                parts += 1;
            }
            assert_eq!(held, Held { entries: 30, bytes: 3_500, forwards: 3 }, "{limit}");
            assert!(parts >= 8 / limit && parts <= 10, "{limit}: {parts}");
        }
    }
}
