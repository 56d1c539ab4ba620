//! What keeps a listing from naming a file twice. Pure.
//!
//! A file list may name a file on two pages, and a folder that changes while it is read may show one twice. As two units its rows
//! would be loaded twice. So each page is stored with keys of its files, which no later page of the same listing may bring again.

use crate::store::RunRow;
use ferry_common::unit::{FileVersion, ListPage};
use ring::digest::{Context, SHA256};
use std::collections::{HashMap, HashSet};

/// Bytes of a hash that are kept.
pub(crate) const HASH_BYTES: usize = 16;
/// Digits of the hash of a folder that keys begin with.
const FOLDER_DIGITS: usize = 8;

/// A hash of some texts, as hexadecimal digits.
pub(crate) fn hash_of(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref()[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of a listing. Keys of one folder lie side by side: a page that touches the whole index costs the store many times as much.
pub(crate) fn key_of(path: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{}{}", &hash_of(&[folder])[..FOLDER_DIGITS], hash_of(&[path]))
}

/// The page with some of its files alone. Parts stay with their files.
pub(crate) fn keeping(page: &ListPage, mut is_kept: impl FnMut(&FileVersion) -> bool) -> ListPage {
    let mut splits: HashMap<u32, _> = page.splits.iter().map(|(at, ranges)| (*at, ranges)).collect();
    let mut left = ListPage { files: Vec::new(), splits: Vec::new(), ..page.clone() };
    for (at, file) in (0_u32..).zip(&page.files) {
        let parts = splits.remove(&at);
        if !is_kept(file) {
            continue;
        }
        if let Some(parts) = parts {
            left.splits.push((left.files.len() as u32, parts.clone()));
        }
        left.files.push(file.clone());
    }
    left
}

/// The page with each file once, and without those that are known; and the keys of its files.
pub(crate) fn each_once(page: &ListPage, known: Vec<String>) -> (ListPage, Vec<String>) {
    let mut met: HashSet<String> = known.into_iter().collect();
    let mut keys = Vec::with_capacity(page.files.len());
    let left = keeping(page, |file| {
        let key = key_of(&file.path);
        let is_new = met.insert(key.clone());
        if is_new {
            keys.push(key);
        }
        is_new
    });
    (left, keys)
}

/// What a run says of files that were named again; `None`: there are none.
pub(crate) fn told(run: &RunRow) -> Option<String> {
    let times = run.files_named_again;
    (times > 0).then(|| {
        format!("the listing named files again that it had named before, {times} times; each file is copied once")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_common::unit::FileRange;

    fn file(path: &str) -> FileVersion {
        FileVersion {
            path: path.to_owned(),
            relative_path: path.to_owned(),
            size_bytes: 1,
            modified_ns: 2,
            etag: "e".to_owned(),
        }
    }

    #[test]
    fn a_file_stays_on_a_page_once_and_parts_stay_with_their_files() {
        let parts = |count| (0..count).map(|number| FileRange { start: 0, end: 0, number, count }).collect::<Vec<_>>();
        let files = ["/d/known", "/d/a", "/d/b", "/d/a", "/d/c"].map(file).to_vec();
        let splits = vec![(0, parts(2)), (1, parts(3)), (3, parts(3)), (4, parts(4))];
        let page = ListPage { number: 3, files, splits, last: true, sample: vec![], warnings: vec![], trial: None };
        let (left, keys) = each_once(&page, vec![key_of("/d/known"), key_of("/e/c")]);
        assert_eq!(left.files, ["/d/a", "/d/b", "/d/c"].map(file));
        assert_eq!(left.splits, [(0, parts(3)), (2, parts(4))]);
        assert_eq!((left.number, left.last), (3, true));
        assert_eq!(keys, ["/d/a", "/d/b", "/d/c"].map(key_of));
    }

    #[test]
    fn keys_of_a_folder_begin_alike_and_are_a_files_own() {
        let (a, b, other) = (key_of("/d/a"), key_of("/d/b"), key_of("/e/a"));
        assert_eq!(a[..FOLDER_DIGITS], b[..FOLDER_DIGITS]);
        assert_ne!(a, b);
        assert_ne!(
            a[FOLDER_DIGITS..],
            other[FOLDER_DIGITS..],
            "folders whose hashes begin alike keep their files apart"
        );
    }
}
