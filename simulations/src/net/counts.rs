//! Counts: what went over the network of a run, and what was lost on it.
//! Never: decides anything; a judge or a person reads them.

/// What went over the network so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Frames that arrived.
    pub frames: u64,
    /// Bytes sent, packet overhead included.
    pub bytes: u64,
    /// Packets lost for whatever reason, and sent again.
    pub packets_lost: u64,
    /// Of these, in a bad stretch of an access link.
    pub lost_in_bursts: u64,
    /// Of these, because the queue before an uplink was full.
    pub lost_at_uplink: u64,
    /// Of these, because the queue before a downlink was full.
    pub lost_at_downlink: u64,
    /// Of these, while the path was out.
    pub lost_in_outages: u64,
    /// Packets that arrived twice, and were dropped once.
    pub packets_doubled: u64,
    /// Packets that arrived behind later ones.
    pub packets_reordered: u64,
    /// Links that stood.
    pub links: u64,
    /// Links that broke.
    pub broken: u64,
    /// Calls over HTTPS that came to nothing.
    pub calls_lost: u64,
    /// Dials that came to nothing.
    pub dials_failed: u64,
    /// Of these, because of address translation.
    pub punches_failed: u64,
}

impl Counts {
    /// Each by its name.
    pub const fn by_name(&self) -> [(&'static str, u64); 14] {
        [
            ("frames", self.frames),
            ("bytes", self.bytes),
            ("packets_lost", self.packets_lost),
            ("lost_in_bursts", self.lost_in_bursts),
            ("lost_at_uplink", self.lost_at_uplink),
            ("lost_at_downlink", self.lost_at_downlink),
            ("lost_in_outages", self.lost_in_outages),
            ("packets_doubled", self.packets_doubled),
            ("packets_reordered", self.packets_reordered),
            ("links", self.links),
            ("broken", self.broken),
            ("calls_lost", self.calls_lost),
            ("dials_failed", self.dials_failed),
            ("punches_failed", self.punches_failed),
        ]
    }
}
