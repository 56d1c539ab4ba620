//! Rates of sending by the time of day, for a node or for a run.

use jiff::civil::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, num::NonZeroU32, str::FromStr};

/// Rates by the time of day, as a person writes them: `20M`, or `08:00,2M 18:30,off`. Bytes a second; k, M and G are
/// thousands. Times are local; each rate holds until the next one, over midnight, too. The default is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timetable {
    /// As it was written.
    text: String,
    /// In order of time. `None`: no limit.
    windows: Vec<(Time, Option<NonZeroU32>)>,
}

impl FromStr for Timetable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut windows = Vec::new();
        for part in text.split_whitespace() {
            match part.split_once(',') {
                Some((time, rate)) => {
                    let at: Time = time.parse().map_err(|_| format!("{time:?} is no time of the day such as 08:00"))?;
                    windows.push((at, rate_of(rate)?));
                }
                None if windows.is_empty() && text.trim() == part => windows.push((Time::midnight(), rate_of(part)?)),
                None => return Err(format!("{part:?} must be TIME,RATE such as 08:00,20M")),
            }
        }
        if windows.is_empty() {
            return Err("must be a rate such as 20M, or times with rates such as 08:00,20M 18:00,off".to_owned());
        }
        windows.sort_by_key(|(at, _)| *at);
        if windows.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err("names a time twice".to_owned());
        }
        Ok(Self { text: text.to_owned(), windows })
    }
}

fn rate_of(text: &str) -> Result<Option<NonZeroU32>, String> {
    if text == "off" {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is no rate such as 500k, 20M or off");
    let (number, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'M')) => (&text[..at], 1e6),
        Some((at, 'G')) => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    let rate = number.parse::<f64>().map_err(|_| wrong())? * unit;
    // With less, a single block would take hours.
    if !(1e4..=4e9).contains(&rate) {
        return Err(format!("{text:?} must be between 10k and 4G"));
    }
    NonZeroU32::new(rate as u32).map(Some).ok_or_else(wrong)
}

impl Timetable {
    /// There is no limit at any time.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// The rate at a time of the day; `None`: no limit.
    pub fn rate_at(&self, now: Time) -> Option<NonZeroU32> {
        let begun = self.windows.iter().rev().find(|(at, _)| *at <= now);
        // Before the first one of the day, the last one of the day before still holds.
        begun.or(self.windows.last()).and_then(|(_, rate)| *rate)
    }
}

impl TryFrom<String> for Timetable {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|why| format!("bandwidth {text:?}: {why}"))
    }
}

impl From<Timetable> for String {
    fn from(timetable: Timetable) -> Self {
        timetable.text
    }
}

impl JsonSchema for Timetable {
    fn schema_name() -> Cow<'static, str> {
        "Timetable".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_hold_from_their_time_to_the_next_over_midnight() {
        let table: Timetable = "08:00,2M 18:30,off 22:00,500k".parse().unwrap();
        for (now, rate) in [
            ("00:00", Some(500_000)),
            ("07:59", Some(500_000)),
            ("08:00", Some(2_000_000)),
            ("18:29", Some(2_000_000)),
            ("18:30", None),
            ("23:00", Some(500_000)),
        ] {
            let found = table.rate_at(now.parse().unwrap()).map(NonZeroU32::get);
            assert_eq!(found, rate, "{now}");
        }
        let always: Timetable = "1.5M".parse().unwrap();
        assert_eq!(always.rate_at("12:00".parse().unwrap()).map(NonZeroU32::get), Some(1_500_000));
        assert_eq!(Timetable::default().rate_at(Time::midnight()), None);
    }

    #[test]
    fn what_is_no_timetable_is_refused() {
        for text in ["", "fast", "0", "5k", "5G", "08:00,2M 9", "25:00,2M", "08:00,2M 08:00,3M", "08:00"] {
            assert!(text.parse::<Timetable>().is_err(), "{text:?}");
        }
    }
}
