//! Figure: one measured number and what it is measured by.
//! Owns: the budgets, the verdict over them, the line of JSON and the line of the table.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// One number. Serialises as what `--json` prints, one object a line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// The row of the budgets, and which of its numbers.
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    /// The engine below, where there is one.
    pub(crate) store: Option<String>,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The same of the bare libraries, in the same run.
    pub(crate) floor: Option<f64>,
    pub(crate) ratio_to_floor: Option<f64>,
    /// The greatest value that is within budget: the lesser of what is allowed outright and of the allowed multiple of
    /// the floor.
    pub(crate) budget: Option<f64>,
    /// Absent where there is nothing to compare with.
    pub(crate) within: Option<bool>,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// Acknowledged, and not delivered to whom it was for.
    pub(crate) lost: u64,
    /// What else was counted.
    #[serde(flatten)]
    pub(crate) more: BTreeMap<&'static str, Value>,
}

/// What a figure may be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    /// At most so much.
    pub(crate) most: Option<f64>,
    /// At most so many times the floor.
    pub(crate) times: Option<f64>,
}

impl Budget {
    pub(crate) const fn most(most: f64) -> Self {
        Self { most: Some(most), times: None }
    }

    pub(crate) const fn times(times: f64) -> Self {
        Self { most: None, times: Some(times) }
    }

    pub(crate) const fn and_most(self, most: Option<f64>) -> Self {
        Self { most, ..self }
    }

    fn bound(self, floor: Option<f64>) -> Option<f64> {
        let by_floor = self.times.zip(floor).map(|(times, floor)| times * floor);
        [self.most, by_floor].into_iter().flatten().reduce(f64::min)
    }
}

impl Figure {
    pub(crate) fn new(id: &'static str, what: &'static str, value: f64, unit: &'static str) -> Self {
        Self {
            id,
            what,
            store: None,
            value: rounded(value),
            unit,
            floor: None,
            ratio_to_floor: None,
            budget: None,
            within: None,
            p50_ms: None,
            p99_ms: None,
            lost: 0,
            more: BTreeMap::new(),
        }
    }

    /// Compares with the floor, if it was measured, and the budget.
    pub(crate) fn judged(mut self, floor: Option<f64>, budget: Budget) -> Self {
        self.floor = floor.map(rounded);
        self.ratio_to_floor = floor.filter(|floor| *floor > 0.0).map(|floor| rounded(self.value / floor));
        self.budget = budget.bound(floor).map(rounded);
        self.within = self.budget.map(|budget| self.value <= budget);
        self
    }

    pub(crate) fn over(mut self, store: &str) -> Self {
        self.store = Some(store.to_owned());
        self
    }

    pub(crate) fn timed(mut self, latencies: &Latencies) -> Self {
        self.p50_ms = latencies.quantile_ms(0.50);
        self.p99_ms = latencies.quantile_ms(0.99);
        self
    }

    pub(crate) fn lost(mut self, lost: u64) -> Self {
        self.lost = lost;
        self
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.more.insert(key, value.into());
        self
    }

    pub(crate) fn with_number(self, key: &'static str, value: f64) -> Self {
        self.with(key, rounded(value))
    }
}

/// Four significant digits are more than any of this holds.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let factor = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    (value * factor).round() / factor
}

/// How long things took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    micros: Vec<u32>,
}

impl Latencies {
    pub(crate) fn add(&mut self, took: std::time::Duration) {
        self.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.micros.append(&mut other.micros);
    }

    pub(crate) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let place = (quantile * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(place).map(|micros| f64::from(*micros) / 1_000.0)
    }
}

/// The table that people read.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head =
        ["id", "store", "value", "unit", "floor", "ratio", "budget", "within", "p50 ms", "p99 ms", "lost", "what"];
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(figures.iter().map(|figure| {
        [
            figure.id.to_owned(),
            figure.store.clone().unwrap_or_else(|| "-".to_owned()),
            figure.value.to_string(),
            figure.unit.to_owned(),
            number(figure.floor),
            number(figure.ratio_to_floor),
            number(figure.budget),
            figure.within.map_or("-", |within| if within { "yes" } else { "NO" }).to_owned(),
            number(figure.p50_ms),
            number(figure.p99_ms),
            figure.lost.to_string(),
            figure.what.to_owned(),
        ]
    }));
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::float_cmp, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_of_two_bounds_is_the_budget() {
        let budget = Budget::times(1.5).and_most(Some(7.5));
        let figure = Figure::new("R2", "", 6.0, "s").judged(Some(3.0), budget);
        assert_eq!((figure.budget, figure.ratio_to_floor, figure.within), (Some(4.5), Some(2.0), Some(false)));
        let figure = Figure::new("R2", "", 6.0, "s").judged(Some(30.0), budget);
        assert_eq!((figure.budget, figure.within), (Some(7.5), Some(true)));
        let figure = Figure::new("R2", "", 6.0, "s").judged(None, budget);
        assert_eq!((figure.floor, figure.ratio_to_floor, figure.within), (None, None, Some(true)));
        let figure = Figure::new("R2", "", 6.0, "s").judged(None, Budget::times(2.0));
        assert_eq!((figure.budget, figure.within), (None, None));
    }

    #[test]
    fn quantiles_are_of_what_was_added() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile_ms(0.5), None);
        (1..=101).rev().for_each(|millis| latencies.add(std::time::Duration::from_millis(millis)));
        assert_eq!((latencies.quantile_ms(0.5), latencies.quantile_ms(0.99)), (Some(51.0), Some(100.0)));
    }

    #[test]
    fn a_figure_is_one_object_with_everything_counted_in_it() {
        let figure = Figure::new("R9", "what", 1.234_56, "ms").lost(2).with("messages", 7).over("sled");
        let value: Value = serde_json::from_str(&serde_json::to_string(&figure).unwrap()).unwrap();
        assert_eq!(value["value"], 1.235);
        assert_eq!((&value["lost"], &value["messages"], &value["store"]), (&2.into(), &7.into(), &"sled".into()));
        assert!(value["floor"].is_null());
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!([rounded(0.0), rounded(0.012_345), rounded(98_765.4)], [0.0, 0.01235, 98_770.0]);
    }
}
