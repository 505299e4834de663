//! Facts: measured numbers that scenarios start from, read from `simulations/data` (source and status in each header).
//! Owns: looking a row up by its name. Never: a number of its own; one that is not in the files is an error.

use std::sync::OnceLock;
use std::time::Duration;

use super::Rate;

/// The tables of round trips between regions: cloud regions, cities, coarse regions of end hosts.
const ROUND_TRIPS: [&str; 3] = [
    include_str!("../../data/region_rtt_ms_aws21.csv"),
    include_str!("../../data/region_rtt_ms_ibm10.csv"),
    include_str!("../../data/region_users6.csv"),
];
const ACCESS: &str = include_str!("../../data/access_profiles.csv");
const NAT: &str = include_str!("../../data/nat.csv");
const CHURN: &str = include_str!("../../data/churn.csv");

/// A region of one of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    table: usize,
    index: usize,
}

/// What an access profile says; absent where its source says nothing.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Access {
    /// One way over the access link.
    pub latency: Option<Duration>,
    /// To the end host.
    pub down: Option<Rate>,
    /// From the end host.
    pub up: Option<Rate>,
    /// Packets lost.
    pub loss: Option<f64>,
}

struct Matrix {
    names: Vec<String>,
    /// Microseconds of a round trip, by row and column.
    round_trips: Vec<Vec<Option<u64>>>,
}

/// The cells of a row. Quotes keep commas together.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    cells.push(cell);
    cells
}

/// The header, and the rows below it.
fn table(text: &str) -> (Vec<String>, impl Iterator<Item = Vec<String>> + '_) {
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let header = lines.next().map(cells).unwrap_or_default();
    (header, lines.map(cells))
}

fn matrices() -> &'static [Matrix] {
    static MATRICES: OnceLock<Vec<Matrix>> = OnceLock::new();
    MATRICES.get_or_init(|| {
        let matrix = |text: &&str| {
            let (_, rows) = table(text);
            let rows: Vec<_> = rows.collect();
            let names: Vec<_> = rows.iter().filter_map(|row| row.first().cloned()).collect();
            let micros = |cell: &String| cell.parse::<f64>().ok().map(|millis| (millis * 1_000.0) as u64);
            let round_trips = rows.iter().map(|row| row.iter().skip(1).take(names.len()).map(micros).collect());
            Matrix { round_trips: round_trips.collect(), names }
        };
        ROUND_TRIPS.iter().map(matrix).collect()
    })
}

impl Region {
    /// The region of this name.
    pub fn named(name: &str) -> Option<Self> {
        let find = |(table, matrix): (usize, &Matrix)| {
            matrix.names.iter().position(|other| other == name).map(|index| Self { table, index })
        };
        matrices().iter().enumerate().find_map(find)
    }

    /// One way between two regions: half the round trip; nothing when no table has both.
    pub fn one_way(self, to: Self) -> Option<Duration> {
        let matrix = matrices().get(self.table).filter(|_| self.table == to.table)?;
        let cell = |a: usize, b: usize| matrix.round_trips.get(a).and_then(|row| row.get(b)).copied().flatten();
        // The source leaves a city's own cell empty and gives two milliseconds between its zones.
        let own = (self.index == to.index).then_some(2_000);
        let micros = cell(self.index, to.index).or_else(|| cell(to.index, self.index)).or(own)?;
        Some(Duration::from_micros(micros / 2))
    }
}

/// The access profile of this name; regions of end hosts have one, too.
pub fn access(name: &str) -> Option<Access> {
    let (header, mut rows) = table(ACCESS);
    let column = |name: &str| header.iter().position(|other| other == name);
    let row = rows.find(|row| row.first().is_some_and(|first| first == name))?;
    let number = |name: &str| column(name).and_then(|at| row.get(at)).and_then(|cell| cell.parse::<f64>().ok());
    let rate = |name: &str| number(name).map(|mbit| Rate { bits: ((mbit * 1e6) as u64).max(1) });
    Some(Access {
        latency: number("added_latency_ms").map(|millis| Duration::from_micros((millis * 1_000.0) as u64)),
        down: rate("down_mbit_mid"),
        up: rate("up_mbit_mid"),
        loss: number("loss_fraction"),
    })
}

fn number(text: &str, key: &[&str], column: usize) -> Option<f64> {
    let (_, mut rows) = table(text);
    let found = rows.find(|row| key.iter().all(|part| row.iter().any(|cell| cell == part)))?;
    found.get(column)?.parse().ok()
}

/// The share of networks whose translation cannot be punched, when only pairs of two that can do.
pub fn hard_nat_share() -> f64 {
    number(NAT, &["hard_nat_share_if_only_easy_easy_pairs_punch"], 1).unwrap_or_else(|| unreachable!("in nat.csv"))
}

/// Of the pairs that can be punched, those where the first attempt does it.
pub fn first_attempt_share() -> f64 {
    number(NAT, &["success_on_first_attempt_given_success"], 1).unwrap_or_else(|| unreachable!("in nat.csv"))
}

/// The Weibull shape of sessions of hosts that are mostly on.
pub fn session_shape() -> f64 {
    let shape = number(CHURN, &["ipfs_dht_server", "weibull_shape"], 3);
    shape.unwrap_or_else(|| unreachable!("in churn.csv"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn one_way(a: &str, b: &str) -> Duration {
        Region::named(a).unwrap().one_way(Region::named(b).unwrap()).unwrap()
    }

    #[test]
    fn regions_are_as_far_as_the_tables_say() {
        assert_eq!(one_way("eu-central-1", "us-east-1"), Duration::from_micros(45_500));
        assert_eq!(one_way("ap-southeast-2", "af-south-1"), Duration::from_millis(206));
        assert_eq!(one_way("frankfurt", "frankfurt"), Duration::from_millis(1));
        assert_eq!(one_way("europe", "north_america"), Duration::from_millis(62));
        assert!(Region::named("atlantis").is_none());
        assert!(Region::named("europe").unwrap().one_way(Region::named("eu-west-1").unwrap()).is_none());
    }

    #[test]
    fn profiles_and_shares_are_found() {
        let home = access("home").unwrap();
        assert_eq!((home.latency, home.loss), (Some(Duration::from_millis(20)), Some(0.001)));
        assert_eq!(access("global_fixed_median").unwrap().up.unwrap().bits, 38_000_000);
        assert_eq!(access("continent_europe").unwrap().latency, None);
        assert!((hard_nat_share() - 0.1633).abs() < 1e-9 && (session_shape() - 0.6077).abs() < 1e-9);
        assert!((first_attempt_share() - 0.976).abs() < 1e-9);
    }
}
