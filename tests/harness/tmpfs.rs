//! A small file system, to be filled up.

use std::{fs, io::Write as _, path::Path, process::Command};
use tempfile::TempDir;

/// A mounted file system in memory. It is unmounted when it is dropped.
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts one of a size such as `3m`.
    ///
    /// # Panics
    /// When this user may not mount.
    pub fn mount(size: &str) -> Self {
        let folder = TempDir::new().expect("folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(folder.path());
        assert!(mount.status().expect("mount").success(), "mounting needs root");
        Self { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no byte free.
    ///
    /// # Panics
    /// When it cannot be written for another reason.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.path().join("filler")).expect("filler");
        while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    }

    /// Takes back what `fill` took.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn free(&self) {
        fs::remove_file(self.path().join("filler")).expect("filler");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a program that is being killed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
