//! How fast the source is read and the work folder written.

use super::Finding;
use crate::output::bytes;
use ferry_common::storage::free_bytes;
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Bytes that are read at most.
const READ_BYTES_MAX: u64 = 256 << 20;
/// Bytes that are written.
const WRITE_BYTES: u64 = 64 << 20;
/// Bytes of one call.
const STEP_BYTES: usize = 1 << 20;
/// Entries of folders that are looked at.
const ENTRIES_MAX: usize = 10_000;
/// How long each measurement may take.
const TIME_MAX: Duration = Duration::from_secs(15);
/// Less than this holds one core up.
const SPEED_MIN: f64 = 50e6;
/// Below this much room a work folder is nearly full.
const FREE_BYTES_MIN: u64 = 1 << 30;

struct Measured {
    bytes: u64,
    time: Duration,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn told(&self) -> String {
        format!("{}/s ({} in {:.1} s)", bytes(self.rate() as u64), bytes(self.bytes), self.time.as_secs_f64())
    }
}

/// Reads below `path`, and tells how fast.
pub(super) fn read(path: &Path) -> Finding {
    let name = format!("read {}", path.display());
    let before = fetched();
    let measured = match files_below(path).and_then(|files| read_files(&files)) {
        Ok(measured) => measured,
        Err(e) => return Finding::bad(name, e.to_string(), "mount the share, or let this user read it"),
    };
    if measured.bytes == 0 {
        return Finding::weak(name, "there is nothing to read", "name a folder with files as they will be copied");
    }
    let from_disk = before.zip(fetched()).map(|(before, after)| after.saturating_sub(before));
    let told = measured.told();
    // What the kernel did not fetch it had.
    if from_disk.is_some_and(|fetched| fetched < measured.bytes / 2) {
        let why =
            "most of it was in the page cache, or on a share that the kernel does not count: a first read is slower";
        return Finding::ok(name, format!("{told}; {why}"));
    }
    if measured.rate() < SPEED_MIN {
        return Finding::weak(name, told, "a faster disk or share; more slots help where the delay is the network's");
    }
    Finding::ok(name, told)
}

/// Bytes that this process had fetched from storage; `None` where the kernel does not count.
fn fetched() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

/// Files of a folder and its folders, as they come. Links are not followed.
fn files_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    if fs::metadata(path)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut files, mut folders, mut seen) = (Vec::new(), vec![path.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            // One that may not be read among others is no matter.
            Err(_) if folder != path => continue,
            entries => entries?,
        };
        for entry in entries.flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return Ok(files);
            }
            match entry.file_type() {
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => {}
            }
        }
    }
    Ok(files)
}

fn read_files(files: &[PathBuf]) -> io::Result<Measured> {
    let mut buffer = vec![0; STEP_BYTES];
    let (mut total, began) = (0, Instant::now());
    for path in files {
        let mut file = File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        loop {
            let count = file.read(&mut buffer)?;
            total += count as u64;
            if total >= READ_BYTES_MAX || began.elapsed() > TIME_MAX {
                return Ok(Measured { bytes: total, time: began.elapsed() });
            }
            if count == 0 {
                break;
            }
        }
    }
    Ok(Measured { bytes: total, time: began.elapsed() })
}

/// Writes into `folder`, removes it again, and tells how fast it was and how much room is left.
pub(super) fn write(folder: &Path) -> Vec<Finding> {
    let name = format!("write {}", folder.display());
    let written = match write_file(folder) {
        Ok(written) => written,
        Err(e) => return vec![Finding::bad(name, e.to_string(), "make room, or name another folder with --work-dir")],
    };
    let speed = if written.rate() < SPEED_MIN {
        Finding::weak(name, written.told(), "a faster disk for temporary files")
    } else {
        Finding::ok(name, written.told())
    };
    let name = format!("room in {}", folder.display());
    let room = match free_bytes(folder) {
        Err(e) => Finding::weak(name, e.to_string(), "look at it by hand"),
        Ok(free) if free < FREE_BYTES_MIN => Finding::weak(name, format!("{} left", bytes(free)), "make room"),
        Ok(free) => Finding::ok(name, format!("{} left", bytes(free))),
    };
    vec![speed, room]
}

fn write_file(folder: &Path) -> io::Result<Measured> {
    // Without a name: it is gone when it is closed.
    let mut file = tempfile::tempfile_in(folder)?;
    let step: Vec<u8> = (0..STEP_BYTES).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (mut total, began) = (0, Instant::now());
    while total < WRITE_BYTES && began.elapsed() < TIME_MAX {
        file.write_all(&step)?;
        total += step.len() as u64;
    }
    file.sync_data()?;
    Ok(Measured { bytes: total, time: began.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn what_cannot_be_read_is_bad_and_what_is_empty_is_weak() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join("none")).verdict, Verdict::Bad);
        assert_eq!(read(folder.path()).verdict, Verdict::Weak);
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/a.csv"), vec![b'x'; 3 << 20]).unwrap();
        let finding = read(folder.path());
        assert!(finding.detail.contains("3.1 MB"), "{}", finding.detail);
        assert_eq!(files_below(&folder.path().join("deep/a.csv")).unwrap().len(), 1);
    }

    #[test]
    fn writing_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let findings = write(folder.path());
        assert!(findings.len() == 2 && findings[0].detail.contains("67.1 MB"), "{findings:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(write(&folder.path().join("none"))[0].verdict, Verdict::Bad);
    }
}
