//! Conversions between generated types and plain values.

use super::{WireError, generated as pb};
use crate::{
    failure::{Code, Failure, Fault, Retry},
    id::{AttemptNumber, ChunkNumber, LeaseToken, RunId, UnitNumber},
    unit::{
        AttemptKey, BlobAsk, BlobSignatures, Chunk, ClearWork, CopyWork, Counters, Event, FileEnd, FileRange, FileRows,
        FileVersion, Grant, Integrity, ListPage, Report, Resume, SampleColumn, Scope, SignedBlobs, StagingTarget,
        Trial, Work,
    },
};
use std::time::Duration;

impl From<Failure> for pb::Failure {
    fn from(failure: Failure) -> Self {
        let fault = match failure.fault {
            Fault::Settings => pb::Fault::Settings,
            Fault::Source => pb::Fault::Source,
            Fault::Sink => pb::Fault::Sink,
            Fault::Runtime => pb::Fault::Runtime,
        };
        let (retry, after) = match failure.retry {
            Retry::Never => (pb::RetryKind::Never, 0),
            Retry::Backoff => (pb::RetryKind::Backoff, 0),
            Retry::After(wait) => (pb::RetryKind::After, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        };
        Self {
            code: failure.code.as_str().to_owned(),
            fault: fault.into(),
            retry: retry.into(),
            retry_after_ms: after,
            message: failure.message,
        }
    }
}

impl From<pb::Failure> for Failure {
    /// A code of a newer version is kept in the message and judged as that side judged it.
    fn from(failure: pb::Failure) -> Self {
        let fault = match failure.fault() {
            pb::Fault::Settings => Fault::Settings,
            pb::Fault::Source => Fault::Source,
            pb::Fault::Sink => Fault::Sink,
            pb::Fault::Runtime | pb::Fault::Unspecified => Fault::Runtime,
        };
        let retry = match failure.retry() {
            pb::RetryKind::Never => Retry::Never,
            pb::RetryKind::After => Retry::After(Duration::from_millis(failure.retry_after_ms)),
            pb::RetryKind::Backoff | pb::RetryKind::Unspecified => Retry::Backoff,
        };
        match Code::from_name(&failure.code) {
            Some(code) => Self::new(code, fault, retry, failure.message),
            None => Self::new(Code::Internal, fault, retry, format!("{}: {}", failure.code, failure.message)),
        }
    }
}

impl From<Counters> for pb::Counters {
    fn from(c: Counters) -> Self {
        Self {
            data_read_bytes: c.data_read_bytes,
            data_written_bytes: c.data_written_bytes,
            staged_bytes: c.staged_bytes,
            rows_read: c.rows_read,
            rows_skipped: c.rows_skipped,
        }
    }
}

impl From<pb::Counters> for Counters {
    fn from(c: pb::Counters) -> Self {
        Self {
            data_read_bytes: c.data_read_bytes,
            data_written_bytes: c.data_written_bytes,
            staged_bytes: c.staged_bytes,
            rows_read: c.rows_read,
            rows_skipped: c.rows_skipped,
        }
    }
}

impl From<AttemptKey> for pb::AttemptKey {
    fn from(key: AttemptKey) -> Self {
        Self {
            run_id: key.run.into(),
            unit: key.unit.0,
            attempt: key.attempt.0,
            lease_token: key.token.as_str().to_owned(),
        }
    }
}

impl TryFrom<pb::AttemptKey> for AttemptKey {
    type Error = WireError;
    fn try_from(key: pb::AttemptKey) -> Result<Self, WireError> {
        Ok(Self {
            run: RunId::try_from(key.run_id).map_err(|e| WireError::invalid("run_id", e))?,
            unit: UnitNumber(key.unit),
            attempt: AttemptNumber(key.attempt),
            token: LeaseToken::from_wire(key.lease_token),
        })
    }
}

fn key(key: Option<pb::AttemptKey>) -> Result<AttemptKey, WireError> {
    key.ok_or(WireError::Missing("key"))?.try_into()
}

impl From<FileVersion> for pb::FileVersion {
    fn from(f: FileVersion) -> Self {
        Self {
            path: f.path,
            relative_path: f.relative_path,
            size_bytes: f.size_bytes,
            modified_ns: f.modified_ns,
            etag: f.etag,
        }
    }
}

impl From<pb::FileVersion> for FileVersion {
    fn from(f: pb::FileVersion) -> Self {
        Self {
            path: f.path,
            relative_path: f.relative_path,
            size_bytes: f.size_bytes,
            modified_ns: f.modified_ns,
            etag: f.etag,
        }
    }
}

impl From<Chunk> for pb::Chunk {
    fn from(c: Chunk) -> Self {
        Self {
            number: c.number.0,
            blob: c.blob,
            raw_bytes: c.raw_bytes,
            staged_bytes: c.staged_bytes,
            rows: c.rows,
            source_end_bytes: c.source_end_bytes,
            rows_end: c.rows_end,
            source_lines_end: c.source_lines_end,
            crc32: c.crc32,
            file_end: c.file_end,
            skipped_end: c.skipped_end,
            quarantine: c.quarantine.unwrap_or_default(),
            created: c.created.unwrap_or_default(),
            files: c.files.into_iter().map(Into::into).collect(),
        }
    }
}

/// A text that may be absent, which the wire writes as empty.
fn present(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

impl From<FileRows> for pb::FileRows {
    fn from(f: FileRows) -> Self {
        Self { relative_path: f.relative_path, rows: f.rows, skipped: f.skipped }
    }
}

impl From<pb::FileRows> for FileRows {
    fn from(f: pb::FileRows) -> Self {
        Self { relative_path: f.relative_path, rows: f.rows, skipped: f.skipped }
    }
}

impl From<FileRange> for pb::FileRange {
    fn from(r: FileRange) -> Self {
        Self { start: r.start, end: r.end, number: r.number, count: r.count }
    }
}

impl From<pb::FileRange> for FileRange {
    fn from(r: pb::FileRange) -> Self {
        Self { start: r.start, end: r.end, number: r.number, count: r.count }
    }
}

impl From<pb::Chunk> for Chunk {
    fn from(c: pb::Chunk) -> Self {
        Self {
            number: ChunkNumber(c.number),
            blob: c.blob,
            raw_bytes: c.raw_bytes,
            staged_bytes: c.staged_bytes,
            rows: c.rows,
            source_end_bytes: c.source_end_bytes,
            rows_end: c.rows_end,
            source_lines_end: c.source_lines_end,
            crc32: c.crc32,
            file_end: c.file_end,
            skipped_end: c.skipped_end,
            quarantine: present(c.quarantine),
            created: present(c.created),
            files: c.files.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<SampleColumn> for pb::SampleColumn {
    fn from(c: SampleColumn) -> Self {
        Self {
            name: c.name,
            r#type: c.kind,
            is_added: c.is_added,
            reads_as: c.reads_as.into_iter().map(|k| k.as_str().to_owned()).collect(),
        }
    }
}

impl From<pb::SampleColumn> for SampleColumn {
    fn from(c: pb::SampleColumn) -> Self {
        Self {
            name: c.name,
            kind: c.r#type,
            is_added: c.is_added,
            reads_as: c.reads_as.iter().filter_map(|k| k.parse().ok()).collect(),
        }
    }
}

impl From<ListPage> for pb::ListPage {
    fn from(page: ListPage) -> Self {
        Self {
            number: page.number,
            files: page.files.into_iter().map(Into::into).collect(),
            last: page.last,
            sample: page.sample.into_iter().map(Into::into).collect(),
            warnings: page.warnings,
            splits: page
                .splits
                .into_iter()
                .map(|(file, ranges)| pb::Split { file, ranges: ranges.into_iter().map(Into::into).collect() })
                .collect(),
            trial: page.trial.map(Into::into),
        }
    }
}

impl From<Trial> for pb::Trial {
    fn from(t: Trial) -> Self {
        Self { counters: Some(t.counters.into()), duration_us: t.duration_us, files: t.files, why_not: t.why_not }
    }
}

impl From<pb::Trial> for Trial {
    fn from(t: pb::Trial) -> Self {
        let counters = t.counters.unwrap_or_default().into();
        Self { counters, duration_us: t.duration_us, files: t.files, why_not: t.why_not }
    }
}

impl From<pb::ListPage> for ListPage {
    fn from(page: pb::ListPage) -> Self {
        Self {
            number: page.number,
            files: page.files.into_iter().map(Into::into).collect(),
            last: page.last,
            sample: page.sample.into_iter().map(Into::into).collect(),
            warnings: page.warnings,
            splits: page.splits.into_iter().map(|s| (s.file, s.ranges.into_iter().map(Into::into).collect())).collect(),
            trial: page.trial.map(Into::into),
        }
    }
}

impl From<Report> for pb::Report {
    fn from(report: Report) -> Self {
        use pb::report::Event as E;
        let event = match report.event {
            Event::Listed(page) => E::ListPage(page.into()),
            Event::ChunkStaged(chunk) => E::ChunkStaged(chunk.into()),
            Event::Completed { counters, chunks, files, quarantine } => E::Completed(pb::Completed {
                counters: Some(counters.into()),
                chunks,
                files: files.into_iter().map(Into::into).collect(),
                quarantine: quarantine.unwrap_or_default(),
            }),
            Event::Failed(failure) => E::AttemptFailed(failure.into()),
            Event::GivenBack => E::GivenBack(pb::GivenBack {}),
            Event::Cleared(ends) => E::Cleared(pb::Cleared { ends: ends.into_iter().map(Into::into).collect() }),
        };
        Self { sequence: report.sequence, key: Some(report.key.into()), event: Some(event) }
    }
}

impl TryFrom<pb::Report> for Report {
    type Error = WireError;
    fn try_from(report: pb::Report) -> Result<Self, WireError> {
        use pb::report::Event as E;
        let event = match report.event.ok_or(WireError::Missing("event"))? {
            E::ListPage(page) => Event::Listed(page.into()),
            E::ChunkStaged(chunk) => Event::ChunkStaged(chunk.into()),
            E::Completed(done) => Event::Completed {
                counters: done.counters.unwrap_or_default().into(),
                chunks: done.chunks,
                files: done.files.into_iter().map(Into::into).collect(),
                quarantine: present(done.quarantine),
            },
            E::AttemptFailed(failure) => Event::Failed(failure.into()),
            E::GivenBack(_) => Event::GivenBack,
            E::Cleared(cleared) => {
                Event::Cleared(cleared.ends.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
        };
        Ok(Self { sequence: report.sequence, key: key(report.key)?, event })
    }
}

impl From<FileEnd> for pb::FileEnd {
    fn from(end: FileEnd) -> Self {
        let (kind, why) = match end {
            FileEnd::Done => (pb::FileEndKind::Done, String::new()),
            FileEnd::Gone => (pb::FileEndKind::Gone, String::new()),
            FileEnd::Changed(why) => (pb::FileEndKind::Changed, why),
            FileEnd::Failed(why) => (pb::FileEndKind::Failed, why),
        };
        Self { kind: kind.into(), why }
    }
}

impl TryFrom<pb::FileEnd> for FileEnd {
    type Error = WireError;
    fn try_from(end: pb::FileEnd) -> Result<Self, WireError> {
        match end.kind() {
            pb::FileEndKind::Done => Ok(Self::Done),
            pb::FileEndKind::Gone => Ok(Self::Gone),
            pb::FileEndKind::Changed => Ok(Self::Changed(end.why)),
            pb::FileEndKind::Failed => Ok(Self::Failed(end.why)),
            // Never taken for done.
            pb::FileEndKind::Unspecified => Err(WireError::invalid("kind", "no end of a file that is known here")),
        }
    }
}

/// A value inside a message, as JSON.
fn json<T: serde::Serialize>(name: &'static str, value: &T) -> Result<String, WireError> {
    serde_json::to_string(value).map_err(|e| WireError::invalid(name, e))
}

fn from_json<T: serde::de::DeserializeOwned>(name: &'static str, json: &str) -> Result<T, WireError> {
    serde_json::from_str(json).map_err(|e| WireError::invalid(name, e))
}

impl TryFrom<Grant> for pb::Grant {
    type Error = WireError;
    fn try_from(grant: Grant) -> Result<Self, WireError> {
        use pb::grant::Work as W;
        let work = match grant.work {
            Work::List { source, page_files_max, sample_files_max, split_bytes, trial } => W::List(pb::ListWork {
                source_json: json("source_json", &source)?,
                page_files_max,
                sample_files_max,
                split_bytes,
                trial_settings_json: match &trial {
                    Some(settings) => json("trial_settings_json", settings)?,
                    None => String::new(),
                },
            }),
            Work::Copy(copy) => {
                let (range, pack) = match copy.scope {
                    Scope::File => (None, Vec::new()),
                    Scope::Range(range) => (Some(range.into()), Vec::new()),
                    Scope::Pack(files) => (None, files.into_iter().map(Into::into).collect()),
                };
                W::Copy(pb::CopyWork {
                    source_json: json("source_json", &copy.source)?,
                    settings_json: json("settings_json", &copy.settings)?,
                    plan_json: json("plan_json", &copy.plan)?,
                    creation_time_json: match &copy.creation_time {
                        Some(time) => json("creation_time_json", time)?,
                        None => String::new(),
                    },
                    file: Some(copy.file.into()),
                    staging: Some(copy.staging.into()),
                    resume: Some(copy.resume.into()),
                    range,
                    pack,
                })
            }
            Work::Clear(clear) => W::Clear(pb::ClearWork {
                folder_path: clear.folder_path,
                files: clear.files.into_iter().map(Into::into).collect(),
                move_to: clear.move_to.unwrap_or_default(),
            }),
        };
        Ok(Self { key: Some(grant.key.into()), work: Some(work) })
    }
}

impl TryFrom<pb::Grant> for Grant {
    type Error = WireError;
    fn try_from(grant: pb::Grant) -> Result<Self, WireError> {
        use pb::grant::Work as W;
        let work = match grant.work.ok_or(WireError::Missing("work"))? {
            W::List(list) => Work::List {
                source: from_json("source_json", &list.source_json)?,
                page_files_max: list.page_files_max,
                sample_files_max: list.sample_files_max,
                split_bytes: list.split_bytes,
                trial: match list.trial_settings_json.as_str() {
                    "" => None,
                    text => Some(from_json("trial_settings_json", text)?),
                },
            },
            W::Copy(copy) => Work::Copy(Box::new(CopyWork {
                file: copy.file.ok_or(WireError::Missing("file"))?.into(),
                scope: match (copy.range, copy.pack) {
                    (Some(range), _) => Scope::Range(range.into()),
                    (None, pack) if pack.is_empty() => Scope::File,
                    (None, pack) => Scope::Pack(pack.into_iter().map(Into::into).collect()),
                },
                source: from_json("source_json", &copy.source_json)?,
                settings: from_json("settings_json", &copy.settings_json)?,
                creation_time: match copy.creation_time_json.as_str() {
                    "" => None,
                    text => Some(from_json("creation_time_json", text)?),
                },
                plan: from_json("plan_json", &copy.plan_json)?,
                staging: copy.staging.ok_or(WireError::Missing("staging"))?.try_into()?,
                resume: copy.resume.unwrap_or_default().into(),
            })),
            W::Clear(clear) => Work::Clear(ClearWork {
                folder_path: clear.folder_path,
                files: clear.files.into_iter().map(Into::into).collect(),
                move_to: present(clear.move_to),
            }),
        };
        Ok(Self { key: key(grant.key)?, work })
    }
}

impl From<Resume> for pb::Resume {
    fn from(r: Resume) -> Self {
        Self {
            next_chunk: r.next_chunk,
            source_offset_bytes: r.source_offset_bytes,
            source_lines: r.source_lines,
            rows: r.rows,
            rows_skipped: r.rows_skipped,
            file: r.file,
            accepted_chunks: r.accepted_chunks.into_iter().map(|c| c.0).collect(),
        }
    }
}

impl From<pb::Resume> for Resume {
    fn from(r: pb::Resume) -> Self {
        Self {
            next_chunk: r.next_chunk,
            source_offset_bytes: r.source_offset_bytes,
            source_lines: r.source_lines,
            rows: r.rows,
            rows_skipped: r.rows_skipped,
            file: r.file,
            accepted_chunks: r.accepted_chunks.into_iter().map(ChunkNumber).collect(),
        }
    }
}

impl From<BlobAsk> for pb::BlobAsk {
    fn from(ask: BlobAsk) -> Self {
        Self { first_chunk: ask.first_chunk, chunks: ask.chunks }
    }
}

impl From<pb::BlobAsk> for BlobAsk {
    fn from(ask: pb::BlobAsk) -> Self {
        Self { first_chunk: ask.first_chunk, chunks: ask.chunks }
    }
}

impl From<BlobSignatures> for pb::BlobSignatures {
    fn from(s: BlobSignatures) -> Self {
        Self {
            common: s.common,
            first_chunk: s.first_chunk,
            chunks: s.chunks,
            quarantines: s.quarantines,
            ttl_ms: u64::try_from(s.ttl.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl From<pb::BlobSignatures> for BlobSignatures {
    fn from(s: pb::BlobSignatures) -> Self {
        Self {
            common: s.common,
            first_chunk: s.first_chunk,
            chunks: s.chunks,
            quarantines: s.quarantines,
            ttl: Duration::from_millis(s.ttl_ms),
        }
    }
}

impl From<SignedBlobs> for pb::SignedBlobs {
    fn from(signed: SignedBlobs) -> Self {
        Self { key: Some(signed.key.into()), signatures: Some(signed.signatures.into()) }
    }
}

impl TryFrom<pb::SignedBlobs> for SignedBlobs {
    type Error = WireError;
    fn try_from(signed: pb::SignedBlobs) -> Result<Self, WireError> {
        let signatures = signed.signatures.ok_or(WireError::Missing("signatures"))?;
        Ok(Self { key: key(signed.key)?, signatures: signatures.into() })
    }
}

impl From<StagingTarget> for pb::StagingTarget {
    fn from(target: StagingTarget) -> Self {
        use pb::staging_target::Kind;
        let blobs = |container_sas_url: String, signatures: Option<BlobSignatures>, integrity: Integrity| Self {
            kind: Some(Kind::AzureBlob(pb::AzureBlobTarget {
                container_sas_url,
                signatures: signatures.map(Into::into),
            })),
            integrity: match integrity {
                Integrity::None => "none",
                Integrity::Md5 => "md5",
                Integrity::Crc64 => "crc64",
            }
            .to_owned(),
        };
        match target {
            StagingTarget::SignedBlobs { container_url, integrity, signatures } => {
                blobs(container_url, Some(signatures), integrity)
            }
            StagingTarget::AzureBlob { container_sas_url, integrity } => blobs(container_sas_url, None, integrity),
            StagingTarget::FileSystem { folder } => {
                Self { kind: Some(Kind::FileSystem(pb::FileSystemTarget { folder })), integrity: "none".to_owned() }
            }
        }
    }
}

impl TryFrom<pb::StagingTarget> for StagingTarget {
    type Error = WireError;
    fn try_from(target: pb::StagingTarget) -> Result<Self, WireError> {
        use pb::staging_target::Kind;
        let integrity = match target.integrity.as_str() {
            "crc64" => Integrity::Crc64,
            "md5" => Integrity::Md5,
            _ => Integrity::None,
        };
        Ok(match target.kind.ok_or(WireError::Missing("kind"))? {
            Kind::AzureBlob(pb::AzureBlobTarget { container_sas_url, signatures }) => match signatures {
                Some(signatures) => {
                    Self::SignedBlobs { container_url: container_sas_url, integrity, signatures: signatures.into() }
                }
                None => Self::AzureBlob { container_sas_url, integrity },
            },
            Kind::FileSystem(files) => Self::FileSystem { folder: files.folder },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_wire() {
        let key = AttemptKey {
            run: "r1".parse().unwrap(),
            unit: UnitNumber(3),
            attempt: AttemptNumber(2),
            token: LeaseToken::generate(),
        };
        let chunk = Chunk {
            number: ChunkNumber(1),
            blob: "r1/3/2/1.csv.gz".to_owned(),
            raw_bytes: 10,
            staged_bytes: 5,
            rows: 2,
            source_end_bytes: 20,
            rows_end: 4,
            source_lines_end: 3,
            crc32: 9,
            file_end: 2,
            skipped_end: 1,
            quarantine: Some("q".to_owned()),
            created: Some("2026-01-02T00:00:00Z".to_owned()),
            files: vec![FileRows { relative_path: "a".into(), rows: 2, skipped: 1 }],
        };
        let failure = Failure::new(Code::SourceChanged, Fault::Source, Retry::After(Duration::from_secs(1)), "x");
        for event in [
            Event::ChunkStaged(chunk),
            Event::Failed(failure),
            Event::GivenBack,
            Event::Cleared(vec![
                FileEnd::Done,
                FileEnd::Gone,
                FileEnd::Changed("c".to_owned()),
                FileEnd::Failed("f".to_owned()),
            ]),
            Event::Listed(ListPage {
                number: 3,
                files: Vec::new(),
                splits: Vec::new(),
                last: true,
                sample: Vec::new(),
                warnings: vec!["w".to_owned()],
                trial: Some(Trial {
                    counters: Counters { staged_bytes: 4, ..Default::default() },
                    duration_us: 5,
                    files: 6,
                    why_not: "x".to_owned(),
                }),
            }),
            Event::Completed {
                counters: Counters { rows_read: 1, ..Default::default() },
                chunks: 1,
                files: vec![FileRows { relative_path: "a".into(), rows: 2, skipped: 1 }],
                quarantine: None,
            },
        ] {
            let report = Report { sequence: 7, key: key.clone(), event };
            let back = Report::try_from(pb::Report::from(report.clone())).unwrap();
            assert_eq!(back, report);
        }
    }

    #[test]
    fn where_to_stage_survives_the_wire() {
        let signatures = BlobSignatures {
            common: "sv=1&sp=cw".to_owned(),
            first_chunk: 7,
            chunks: vec!["a%3D".to_owned(), "b%3D".to_owned()],
            quarantines: vec!["c%3D".to_owned(), "d%3D".to_owned()],
            ttl: Duration::from_secs(60),
        };
        let container_url = "https://a/c".to_owned();
        for target in [
            StagingTarget::SignedBlobs { container_url, integrity: Integrity::Md5, signatures },
            StagingTarget::AzureBlob { container_sas_url: "https://a/c?sig=s".to_owned(), integrity: Integrity::Crc64 },
            StagingTarget::FileSystem { folder: "/f".to_owned() },
        ] {
            let shown = format!("{target:?}");
            assert!(!["a%3D", "c%3D", "sig=s"].iter().any(|secret| shown.contains(secret)), "{shown}");
            assert_eq!(StagingTarget::try_from(pb::StagingTarget::from(target.clone())).unwrap(), target);
        }
    }

    #[test]
    fn a_listing_is_asked_for_a_trial_or_for_none() {
        let source = r#"{"type":"FileSystem","folderPath":"/d","format":{"type":"Json"}}"#;
        let settings = crate::activity::Settings { compression_level: 3, ..Default::default() };
        for trial in [None, Some(Box::new(settings))] {
            let work = Work::List {
                source: Box::new(serde_json::from_str(source).unwrap()),
                page_files_max: 1,
                sample_files_max: 2,
                split_bytes: 3,
                trial,
            };
            let key = AttemptKey {
                run: "r1".parse().unwrap(),
                unit: UnitNumber::LISTING,
                attempt: AttemptNumber(1),
                token: LeaseToken::generate(),
            };
            let grant = Grant { key, work };
            assert_eq!(Grant::try_from(pb::Grant::try_from(grant.clone()).unwrap()).unwrap(), grant);
        }
    }

    #[test]
    fn what_becomes_of_files_survives_the_wire() {
        let file = FileVersion {
            path: "/d/a".to_owned(),
            relative_path: "a".to_owned(),
            size_bytes: 1,
            modified_ns: 2,
            etag: "e".to_owned(),
        };
        for move_to in [None, Some("/done".to_owned())] {
            let key = AttemptKey {
                run: "r1".parse().unwrap(),
                unit: UnitNumber::LISTING,
                attempt: AttemptNumber(2),
                token: LeaseToken::generate(),
            };
            let work = Work::Clear(ClearWork { folder_path: "/d".to_owned(), files: vec![file.clone()], move_to });
            let grant = Grant { key, work };
            assert_eq!(Grant::try_from(pb::Grant::try_from(grant.clone()).unwrap()).unwrap(), grant);
        }
        assert!(FileEnd::try_from(pb::FileEnd { kind: 99, why: String::new() }).is_err(), "an end of a later release");
    }

    #[test]
    fn a_message_without_its_parts_is_refused() {
        assert!(Report::try_from(pb::Report::default()).is_err());
        assert!(Grant::try_from(pb::Grant::default()).is_err());
    }
}
