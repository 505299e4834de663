//! Traps: where in its work a process is hit.
//! Owns: the countdowns of one process. Never: hits; the world asks what has sprung.

use crate::faults::Point;

/// What a process just did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spot {
    /// A group is applied and not synced.
    Applied,
    /// A group is synced, and nobody knows.
    Synced,
    /// A frame left while a group was applied and not synced.
    Left,
}

#[derive(Clone, Copy, Debug)]
struct Trap {
    fault: usize,
    point: Point,
}

/// The traps of one process.
#[derive(Debug, Default)]
pub(super) struct Traps {
    set: Vec<Trap>,
    sprung: Vec<usize>,
}

impl Traps {
    /// Sets one for a fault.
    pub(super) fn set(&mut self, fault: usize, point: Point) {
        self.set.push(Trap { fault, point });
    }

    /// Takes the traps of a fault away.
    pub(super) fn clear(&mut self, fault: usize) {
        self.set.retain(|trap| trap.fault != fault);
        self.sprung.retain(|sprung| *sprung != fault);
    }

    /// The process came by here.
    pub(super) fn hit(&mut self, spot: Spot) {
        self.count(|point| match (point, spot) {
            (Point::Applied(left), Spot::Applied)
            | (Point::Synced(left), Spot::Synced)
            | (Point::Left(left), Spot::Left) => Some((left, 1)),
            _ => None,
        });
    }

    /// Its futures were polled so often.
    pub(super) fn polled(&mut self, times: u64) {
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.count(|point| match point {
            Point::Polled(left) => Some((left, times)),
            _ => None,
        });
    }

    /// How often futures may be polled before a trap springs.
    pub(super) fn polls_left(&self) -> Option<u32> {
        let left = self.set.iter().filter_map(|trap| match trap.point {
            Point::Polled(left) => Some(left.max(1)),
            _ => None,
        });
        left.min()
    }

    fn count(&mut self, concerns: impl Fn(&mut Point) -> Option<(&mut u32, u32)>) {
        if self.set.is_empty() {
            return;
        }
        let sprung = &mut self.sprung;
        self.set.retain_mut(|trap| {
            let Some((left, by)) = concerns(&mut trap.point) else { return true };
            *left = left.saturating_sub(by);
            let springs = *left == 0;
            if springs {
                sprung.push(trap.fault);
            }
            !springs
        });
    }

    /// The faults whose traps have sprung since the last call.
    pub(super) fn sprung(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.sprung)
    }
}
