//! Files of real folders, deleted and moved.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};

struct Bench {
    outer: tempfile::TempDir,
    roots: Roots,
}

impl Bench {
    /// A root with the folder `in`, and beside the root a folder that is nobody's business.
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("root/in")).unwrap();
        fs::create_dir(outer.path().join("outside")).unwrap();
        let roots = Roots::new([outer.path().join("root")]).unwrap();
        Self { outer, roots }
    }

    fn root(&self) -> PathBuf {
        self.outer.path().join("root")
    }

    fn write(&self, relative: &str, text: &str) -> FileVersion {
        let path = self.root().join("in").join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self.version(relative)
    }

    fn version(&self, relative: &str) -> FileVersion {
        let path = self.root().join("in").join(relative);
        let about = fs::metadata(&path).unwrap();
        version_of(path.to_str().unwrap().to_owned(), relative.to_owned(), &about)
    }

    fn work(&self, files: Vec<FileVersion>, move_to: Option<PathBuf>) -> ClearWork {
        let folder_path = self.root().join("in").to_str().unwrap().to_owned();
        ClearWork { folder_path, files, move_to: move_to.map(|p| p.to_str().unwrap().to_owned()) }
    }

    fn clear(&self, files: Vec<FileVersion>, move_to: Option<PathBuf>) -> Vec<FileEnd> {
        clear(&self.work(files, move_to), &self.roots, &CancellationToken::new()).unwrap().unwrap()
    }
}

#[test]
fn what_was_loaded_is_deleted_and_what_changed_since_is_left() {
    let bench = Bench::new();
    let files = vec![bench.write("a.csv", "1"), bench.write("d/b.csv", "2"), bench.write("c.csv", "3")];
    fs::write(bench.root().join("in/c.csv"), "three").unwrap();
    let ends = bench.clear(files.clone(), None);
    let changed = FileEnd::Changed("it had 1 bytes and has 5".to_owned());
    assert_eq!(ends, [FileEnd::Done, FileEnd::Done, changed.clone()]);
    assert!(!bench.root().join("in/a.csv").exists() && !bench.root().join("in/d/b.csv").exists());
    assert_eq!(fs::read_to_string(bench.root().join("in/c.csv")).unwrap(), "three");
    // The same page once more, after a crash.
    assert_eq!(bench.clear(files, None), [FileEnd::Gone, FileEnd::Gone, changed]);
}

#[test]
fn moved_files_keep_their_paths_and_overwrite_nothing() {
    let bench = Bench::new();
    let files = vec![bench.write("a.csv.gz", "new"), bench.write("d/e/b.csv", "2")];
    let done = bench.root().join("done");
    fs::create_dir(&done).unwrap();
    fs::write(done.join("a.csv.gz"), "old").unwrap();
    let ends = bench.clear(files.clone(), Some(done.clone()));
    assert_eq!(ends, [FileEnd::Done, FileEnd::Done]);
    let read = |name: &str| fs::read_to_string(done.join(name)).unwrap();
    assert_eq!((read("a.csv.gz"), read("a-1.csv.gz"), read("d/e/b.csv")), ("old".into(), "new".into(), "2".into()));
    assert_eq!(bench.clear(files, Some(done.clone())), [FileEnd::Gone, FileEnd::Gone]);
    assert_eq!(fs::read_dir(&done).unwrap().count(), 3, "a page that is done again leaves nothing");
}

#[test]
fn nothing_outside_the_roots_is_touched() {
    let bench = Bench::new();
    let outside = bench.outer.path().join("outside");
    fs::write(outside.join("x.csv"), "x").unwrap();
    // A folder that became a link after it was listed, a file that did, a link in the folder to move to, and a path upwards.
    symlink(&outside, bench.root().join("in/d")).unwrap();
    symlink(outside.join("x.csv"), bench.root().join("in/l.csv")).unwrap();
    fs::create_dir(bench.root().join("done")).unwrap();
    symlink(&outside, bench.root().join("done/sub")).unwrap();
    let inside = bench.write("sub/y.csv", "y");
    let upwards = FileVersion { relative_path: "../../outside/y.csv".to_owned(), ..inside.clone() };
    let done = Some(bench.root().join("done"));
    for (case, file, move_to) in [
        ("a folder's link", bench.version("d/x.csv"), None),
        ("a file's link", bench.version("l.csv"), None),
        ("a link where it would go", inside.clone(), done.clone()),
        ("a folder to move to that is outside", inside.clone(), Some(outside.join("new"))),
        ("a relative path that leads upwards", upwards, done),
    ] {
        let ends = bench.clear(vec![file], move_to);
        assert!(matches!(ends.as_slice(), [FileEnd::Failed(_)]), "{case}: {ends:?}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert!(outside.join("x.csv").exists() && bench.root().join("in/sub/y.csv").exists());
}

#[test]
fn nothing_is_moved_to_where_it_would_be_loaded_again() {
    let bench = Bench::new();
    let root = bench.root();
    let files = ["a.csv", "d/b.csv"].map(|name| bench.write(name, name));
    symlink(root.join("in"), root.join("back")).unwrap();
    fs::create_dir(root.join("done")).unwrap();
    symlink(root.join("in/d"), root.join("done/d")).unwrap();
    symlink(root.join("in"), root.join("in/own")).unwrap();
    let [a, b] = files;
    for (case, file, move_to) in [
        ("a link to the source", &a, "back"),
        ("a link to it, and a file of a folder", &b, "back"),
        ("what is not made yet, behind such a link", &a, "back/new"),
        ("a link in the folder to move to", &b, "done"),
        ("a folder that the activity names, and that is the file's own", &a, "in/own"),
    ] {
        let ends = bench.clear(vec![file.clone()], Some(root.join(move_to)));
        assert!(matches!(ends.as_slice(), [FileEnd::Failed(why)] if why.contains("leads back")), "{case}: {ends:?}");
        // Nothing is beside it, either: no second name, no empty file, no new folder.
        assert_eq!((bench.version("a.csv"), bench.version("d/b.csv")), (a.clone(), b.clone()), "{case}");
        assert_eq!(fs::read_dir(root.join("in")).unwrap().count(), 3, "{case}");
        assert_eq!(fs::read_dir(root.join("in/d")).unwrap().count(), 1, "{case}");
    }
    // A folder that the activity names below its own, because it does not read it.
    assert_eq!(bench.clear(vec![a], Some(root.join("in/old"))), [FileEnd::Done]);
    assert_eq!(fs::read_to_string(root.join("in/old/a.csv")).unwrap(), "a.csv");
}

#[test]
fn a_name_that_somebody_writes_to_meanwhile_stays_theirs() {
    let bench = Bench::new();
    bench.write("a.csv", "ours");
    let here = bench.root().join("in/a.csv");
    let folder = bench.roots.open_folder(bench.root().to_str().unwrap()).unwrap();
    let (place, keeper) = reserve(&folder, OsStr::new("a.csv")).unwrap();
    fs::write(&place, "theirs").unwrap();
    let stuck = rename(&here, &fs::metadata(&here).unwrap(), &place, &keeper).unwrap_err();
    assert!(stuck.may_pass, "another name may be free: {stuck:?}");
    give_up(&place, &keeper);
    assert_eq!(fs::read_to_string(bench.root().join("a.csv")).unwrap(), "theirs");
    assert_eq!(fs::read_to_string(&here).unwrap(), "ours");
}

#[test]
fn what_cannot_be_opened_to_see_its_version_is_left() {
    let bench = Bench::new();
    let files = vec![bench.write("a.csv", "1"), bench.write("b.csv", "2")];
    let path = |name: &str| bench.root().join("in").join(name);
    fs::remove_file(path("a.csv")).unwrap();
    fs::create_dir(path("a.csv")).unwrap();
    fs::set_permissions(path("b.csv"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root may do anything.
    let may_all = fs::File::open(path("b.csv")).is_ok();
    let ends = bench.clear(files, None);
    assert_eq!(ends[0], FileEnd::Changed("it is no file any more".to_owned()));
    assert!(path("a.csv").is_dir());
    if !may_all {
        assert!(matches!(&ends[1], FileEnd::Failed(why) if why.contains("cannot be opened")), "{ends:?}");
        assert!(path("b.csv").exists());
    }
}

#[test]
fn a_node_that_does_not_see_the_source_says_of_no_file_that_it_is_gone() {
    let bench = Bench::new();
    let file = bench.write("a.csv", "1");
    let work = ClearWork { folder_path: "/nowhere/at/all".to_owned(), ..bench.work(vec![file], None) };
    let failure = clear(&work, &bench.roots, &CancellationToken::new()).unwrap_err();
    assert_eq!((failure.code, failure.retry), (Code::FolderMissing, Retry::Backoff));
}

#[test]
fn a_file_that_may_not_be_deleted_is_told_with_its_reason() {
    let bench = Bench::new();
    let file = bench.write("d/a.csv", "1");
    let folder = bench.root().join("in/d");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let may_all = fs::write(folder.join("probe"), "").is_ok();
    let ends = bench.clear(vec![file], None);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    // Root may do anything.
    if !may_all {
        assert!(matches!(ends.as_slice(), [FileEnd::Failed(why)] if why.contains("cannot be deleted")), "{ends:?}");
    }
}

#[test]
fn a_number_goes_before_what_says_what_the_file_is() {
    for (name, expected) in [
        ("a.csv", "a-2.csv"),
        ("a.csv.gz", "a-2.csv.gz"),
        ("2026.11.01.csv", "2026.11.01-2.csv"),
        ("gz", "gz-2"),
        (".hidden", ".hidden-2"),
        ("a.gz", "a-2.gz"),
    ] {
        assert_eq!(numbered(OsStr::new(name), 2), expected, "{name}");
        assert_eq!(numbered(OsStr::new(name), 0), name);
    }
}
