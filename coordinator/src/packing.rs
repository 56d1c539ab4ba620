//! Which units the files of a listing become. Pure.

use crate::store::{RunRow, UnitRow};
use ferry_common::{
    activity::FormatType,
    id::UnitNumber,
    unit::{FileRange, FileVersion, ListPage, Scope},
};

/// Files smaller than this are packed.
const PACK_FILE_BYTES_MAX: u64 = 1 << 20;
/// Files on a page from which on packing pays: fewer are better spread over the nodes.
const PACK_FILES_MIN: usize = 64;
/// Bytes of a pack, as stored, about.
const PACK_BYTES: u64 = 32 << 20;
/// The units of a page's files: one a file, but for large files that are split and small ones that are packed.
pub(crate) fn units_of_page(run: &RunRow, page: &ListPage) -> Vec<UnitRow> {
    let settings = &run.activity.settings;
    let format = run.activity.source.format.kind;
    let is_small = |file: &FileVersion| file.size_bytes <= PACK_FILE_BYTES_MAX && !is_archive(&file.path);
    let small = page.files.iter().filter(|f| is_small(f)).count();
    // A file of a pack cannot be left out alone.
    let packs = settings.pack_small_files && !settings.skip_error_file && format.is_text() && small >= PACK_FILES_MIN;
    let mut units = Vec::new();
    let mut number = run.units;
    let mut new = |file: &FileVersion| {
        number += 1;
        UnitRow::new(run.id.clone(), UnitNumber(number), file.clone())
    };
    let mut pack: Vec<FileVersion> = Vec::new();
    let mut pack_bytes = 0;
    for (index, file) in page.files.iter().enumerate() {
        if let Some((_, ranges)) = page.splits.iter().find(|(at, _)| *at as usize == index) {
            let bytes = |r: &FileRange| match format {
                // Parts are counted in row groups.
                FormatType::Parquet => file.size_bytes / u64::from(r.count.max(1)),
                _ => r.end.saturating_sub(r.start),
            };
            for range in ranges {
                let mut unit = new(file);
                (unit.size_bytes, unit.scope) = (bytes(range), Scope::Range(*range));
                unit.file_count = u32::from(range.number == 0);
                units.push(unit);
            }
        } else if packs && is_small(file) {
            pack_bytes += file.size_bytes;
            pack.push(file.clone());
            if pack_bytes >= PACK_BYTES {
                units.push(packed(new(&pack[0]), std::mem::take(&mut pack), pack_bytes));
                pack_bytes = 0;
            }
        } else {
            units.push(new(file));
        }
    }
    if !pack.is_empty() {
        units.push(packed(new(&pack[0]), pack, pack_bytes));
    }
    units
}

fn packed(mut unit: UnitRow, files: Vec<FileVersion>, bytes: u64) -> UnitRow {
    (unit.size_bytes, unit.file_count) = (bytes, files.len() as u32);
    unit.scope = Scope::Pack(files);
    unit
}

/// The name is one of an archive: it is many files by itself.
pub(crate) fn is_archive(path: &str) -> bool {
    let name = path.to_ascii_lowercase();
    [".zip", ".tar", ".tgz", ".tbz2", ".txz"].iter().any(|end| name.ends_with(end)) || name.contains(".tar.")
}
