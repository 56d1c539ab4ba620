//! How much a node may send to staging: one rate, or rates by the time of day.

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::{Zoned, civil::Time};
use std::{
    num::NonZeroU32,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

/// Rates by the time of day, as a person writes them: `20M`, or `08:00,2M 18:30,off`. Bytes a second; k, M and G are
/// thousands. Times are local; each rate holds until the next one, over midnight, too. The default is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timetable {
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
        Ok(Self { windows })
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
    /// The rate at a time of the day.
    fn rate_at(&self, now: Time) -> Option<NonZeroU32> {
        let begun = self.windows.iter().rev().find(|(at, _)| *at <= now);
        // Before the first one of the day, the last one of the day before still holds.
        begun.or(self.windows.last()).and_then(|(_, rate)| *rate)
    }
}

type Limiter = (Option<NonZeroU32>, Option<Arc<DefaultDirectRateLimiter>>);

/// The bandwidth of a node, shared by all that it sends.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    timetable: Timetable,
    /// Largest piece that is asked for at once.
    piece_bytes_max: NonZeroU32,
    limiter: Mutex<Limiter>,
}

impl Bandwidth {
    pub(crate) fn new(timetable: Timetable, piece_bytes_max: NonZeroU32) -> Self {
        Self { timetable, piece_bytes_max, limiter: Mutex::new((None, None)) }
    }

    /// Waits until so many bytes may go.
    pub(crate) async fn pass(&self, bytes: usize) {
        if self.timetable.windows.is_empty() {
            return;
        }
        let Some(limiter) = self.limiter_at(Zoned::now().time()) else { return };
        let piece = u32::try_from(bytes).map_or(self.piece_bytes_max, |n| n.try_into().unwrap_or(NonZeroU32::MIN));
        // The rate of the moment when the wait began holds for it. More than the burst is never asked for: no error.
        let _ = limiter.until_n_ready(piece.min(self.piece_bytes_max)).await;
    }

    fn limiter_at(&self, now: Time) -> Option<Arc<DefaultDirectRateLimiter>> {
        let rate = self.timetable.rate_at(now);
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        if limiter.0 != rate {
            let quota = |rate: NonZeroU32| Quota::per_second(rate).allow_burst(self.piece_bytes_max);
            *limiter = (rate, rate.map(|rate| Arc::new(RateLimiter::direct(quota(rate)))));
        }
        limiter.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

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

    #[tokio::test]
    async fn what_passes_keeps_to_the_rate() {
        let bandwidth = Bandwidth::new("1M".parse().unwrap(), NonZeroU32::new(100_000).unwrap());
        let begin = Instant::now();
        for _ in 0..4 {
            bandwidth.pass(100_000).await;
        }
        // The first piece is there at once; three more take 0.1 s each. Longer is always allowed.
        assert!(begin.elapsed() >= Duration::from_millis(290), "{:?}", begin.elapsed());
    }
}
