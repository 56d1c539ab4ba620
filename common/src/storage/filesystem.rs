//! Staging in a folder: for local-adx, and wherever cluster and nodes share one.

use super::{BlobEntry, BlobWriter, StagingStorage, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// End of the name of a blob that is being written.
const PART_SUFFIX: &str = ".part";

/// Blobs as files below a folder.
#[derive(Debug, Clone)]
pub struct FileSystemStorage {
    folder: PathBuf,
}

/// Bytes that this user may still write to the file system of `folder`.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl FileSystemStorage {
    /// Storage in `folder`, which must exist by the time it is used.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn judged(&self, error: &io::Error) -> StorageError {
        let place = self.folder.display().to_string();
        let why = error.to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StorageError::Full { place, why }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StorageError::Forbidden { place, why }
            }
            _ => StorageError::Failed { place, why },
        }
    }

    /// Runs file work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|r| r).map_err(|e| self.judged(&e))
    }
}

#[async_trait]
impl StagingStorage for FileSystemStorage {
    async fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError> {
        if !self.folder.is_dir() {
            return Err(StorageError::Missing { place: self.folder.display().to_string() });
        }
        let path = self.folder.join(name);
        let part = with_suffix(&path);
        let file = {
            let part = part.clone();
            self.blocking(move || {
                if let Some(parent) = part.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::File::create(&part)
            })
            .await?
        };
        Ok(Box::new(Writer { storage: self.clone(), path, part, file: Arc::new(file) }))
    }

    async fn list(&self, prefix: &str, max: usize) -> Result<Vec<BlobEntry>, StorageError> {
        let (root, prefix) = (self.folder.clone(), prefix.to_owned());
        self.blocking(move || {
            let mut found = Vec::new();
            // Prefixes end at a folder, so the walk can begin there.
            walk(&root, &root.join(prefix.trim_end_matches('/')), max, &mut found)?;
            found.retain(|entry| entry.name.starts_with(&prefix));
            Ok(found)
        })
        .await
    }

    async fn read_start(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>, StorageError> {
        let path = self.folder.join(name);
        self.blocking(move || {
            let file = match fs::File::open(path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e),
            };
            let mut bytes = Vec::new();
            file.take(bytes_max as u64).read_to_end(&mut bytes)?;
            Ok(Some(bytes.into()))
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        let path = self.folder.join(name);
        self.blocking(move || match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        })
        .await
    }

    async fn sweep_remains(&self, prefix: &str) -> Result<(), StorageError> {
        let folder = self.folder.join(prefix.trim_end_matches('/'));
        self.blocking(move || sweep_folder(&folder)).await
    }
}

/// Removes half-written blobs below `folder`, and it and its folders where nothing else is left.
fn sweep_folder(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sweep_folder(&entry.path())?;
        } else if entry.file_name().to_string_lossy().ends_with(PART_SUFFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => Err(e),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PART_SUFFIX);
    name.into()
}

fn walk(root: &Path, folder: &Path, max: usize, found: &mut Vec<BlobEntry>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        if found.len() >= max {
            break;
        }
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(root, &path, max, found)?;
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
            && !name.ends_with(PART_SUFFIX)
        {
            found.push(BlobEntry { name: name.to_owned(), bytes: entry.metadata()?.len() });
        }
    }
    Ok(())
}

struct Writer {
    storage: FileSystemStorage,
    path: PathBuf,
    part: PathBuf,
    file: Arc<fs::File>,
}

#[async_trait]
impl BlobWriter for Writer {
    async fn stage_block(&self, _index: u32, offset_bytes: u64, bytes: Bytes) -> Result<(), StorageError> {
        let file = self.file.clone();
        self.storage.blocking(move || file.write_all_at(&bytes, offset_bytes)).await
    }

    async fn commit(&self, _blocks: u32) -> Result<(), StorageError> {
        let (file, part, path) = (self.file.clone(), self.part.clone(), self.path.clone());
        self.storage
            .blocking(move || {
                // The name must not appear before the bytes are safe.
                file.sync_all()?;
                fs::rename(part, path)
            })
            .await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a commit there is nothing by this name any more.
        let _ = fs::remove_file(&self.part);
    }
}
