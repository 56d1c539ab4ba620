//! The folders that a node may read. Nothing outside them is opened, whatever a listing or a link says.

use super::ReadError;
use std::{
    ffi::OsStr,
    fs, io,
    os::{fd::AsRawFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

/// Folders that may be read; none by default.
#[derive(Debug, Clone, Default)]
pub struct Roots(Vec<PathBuf>);

impl Roots {
    /// Allows these folders (or single files), links followed. Fails when one does not exist.
    pub fn new(roots: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let canonical = |root: PathBuf| {
            fs::canonicalize(&root)
                .map_err(|e| io::Error::new(e.kind(), format!("allowed root {}: {e}", root.display())))
        };
        roots.into_iter().map(canonical).collect::<io::Result<_>>().map(Self)
    }

    /// The path with its links followed, if it lies inside a root.
    ///
    /// A path outside is refused before it is said whether it exists.
    pub fn resolve(&self, path: &str) -> Result<PathBuf, ReadError> {
        match fs::canonicalize(path) {
            Ok(real) if self.allows(&real) => Ok(real),
            Ok(real) => Err(self.refusal(path, &real)),
            Err(e) if self.allows(&lexical(Path::new(path))) => Err(ReadError::opening(path, e)),
            Err(_) => Err(self.refusal(path, Path::new(path))),
        }
    }

    /// Opens a file inside a root.
    ///
    /// The path may be swapped between check and opening, so what was opened is checked again.
    pub fn open(&self, path: &str) -> Result<fs::File, ReadError> {
        let real = self.resolve(path)?;
        let file = fs::File::open(&real).map_err(|e| ReadError::opening(path, e))?;
        if let Ok(opened) = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
            && !self.allows(&opened)
        {
            return Err(self.refusal(path, &opened));
        }
        Ok(file)
    }

    /// Opens a folder inside a root, to act on what is in it by name.
    pub fn open_folder(&self, path: &str) -> Result<Folder, ReadError> {
        let folder = Folder(self.open(path)?);
        // Without /proc every file would seem to be gone.
        let about = fs::metadata(folder.itself()).and_then(|there| Ok((there, folder.0.metadata()?)));
        let is_same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match about {
            Ok((there, own)) if own.is_dir() && is_same(&there, &own) => Ok(folder),
            Ok(_) => Err(ReadError::opening(path, io::Error::from(io::ErrorKind::NotADirectory))),
            Err(source) => {
                let why = format!("{} cannot be used: {source}", folder.itself().display());
                Err(ReadError::Io { path: path.to_owned(), byte: 0, source: io::Error::other(why) })
            }
        }
    }

    fn allows(&self, real: &Path) -> bool {
        self.0.iter().any(|root| real.starts_with(root))
    }

    fn refusal(&self, path: &str, real: &Path) -> ReadError {
        let real = real.display().to_string();
        let path = if real == path { real } else { format!("{path} (which is {real})") };
        let roots: Vec<_> = self.0.iter().map(|r| r.display().to_string()).collect();
        ReadError::NotAllowed { path, roots: if roots.is_empty() { "none".to_owned() } else { roots.join(", ") } }
    }
}

/// An open folder inside a root. What its path leads to later does not matter.
#[derive(Debug)]
pub struct Folder(fs::File);

impl Folder {
    fn itself(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// A path to what has this name in the folder, for as long as the folder is open.
    pub fn at(&self, name: &OsStr) -> PathBuf {
        self.itself().join(name)
    }

    /// Where it lies now, links followed.
    pub fn path(&self) -> io::Result<PathBuf> {
        fs::read_link(self.itself())
    }

    /// The file system that it lies on.
    pub fn device(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.dev())
    }
}

/// The path without `.` and `..`, not looking at the disk.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_roots_is_opened() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("in.csv"), "x").unwrap();
        fs::write(outer.path().join("out.csv"), "x").unwrap();
        std::os::unix::fs::symlink(outer.path().join("out.csv"), root.join("link.csv")).unwrap();
        std::os::unix::fs::symlink(root.join("in.csv"), root.join("inner.csv")).unwrap();
        let roots = Roots::new([root.clone()]).unwrap();
        let open = |name: &str| roots.open(root.join(name).to_str().unwrap());

        assert!(open("in.csv").is_ok());
        assert!(open("inner.csv").is_ok());
        for outside in ["link.csv", "../out.csv", "../no-such.csv", "/etc/passwd"] {
            assert!(matches!(open(outside), Err(ReadError::NotAllowed { .. })), "{outside}");
        }
        assert!(matches!(open("no-such.csv"), Err(ReadError::Missing { .. })));
        assert!(matches!(Roots::default().open("/etc/passwd"), Err(ReadError::NotAllowed { .. })));
    }
}
