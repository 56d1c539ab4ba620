//! Schedules: an activity that is run again and again, each time for a window of time. Pure: which window is next, and what
//! the activity is for it.
//!
//! Windows follow each other without a gap, so that what is picked by modification time is picked once.

use ferry_common::{
    activity::{Activity, parse_settings},
    clock::Millis,
    failure::{Code, Failure},
    id::RunId,
};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// Longest name: run ids begin with it.
const NAME_CHARS_MAX: usize = 40;
const INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Windows that are looked at to find the newest one. What is beyond is found the next time.
const STEPS_MAX: u32 = 10_000;
/// Names that a text of the activity may hold in double braces.
const NAMES: [&str; 4] = ["windowStart", "windowEnd", "scheduleName", "runId"];

/// What becomes of windows that passed while nobody was there, or while an earlier one was still running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CatchUp {
    /// Each gets its run, the oldest first.
    #[default]
    All,
    /// One run for the whole time.
    Merge,
    /// Only the newest gets a run.
    Skip,
}

/// A schedule, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// Its name: run ids begin with it.
    pub name: String,
    /// Minute, hour, day of the month, month, day of the week: a window ends at each of these times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Instead of `cron`: the length of a window, such as `15m` or `6h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Name of a time zone, such as `Europe/Berlin`; default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// When the first window begins; default: when the schedule is first stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// No window ends later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// How long after its end a window's run begins: for files that come late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// What becomes of missed windows.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// The copy activity. Its texts may hold `{{ windowStart }}`, `{{ windowEnd }}`, `{{ scheduleName }}` and `{{ runId }}`;
    /// times may have a form: `{{ windowStart | %Y/%m/%d }}`.
    pub activity: Value,
}

/// The name of the schedule whose run this is, by its id: see [`Schedule::run_id`].
pub(crate) fn schedule_of(run: &RunId) -> Option<&str> {
    let (name, end) = run.as_str().rsplit_once('-')?;
    let is_time = end.len() == 16
        && end.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    is_time.then_some(name)
}

/// From when, and until when: what lies at `end` belongs to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// From then on.
    pub start: Millis,
    /// Before then.
    pub end: Millis,
}

fn invalid(why: impl std::fmt::Display) -> Failure {
    Failure::settings(Code::SettingsInvalid, format!("schedule: {why}"))
}

fn timestamp(at: Millis) -> Result<Timestamp, Failure> {
    Timestamp::from_millisecond(at.0).map_err(invalid)
}

impl Schedule {
    /// Reads and checks one, YAML or JSON.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Failure> {
        let schedule: Self = parse_settings(text, origin)?;
        schedule.check()?;
        Ok(schedule)
    }

    fn check(&self) -> Result<(), Failure> {
        if self.name.chars().count() > NAME_CHARS_MAX || self.name.parse::<RunId>().is_err() {
            return Err(invalid(format_args!(
                "name {:?} must have 1 to {NAME_CHARS_MAX} letters, digits, '-', '_' or '.', and start with a letter or digit",
                self.name
            )));
        }
        if self.cron.is_some() == self.interval.is_some() {
            return Err(invalid("either cron or interval must be given"));
        }
        if self.every()?.is_some_and(|every| every < INTERVAL_MIN) {
            return Err(invalid(format_args!("interval must be at least {INTERVAL_MIN:?}")));
        }
        self.delay()?;
        self.zone()?;
        let start = Millis(1_800_000_000_000);
        if let Some(end) = self.next_end(start)? {
            let window = Window { start, end };
            let activity = self.activity_for(window, &self.run_id(window)?)?;
            let age = activity.source.minimum_age().map_err(invalid)?;
            if activity.source.modified_datetime_end.is_some() && age > self.delay()? {
                return Err(invalid(
                    "delay must be at least as long as source.minimumAge: a file that is too young when its window's run begins \
                     belongs to no later window",
                ));
            }
        }
        Ok(())
    }

    fn zone(&self) -> Result<TimeZone, Failure> {
        let Some(name) = &self.time_zone else { return Ok(TimeZone::UTC) };
        TimeZone::get(name).map_err(|e| invalid(format_args!("timeZone {name:?}: {e}")))
    }

    fn every(&self) -> Result<Option<Duration>, Failure> {
        let parse = |text: &String| {
            humantime::parse_duration(text)
                .map_err(|e| invalid(format_args!("interval {text:?}: {e}; write 15m or 6h")))
        };
        self.interval.as_ref().map(parse).transpose()
    }

    fn delay(&self) -> Result<Duration, Failure> {
        let parse = |text: &String| {
            humantime::parse_duration(text).map_err(|e| invalid(format_args!("delay {text:?}: {e}; write 5m")))
        };
        Ok(self.delay.as_ref().map(parse).transpose()?.unwrap_or_default())
    }

    /// When the first window begins.
    pub(crate) fn first_start(&self, stored: Millis) -> Millis {
        self.start_time.map_or(stored, |at| Millis(at.as_millisecond()))
    }

    /// The end of the window that begins at `after`, if there is to be one.
    fn next_end(&self, after: Millis) -> Result<Option<Millis>, Failure> {
        let end = match (self.every()?, &self.cron) {
            (Some(every), _) => after.plus(every),
            (None, Some(cron)) => {
                let zone = self.time_zone.as_deref().unwrap_or("UTC");
                let failed =
                    |e: cronexpr::Error| invalid(format_args!("cron {cron:?}: {}", first_line(&e.to_string())));
                let table = cronexpr::parse_crontab(&format!("{cron} {zone}")).map_err(failed)?;
                let next = table.find_next(cronexpr::MakeTimestamp(timestamp(after)?)).map_err(failed)?;
                Millis(next.timestamp().as_millisecond())
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(end).filter(|end| self.end_time.is_none_or(|last| end.0 <= last.as_millisecond())))
    }

    /// The next window, and when its run begins.
    pub(crate) fn next(&self, after: Millis) -> Result<Option<(Window, Millis)>, Failure> {
        let delay = self.delay()?;
        Ok(self.next_end(after)?.map(|end| (Window { start: after, end }, end.plus(delay))))
    }

    /// The next windows as they follow each other, so many at most, and when the run of each begins. What is overdue comes first,
    /// in one window where `catchUp` says so.
    pub(crate) fn next_few(
        &self,
        after: Millis,
        now: Millis,
        count_max: usize,
    ) -> Result<Vec<(Window, Millis)>, Failure> {
        let delay = self.delay()?;
        let overdue = self.due(after, now)?.map(|window| (window, window.end.plus(delay)));
        let mut windows: Vec<_> = overdue.into_iter().collect();
        while windows.len() < count_max {
            let reached = windows.last().map_or(after, |(window, _)| window.end);
            let Some(next) = self.next(reached)? else { break };
            windows.push(next);
        }
        Ok(windows)
    }

    /// The window that is to be run now, after the one that ended at `after`.
    pub(crate) fn due(&self, after: Millis, now: Millis) -> Result<Option<Window>, Failure> {
        let Some((mut window, begins)) = self.next(after)? else { return Ok(None) };
        if begins > now {
            return Ok(None);
        }
        if self.catch_up == CatchUp::All {
            return Ok(Some(window));
        }
        for _ in 0..STEPS_MAX {
            match self.next(window.end)? {
                Some((later, begins)) if begins <= now => {
                    window.end = later.end;
                    if self.catch_up == CatchUp::Skip {
                        window.start = later.start;
                    }
                }
                _ => break,
            }
        }
        Ok(Some(window))
    }

    /// The run of a window: the same for every coordinator.
    pub(crate) fn run_id(&self, window: Window) -> Result<RunId, Failure> {
        let at = timestamp(window.end)?.strftime("%Y%m%dT%H%M%SZ");
        RunId::try_from(format!("{}-{at}", self.name)).map_err(invalid)
    }

    /// The activity of a window.
    pub(crate) fn activity_for(&self, window: Window, run: &RunId) -> Result<Activity, Failure> {
        let zone = self.zone()?;
        let mut activity = self.activity.clone();
        self.fill(&mut activity, &|name, form| {
            let of_time = |at: Millis| -> Result<String, Failure> {
                let at = timestamp(at)?;
                match form {
                    None => Ok(at.to_string()),
                    Some(form) => jiff::fmt::strtime::format(form, &at.to_zoned(zone.clone()))
                        .map_err(|e| invalid(format_args!("{{{{ {name} | {form} }}}}: {e}"))),
                }
            };
            match name {
                "windowStart" => of_time(window.start),
                "windowEnd" => of_time(window.end),
                "scheduleName" => Ok(self.name.clone()),
                "runId" => Ok(run.to_string()),
                _ => Err(invalid(format_args!("{{{{ {name} }}}} is none of {}", NAMES.join(", ")))),
            }
        })?;
        Activity::parse(&activity.to_string(), "schedule's activity")
    }

    fn fill(
        &self,
        value: &mut Value,
        of: &impl Fn(&str, Option<&str>) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        match value {
            Value::String(text) => *text = filled(text, of)?,
            Value::Array(items) => {
                for item in items {
                    self.fill(item, of)?;
                }
            }
            Value::Object(map) => {
                for item in map.values_mut() {
                    self.fill(item, of)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or(text)
}

/// A text with what stands in double braces replaced.
fn filled(text: &str, of: &impl Fn(&str, Option<&str>) -> Result<String, Failure>) -> Result<String, Failure> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, left) =
            after.split_once("}}").ok_or_else(|| invalid(format_args!("{text:?}: {{{{ without }}}}")))?;
        let (name, form) = match inside.split_once('|') {
            Some((name, form)) => (name, Some(form.trim())),
            None => (inside, None),
        };
        out.push_str(before);
        out.push_str(&of(name.trim(), form)?);
        rest = left;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Millis {
        Millis(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn schedule(change: &[(&str, Value)]) -> Result<Schedule, Failure> {
        let mut value = json!({
            "name": "taxi",
            "activity": {
                "name": "taxi {{ windowEnd | %Y-%m-%d }}",
                "source": {"type": "FileSystem", "folderPath": "/exports/{{ windowStart | %Y/%m/%d }}",
                           "modifiedDatetimeStart": "{{ windowStart }}", "modifiedDatetimeEnd": "{{windowEnd}}",
                           "format": {"type": "DelimitedText"}},
                "sink": {"type": "AzureDataExplorer", "endpoint": "http://127.0.0.1:7490", "database": "D", "table": "T"},
                "staging": {"type": "FileSystem", "folderPath": "/staging"},
            },
        });
        for (key, new) in change {
            value[*key] = new.clone();
        }
        Schedule::parse(&value.to_string(), "schedule")
    }

    #[test]
    fn windows_follow_each_other() {
        let berlin = [("cron", json!("5 0 * * *")), ("timeZone", json!("Europe/Berlin"))];
        for (case, change, after, now, expected) in [
            (
                "an hour",
                vec![("interval", json!("1h"))],
                "2026-11-23T10:00:00Z",
                "2026-11-23T11:00:00Z",
                Some(("2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z")),
            ),
            ("not yet", vec![("interval", json!("1h"))], "2026-11-23T10:00:00Z", "2026-11-23T10:59:59Z", None),
            (
                "with a delay",
                vec![("interval", json!("1h")), ("delay", json!("5m"))],
                "2026-11-23T10:00:00Z",
                "2026-11-23T11:04:59Z",
                None,
            ),
            (
                "missed ones one by one",
                vec![("interval", json!("1h"))],
                "2026-11-23T10:00:00Z",
                "2026-11-23T15:30:00Z",
                Some(("2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z")),
            ),
            (
                "missed ones in one",
                vec![("interval", json!("1h")), ("catchUp", json!("merge"))],
                "2026-11-23T10:00:00Z",
                "2026-11-23T15:30:00Z",
                Some(("2026-11-23T10:00:00Z", "2026-11-23T15:00:00Z")),
            ),
            (
                "missed ones left out",
                vec![("interval", json!("1h")), ("catchUp", json!("skip"))],
                "2026-11-23T10:00:00Z",
                "2026-11-23T15:30:00Z",
                Some(("2026-11-23T14:00:00Z", "2026-11-23T15:00:00Z")),
            ),
            (
                "summer time ends",
                berlin.to_vec(),
                "2026-10-23T22:05:00Z",
                "2026-10-30T00:00:00Z",
                Some(("2026-10-23T22:05:00Z", "2026-10-24T22:05:00Z")),
            ),
            (
                "a day of 25 hours",
                berlin.to_vec(),
                "2026-10-24T22:05:00Z",
                "2026-10-30T00:00:00Z",
                Some(("2026-10-24T22:05:00Z", "2026-10-25T23:05:00Z")),
            ),
            (
                "the end is reached",
                vec![("interval", json!("1h")), ("endTime", json!("2026-11-23T10:30:00Z"))],
                "2026-11-23T10:00:00Z",
                "2026-11-23T15:30:00Z",
                None,
            ),
        ] {
            let window = schedule(&change).unwrap().due(at(after), at(now)).unwrap();
            let expected = expected.map(|(start, end)| Window { start: at(start), end: at(end) });
            assert_eq!(window, expected, "{case}");
        }
    }

    #[test]
    fn an_activity_is_filled_in() {
        let schedule = schedule(&[("interval", json!("1h")), ("timeZone", json!("America/New_York"))]).unwrap();
        let window = Window { start: at("2026-11-23T03:00:00Z"), end: at("2026-11-23T04:00:00Z") };
        let run = schedule.run_id(window).unwrap();
        assert_eq!(run.as_str(), "taxi-20261123T040000Z");
        assert_eq!(schedule_of(&run), Some("taxi"));
        let activity = schedule.activity_for(window, &run).unwrap();
        assert_eq!(activity.source.folder_path, "/exports/2026/11/22");
        let source = serde_json::to_value(&activity.source).unwrap();
        assert_eq!(source["modifiedDatetimeStart"], "2026-11-23T03:00:00Z");
        assert_eq!(activity.name, "taxi 2026-11-22");
    }

    #[test]
    fn the_windows_to_come_end_where_the_schedule_does() {
        let end = json!("2026-11-23T12:30:00Z");
        let schedule = schedule(&[("interval", json!("1h")), ("delay", json!("5m")), ("endTime", end)]).unwrap();
        let reached = at("2026-11-23T10:00:00Z");
        let windows = |count_max| schedule.next_few(reached, at("2026-11-23T10:01:00Z"), count_max).unwrap();
        let first = Window { start: at("2026-11-23T10:00:00Z"), end: at("2026-11-23T11:00:00Z") };
        let second = Window { start: at("2026-11-23T11:00:00Z"), end: at("2026-11-23T12:00:00Z") };
        assert_eq!(windows(1), [(first, at("2026-11-23T11:05:00Z"))]);
        assert_eq!(windows(5), [(first, at("2026-11-23T11:05:00Z")), (second, at("2026-11-23T12:05:00Z"))]);
    }

    #[test]
    fn overdue_windows_are_shown_as_they_will_be_run() {
        for (catch_up, expected) in [
            ("all", [("10:00", "11:00"), ("11:00", "12:00"), ("12:00", "13:00")]),
            ("merge", [("10:00", "13:00"), ("13:00", "14:00"), ("14:00", "15:00")]),
            ("skip", [("12:00", "13:00"), ("13:00", "14:00"), ("14:00", "15:00")]),
        ] {
            let schedule = schedule(&[("interval", json!("1h")), ("catchUp", json!(catch_up))]).unwrap();
            let clock = |time: &str| at(&format!("2026-11-23T{time}:00Z"));
            let windows = schedule.next_few(clock("10:00"), clock("13:30"), 3).unwrap();
            let expected = expected.map(|(start, end)| Window { start: clock(start), end: clock(end) });
            assert_eq!(windows.iter().map(|(window, _)| *window).collect::<Vec<_>>(), expected, "{catch_up}");
        }
    }

    #[test]
    fn an_id_tells_whose_run_it_is() {
        for (id, name) in [
            ("taxi-20261123T040000Z", Some("taxi")),
            ("taxi-hourly-20261123T040000Z", Some("taxi-hourly")),
            ("taxi", None),
            ("taxi-backfill-2026-11", None),
            ("taxi-20261123T0400000", None),
            ("20261123T040000Z", None),
        ] {
            assert_eq!(schedule_of(&id.parse().unwrap()), name, "{id}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let mut young = schedule(&[("interval", json!("1h"))]).unwrap().activity;
        young["source"]["minimumAge"] = json!("2m");
        for (change, hint) in [
            (vec![], "either cron or interval"),
            (vec![("cron", json!("* * * * *")), ("interval", json!("1h"))], "either cron or interval"),
            (vec![("interval", json!("1s"))], "at least"),
            (vec![("interval", json!("soon"))], "write 15m"),
            (vec![("cron", json!("61 * * * *"))], "cron \"61 * * * *\""),
            (vec![("interval", json!("1h")), ("timeZone", json!("Mars/Base"))], "timeZone \"Mars/Base\""),
            (vec![("interval", json!("1h")), ("name", json!("a b"))], "name \"a b\""),
            (vec![("interval", json!("1h")), ("activity", young)], "at least as long as source.minimumAge"),
            (vec![("interval", json!("1h")), ("catchup", json!("all"))], "did you mean catchUp?"),
            (vec![("interval", json!("1h")), ("activity", json!({"name": "{{ now }}"}))], "is none of windowStart"),
        ] {
            let why = schedule(&change).unwrap_err().message;
            assert!(why.contains(hint), "{hint}: {why}");
        }
    }
}
