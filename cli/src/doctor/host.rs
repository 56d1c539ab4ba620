//! CPU, memory and limits of this host, as the kernel tells them.

use super::{
    Finding,
    slots::{NODE_BYTES, SLOT_BYTES, slots_in},
};
use crate::output::bytes;
use std::{fs, time::Duration};

/// How long the compressor is measured.
const GZIP_TIME: Duration = Duration::from_secs(1);
/// The level that activities have unless they say another.
const GZIP_LEVEL: u32 = 1;
/// A core that compresses less holds the rest up: Data Factory's own figure for this sink is 11 to 13 MB/s.
const GZIP_SPEED_MIN: f64 = 30e6;
/// Open files that a node needs, and each slot more: source, connections, their sockets to the coordinator.
const NODE_FILES: u64 = 128;
const SLOT_FILES: u64 = 16;
/// A limit that is none.
const NO_LIMIT: u64 = 1 << 60;

/// Bytes of records that one core compresses a second, by the compressor that nodes use.
pub(super) fn gzip_speed() -> f64 {
    ferry_node::gzip_bytes_per_second(GZIP_LEVEL, GZIP_TIME)
}

/// Cores that this process may use: limits of containers count.
pub(super) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

pub(super) fn cpu(gzip: f64) -> Finding {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| cpu_model(&text));
    let model = model.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let detail = format!("{} cores, {model}; gzip {}/s of records a core", cores(), bytes(gzip as u64));
    if gzip < GZIP_SPEED_MIN {
        return Finding::weak(
            "cpu",
            detail,
            "more or faster cores, or settings.compression: none where the line is fast",
        );
    }
    Finding::ok("cpu", detail)
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let value = |line: &str| Some(line.split_once(':')?.1.trim().to_owned());
    cpuinfo.lines().find(|line| line.starts_with("model name") || line.starts_with("Model")).and_then(value)
}

/// Memory that may still be taken, by the kernel and by the limit of a container; `None` where neither says.
pub(super) fn memory_available() -> Option<u64> {
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_available(&text));
    // Control groups of version 2, and of version 1.
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        .filter(|limit| *limit < NO_LIMIT);
    match (free, limit) {
        (Some(free), Some(limit)) => Some(free.min(limit)),
        (free, limit) => free.or(limit),
    }
}

fn meminfo_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

pub(super) fn memory(available: Option<u64>, slots: u32) -> Finding {
    let Some(available) = available else {
        return Finding::ok("memory", "the kernel does not tell how much is free");
    };
    let needed = NODE_BYTES + u64::from(slots) * SLOT_BYTES;
    let detail = format!("{} free; {slots} slots take {}", bytes(available), bytes(needed));
    if available < NODE_BYTES + SLOT_BYTES {
        return Finding::bad("memory", detail, "free some, or raise the container's limit: one slot does not fit");
    }
    if slots_in(available) < cores() {
        return Finding::weak("memory", detail, "more memory would let every core copy");
    }
    Finding::ok("memory", detail)
}

pub(super) fn files(slots: u32) -> Finding {
    let limit = fs::read_to_string("/proc/self/limits").ok().and_then(|text| open_files(&text));
    let needed = NODE_FILES + u64::from(slots) * SLOT_FILES;
    match limit {
        None => Finding::ok("open files", "no limit is told"),
        Some(limit) if limit < needed => {
            let detail = format!("{limit} may be open, {slots} slots may need {needed}");
            Finding::weak("open files", detail, "raise it: LimitNOFILE= of the unit, or ulimit -n")
        }
        Some(limit) => Finding::ok("open files", format!("{limit} may be open")),
    }
}

fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(meminfo_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(meminfo_available("MemTotal: 9 kB\n"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files            unlimited            unlimited            files"), None);
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("Some CPU @ 2.0GHz"));
    }

    #[test]
    fn a_host_without_room_for_one_slot_is_bad() {
        assert_eq!(memory(Some(32 << 20), 1).verdict, Verdict::Bad);
        assert_eq!(memory(Some(1 << 50), 1).verdict, Verdict::Ok);
        assert_eq!(memory(None, 1).verdict, Verdict::Ok);
        assert_eq!(cpu(1e6).verdict, Verdict::Weak);
        assert_eq!(cpu(200e6).verdict, Verdict::Ok);
    }
}
