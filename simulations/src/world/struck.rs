//! Struck: how often each kind of thing went wrong in a world. Owns: the counts, and their names in what is printed.
//! Never: counts; whoever lets it happen does.

use super::Account;

/// What went wrong by design, counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Processes that died.
    pub crashes: u64,
    /// Of these, relays.
    pub relay_crashes: u64,
    /// Times a process was stopped in good order.
    pub restarts: u64,
    /// Partitions.
    pub partitions: u64,
    /// Of these, those one way.
    pub one_way: u64,
    /// Times a path went out that flaps.
    pub flaps: u64,
    /// Times a path became slow.
    pub slow_paths: u64,
    /// Requests that were dropped while their relay lived on.
    pub cancels: u64,
    /// Times all links of a process broke at once.
    pub breaks: u64,
    /// Times a node's address changed.
    pub roams: u64,
    /// Disks that were slow, stalled, full, or failed to sync.
    pub disk_faults: u64,
    /// Processes that stopped because of their disk.
    pub disk_stops: u64,
    /// Clocks that lied.
    pub clock_faults: u64,
    /// Times a relay or a member turned hostile.
    pub hostile: u64,
    /// Times that what arrived was no frame.
    pub malformed: u64,
    /// Refusals that reached whoever asked for too much in too short a time.
    pub refused_by_rate: u64,
    /// Times somebody's relay did not let them in.
    pub turned_away: u64,
    /// Times a device was sent to another push address.
    pub sent_elsewhere: u64,
    /// Commits that hostile members made up.
    pub bad_commits: u64,
    /// Receipts that hostile hubs signed of commits they did not take.
    pub two_orders: u64,
    /// Times a node lost its network.
    pub disconnects: u64,
    /// Times somebody ended that a friend reaches or sees them.
    pub partings: u64,
    /// Times somebody hid from everybody, or was seen again.
    pub hidings: u64,
    /// Groups made whose members change.
    pub circles: u64,
    /// Members of such groups who became admins, or admins who became members.
    pub roles: u64,
    /// Links into groups that were followed.
    pub links: u64,
    /// Times somebody was given everything their relay keeps of them.
    pub exports: u64,
    /// Times a relay had somebody woken.
    pub wakes: u64,
    /// Times somebody was shown a card.
    pub cards: u64,
    /// Accounts that ended.
    pub endings: u64,
    /// Entries of logs that went before some device had them, each time that a device was told.
    pub dropped: u64,
    /// Messages whose author was told that a full log lost them for somebody, for each of these.
    pub losses_told: u64,
    /// Second devices that became their account's.
    pub linked: u64,
    /// Of these, while the relay of their owner or of a friend was cut off.
    pub linked_apart: u64,
    /// Second devices that were taken off again.
    pub revoked: u64,
    /// Of these, while such a relay was cut off.
    pub revoked_apart: u64,
    /// Applied batches that crashes took back.
    pub batches_lost: u64,
    /// Applied batches that were not synced and survived all the same.
    pub batches_kept: u64,
}

impl Account {
    /// How often each kind of thing went wrong.
    pub const fn struck(&self) -> [(&'static str, u64); 36] {
        let faults = &self.faults;
        [
            ("crashes", faults.crashes),
            ("relay_crashes", faults.relay_crashes),
            ("restarts", faults.restarts),
            ("partitions", faults.partitions),
            ("partitions_one_way", faults.one_way),
            ("flaps", faults.flaps),
            ("slow_paths", faults.slow_paths),
            ("breaks", faults.breaks),
            ("cancels", faults.cancels),
            ("roams", faults.roams),
            ("disk_faults", faults.disk_faults),
            ("disk_stops", faults.disk_stops),
            ("clock_faults", faults.clock_faults),
            ("hostile", faults.hostile),
            ("malformed", faults.malformed),
            ("refused_by_rate", faults.refused_by_rate),
            ("turned_away", faults.turned_away),
            ("sent_elsewhere", faults.sent_elsewhere),
            ("bad_commits", faults.bad_commits),
            ("two_orders", faults.two_orders),
            ("disconnects", faults.disconnects),
            ("partings", faults.partings),
            ("hidings", faults.hidings),
            ("circles", faults.circles),
            ("roles", faults.roles),
            ("links", faults.links),
            ("exports", faults.exports),
            ("wakes", faults.wakes),
            ("cards", faults.cards),
            ("endings", faults.endings),
            ("log_entries_dropped", faults.dropped),
            ("log_losses_told", faults.losses_told),
            ("devices_linked", faults.linked),
            ("devices_linked_apart", faults.linked_apart),
            ("devices_revoked", faults.revoked),
            ("devices_revoked_apart", faults.revoked_apart),
        ]
    }
}
