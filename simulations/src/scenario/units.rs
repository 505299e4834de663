//! Quantities as people write them: "20 ms", "38 Mbit", "0.5 %".
//! Owns: their spelling. Bare numbers are refused where a unit matters.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time: a number and ns, us, ms, s, min, h or d.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Span(pub Duration);

/// A bit rate: a number and bit, kbit, Mbit or Gbit (a second).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rate {
    /// Bits a second; never zero.
    pub bits: u64,
}

/// A share of a whole: 0 to 1, or "0 %" to "100 %".
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Share(pub f64);

/// Two lengths of time, the shorter first, or one that is both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// The least.
    pub least: Duration,
    /// The most.
    pub most: Duration,
}

const SPANS: &[(&str, f64)] =
    &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9), ("h", 3_600e9), ("d", 86_400e9)];
const RATES: &[(&str, f64)] = &[("bit", 1.0), ("kbit", 1e3), ("Mbit", 1e6), ("Gbit", 1e9)];

/// A number before a unit of the table, in the table's smallest unit.
fn quantity(text: &str, units: &[(&str, f64)]) -> Result<u64, String> {
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let text = text.trim();
    let cut = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(cut);
    let number: f64 =
        number.parse().map_err(|_| format!("expected a number and a unit ({}), found {text:?}", names()))?;
    let unit = unit.trim();
    let (_, factor) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("the unit of {text:?} is none of {}", names()))?;
    let value = number * factor;
    if value <= 9e18 { Ok(value.round() as u64) } else { Err(format!("{text:?} is too large")) }
}

/// The largest unit that shows the value without a fraction.
fn spelled(value: u64, units: &[(&str, f64)]) -> String {
    let fits = units.iter().rev().find(|(_, factor)| value.is_multiple_of(*factor as u64) && value > 0);
    let (unit, factor) = fits.or(units.first()).map_or(("", 1), |(unit, factor)| (*unit, *factor as u64));
    format!("{} {unit}", value / factor)
}

macro_rules! as_text {
    ($name:ident, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

as_text!(Span, "a length of time in quotes, like \"20 ms\"");
as_text!(Rate, "a bit rate in quotes, like \"38 Mbit\"");

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, SPANS).map(|nanos| Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled(crate::engine::time::nanos(self.0), SPANS))
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match quantity(text, RATES)? {
            0 => Err("a bit rate is more than zero".to_owned()),
            bits => Ok(Self { bits }),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled(self.bits, RATES))
    }
}

impl Rate {
    /// How long so many bytes take.
    pub fn time_of(self, bytes: usize) -> Duration {
        let nanos = (bytes as u128 * 8).saturating_mul(1_000_000_000) / u128::from(self.bits.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Share;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share: 0 to 1, or \"0 %\" to \"100 %\"")
            }
            fn visit_f64<E: serde::de::Error>(self, share: f64) -> Result<Share, E> {
                if (0.0..=1.0).contains(&share) {
                    Ok(Share(share))
                } else {
                    Err(E::custom(format!("a share lies between 0 and 1, this is {share}")))
                }
            }
            fn visit_i64<E: serde::de::Error>(self, share: i64) -> Result<Share, E> {
                self.visit_f64(share as f64)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Share, E> {
                let percent = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
                match percent {
                    Some(percent) => self.visit_f64(percent / 100.0),
                    None => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Range;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time like \"20 ms\", or two like [\"5 ms\", \"30 ms\"]")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Range, E> {
                let Span(both) = text.parse().map_err(E::custom)?;
                Ok(Range { least: both, most: both })
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Range, A::Error> {
                use serde::de::Error;
                let two: (Option<Span>, Option<Span>) = (items.next_element()?, items.next_element()?);
                let (Some(Span(least)), Some(Span(most)), None) = (two.0, two.1, items.next_element::<Span>()?) else {
                    return Err(A::Error::custom("a range has two ends"));
                };
                if least > most {
                    return Err(A::Error::custom("the first end of a range is the shorter"));
                }
                Ok(Range { least, most })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [Span(self.least), Span(self.most)].serialize(serializer)
    }
}

/// A seed, or words that say what one is: whatever else stands there is a slip.
pub(super) fn seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    use serde::de::Error;
    let value = toml::Value::deserialize(deserializer)?;
    let seed = value.as_integer().and_then(|seed| u64::try_from(seed).ok());
    let found = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let what = || format!("{found} is no seed: a whole number from 0 to {}", super::SEED_MAX);
    seed.ok_or_else(|| D::Error::custom(what()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_spelled_as_people_do() {
        for (text, nanos) in [("20 ms", 20_000_000), ("1.5s", 1_500_000_000), ("3 min", 180_000_000_000), ("0 s", 0)] {
            assert_eq!(text.parse::<Span>().unwrap().0, Duration::from_nanos(nanos));
        }
        assert_eq!("1500 ms".parse::<Span>().unwrap().to_string(), "1500 ms");
        assert_eq!("60 s".parse::<Span>().unwrap().to_string(), "1 min");
        assert_eq!("0 s".parse::<Span>().unwrap().to_string(), "0 ns");
        assert_eq!("38 Mbit".parse::<Rate>().unwrap().bits, 38_000_000);
        assert_eq!("1000 Mbit".parse::<Rate>().unwrap().to_string(), "1 Gbit");
    }

    #[test]
    fn a_number_without_its_unit_is_refused() {
        for wrong in ["20", "ms", "20 mss", "-3 s", "", "1e99 d"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong} was taken");
        }
        assert!("0 Mbit".parse::<Rate>().is_err());
    }

    #[test]
    fn ten_kilobytes_take_two_milliseconds_at_38_megabits() {
        let time = "38 Mbit".parse::<Rate>().unwrap().time_of(10_000);
        assert_eq!(time.as_micros(), 2_105);
    }
}
