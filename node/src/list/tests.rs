//! Listings of real folders.

use super::*;

fn source(folder: &Path, more: &str) -> Source {
    let text = format!(
        r#"{{"type":"FileSystem","folderPath":"{}","format":{{"type":"DelimitedText","firstRowAsHeader":true}}{more}}}"#,
        folder.display()
    );
    serde_json::from_str(&text).unwrap()
}

fn listed(source: &Source, roots: &Roots) -> Result<(Vec<String>, ListPage), Failure> {
    let (sender, mut receiver) = mpsc::channel(1000);
    list(source, roots, 3, 5, 0, &CancellationToken::new(), sender)?;
    let (mut names, mut last) = (Vec::new(), None);
    while let Ok(page) = receiver.try_recv() {
        assert!(page.files.len() <= 3);
        names.extend(page.files.iter().map(|f| f.relative_path.clone()));
        last = Some(page);
    }
    names.sort();
    let last = last.unwrap();
    assert!(last.last);
    Ok((names, last))
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.csv", "b.txt", "d/c.csv", "d/e/f.csv", "d/e/g.csv.gz"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, if name.ends_with("gz") { "" } else { "id,name\n1,x\n2,\n" }).unwrap();
    }
    folder
}

#[test]
fn files_that_may_still_be_written_are_left_out() {
    let folder = folder();
    let roots = Roots::new([folder.path().to_owned()]).unwrap();
    let touch = |name: &str| fs::write(folder.path().join(name), "").unwrap();
    touch("a.csv.done");
    touch("d/e/_SUCCESS");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(600);
    fs::File::options().append(true).open(folder.path().join("b.txt")).unwrap().set_modified(old).unwrap();
    for (more, expected) in [
        (r#","doneMarker":".done""#, &["a.csv"][..]),
        (r#","doneMarker":"_SUCCESS""#, &["d/e/f.csv", "d/e/g.csv.gz"]),
        (r#","minimumAge":"5m""#, &["b.txt"]),
        (r#","minimumAge":"1h","allowNoFiles":true"#, &[]),
    ] {
        let (names, last) = listed(&source(folder.path(), more), &roots).unwrap();
        assert_eq!(names, expected, "{more}");
        assert!(last.warnings.iter().any(|w| w.contains("were left out")), "{more}: {:?}", last.warnings);
    }
    let failure = listed(&source(folder.path(), r#","minimumAge":"1h""#), &roots).unwrap_err();
    assert_eq!(failure.code, Code::NoFilesMatched);
    assert!(failure.message.contains("too young"), "{failure:?}");
}

#[test]
fn filters_choose_files() {
    let folder = folder();
    let roots = Roots::new([folder.path().to_owned()]).unwrap();
    fs::write(folder.path().join("list.txt"), "./d//c.csv\n\na.csv\r\n").unwrap();
    for (more, expected) in [
        (r#","exclude":["list.txt"]"#, &["a.csv", "b.txt", "d/c.csv", "d/e/f.csv", "d/e/g.csv.gz"][..]),
        (r#","recursive":false,"wildcardFileName":"*.csv""#, &["a.csv"]),
        (r#","wildcardFileName":"*.csv""#, &["a.csv", "d/c.csv", "d/e/f.csv"]),
        (r#","wildcardFileName":"**/*.csv""#, &["a.csv", "d/c.csv", "d/e/f.csv"]),
        (r#","wildcardFileName":"d/*.csv""#, &["d/c.csv"]),
        (r#","wildcardFileName":"d/**/{f,g}.*""#, &["d/e/f.csv", "d/e/g.csv.gz"]),
        (r#","wildcardFileName":"?.csv","exclude":["d/**"]"#, &["a.csv"]),
        (r#","fileName":"d/c.csv""#, &["d/c.csv"]),
        (r#","fileListPath":"list.txt""#, &["a.csv", "d/c.csv"]),
        (r#","modifiedDatetimeStart":"2001-01-01T00:00:00Z","fileName":"a.csv""#, &["a.csv"]),
    ] {
        let (names, _) = listed(&source(folder.path(), more), &roots).unwrap();
        assert_eq!(names, expected, "{more}");
    }
}

#[test]
fn the_last_page_has_columns_and_types() {
    let folder = folder();
    let roots = Roots::new([folder.path().to_owned()]).unwrap();
    let (_, last) = listed(&source(folder.path(), ""), &roots).unwrap();
    let columns: Vec<_> = last.sample.iter().map(|c| (c.name.as_str(), c.kind.as_str())).collect();
    assert_eq!(columns, [("id", "long"), ("name", "string")]);
}

#[test]
fn what_cannot_be_listed_is_told() {
    let folder = folder();
    let other = tempfile::tempdir().unwrap();
    let roots = Roots::new([folder.path().to_owned()]).unwrap();
    fs::write(folder.path().join("bad-list.txt"), "nope.csv\n").unwrap();
    for (case, source, code, words) in [
        ("missing folder", source(&folder.path().join("nope"), ""), Code::FolderMissing, "nope"),
        ("outside the roots", source(other.path(), ""), Code::PathNotAllowed, "--allow-root"),
        ("no match", source(folder.path(), r#","wildcardFileName":"*.xyz""#), Code::NoFilesMatched, "*.xyz"),
        (
            "none that new",
            source(folder.path(), r#","modifiedDatetimeStart":"2999-01-01T00:00:00Z""#),
            Code::NoFilesMatched,
            "filters",
        ),
        ("missing file", source(folder.path(), r#","fileName":"nope.csv""#), Code::FileMissing, "nope.csv"),
        ("escaping name", source(folder.path(), r#","fileName":"../../etc/passwd""#), Code::PathNotAllowed, "passwd"),
        (
            "missing file in a list",
            source(folder.path(), r#","fileListPath":"bad-list.txt""#),
            Code::FileMissing,
            "line 1",
        ),
        ("bad pattern", source(folder.path(), r#","wildcardFileName":"[""#), Code::SettingsInvalid, "wildcardFileName"),
    ] {
        let failure = listed(&source, &roots).unwrap_err();
        assert_eq!(failure.code, code, "{case}: {failure}");
        assert!(failure.message.contains(words), "{case}: {failure}");
    }
}

#[test]
fn links_list_nothing_twice_and_lead_nowhere_outside() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let roots = Roots::new([folder.path().to_owned()]).unwrap();
    symlink(folder.path().join("a.csv"), folder.path().join("latest.csv")).unwrap();
    symlink(folder.path().join("d"), folder.path().join("again")).unwrap();
    let (names, last) = listed(&source(folder.path(), r#","wildcardFileName":"*.csv""#), &roots).unwrap();
    assert_eq!(names, ["a.csv", "d/c.csv", "d/e/f.csv"]);
    assert!(last.warnings[0].starts_with("2 symbolic links"), "{:?}", last.warnings);

    symlink("/etc/passwd", folder.path().join("out.csv")).unwrap();
    let failure = listed(&source(folder.path(), r#","wildcardFileName":"*.csv""#), &roots).unwrap_err();
    assert_eq!(failure.code, Code::PathNotAllowed);
}

#[test]
fn a_hundred_thousand_files_come_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..100_000 {
        if number % 1_000 == 0 {
            fs::create_dir(folder.path().join(format!("d{}", number / 1_000))).unwrap();
        }
        fs::File::create(folder.path().join(format!("d{}/f{number}.csv", number / 1_000))).unwrap();
    }
    let roots = Roots::new([folder.path().to_owned()]).unwrap();
    let source = source(folder.path(), "");
    // One page may wait: the listing holds no more than that and the one it gathers.
    let (sender, mut pages) = mpsc::channel(1);
    let lister = std::thread::spawn(move || list(&source, &roots, 1_000, 5, 0, &CancellationToken::new(), sender));
    let (mut files, mut number) = (0, 0);
    while let Some(page) = pages.blocking_recv() {
        assert_eq!(page.number, number);
        assert!(page.files.len() <= 1_000);
        files += page.files.len();
        number += 1;
    }
    lister.join().unwrap().unwrap();
    assert_eq!((files, number), (100_000, 101));
}
