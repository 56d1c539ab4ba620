//! SQLite keeps its promises on local disks: network file systems lose its locks and its order of writes.

use std::path::Path;

/// File systems that are reached over a network, by the names that Linux has for them.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "gpfs",
    "lustre",
    "beegfs",
    "ocfs2",
    "gfs2",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.gcsfuse",
    "fuse.blobfuse",
    "fuse.blobfuse2",
    "fuse.davfs",
    "fuse.juicefs",
];

/// Refuses a path on a network file system. Where mounts cannot be looked at, nothing is refused.
pub(super) fn refuse_network(path: &Path) -> Result<(), String> {
    // The file itself may be a link to another place; before it is made, its folder decides.
    let folder = std::path::absolute(path).ok().and_then(|p| p.parent().map(Path::to_owned));
    let folder = std::fs::canonicalize(path).ok().or_else(|| folder.and_then(|f| std::fs::canonicalize(f).ok()));
    let (Some(folder), Ok(mounts)) = (folder, std::fs::read_to_string("/proc/self/mountinfo")) else { return Ok(()) };
    match file_system_of(&folder, &mounts) {
        Some(kind) if NETWORK.contains(&kind) => Err(format!(
            "it is on a network file system ({kind}), where SQLite may lose what it has confirmed; use a local disk, or \
             --store postgres://USER@HOST/DATABASE"
        )),
        _ => Ok(()),
    }
}

/// The file system that a folder is on. Source: proc(5), mountinfo: the mount point is the fifth field, the type the first one
/// after the dash.
fn file_system_of<'a>(folder: &Path, mounts: &'a str) -> Option<&'a str> {
    let mut found: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((place, about)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (place.split(' ').nth(4), about.split(' ').next()) else { continue };
        let point = unescaped(point);
        // Of mounts on one point the last one is on top.
        if folder.starts_with(&point) && found.is_none_or(|(length, _)| point.len() >= length) {
            found = Some((point.len(), kind));
        }
    }
    found.map(|(_, kind)| kind)
}

/// Blanks and their like are written as octal numbers.
fn unescaped(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |text, (code, sign)| text.replace(code, sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_on_the_longest_mount_above_it() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                      30 22 0:40 / /data rw shared:1 - nfs4 host:/x rw\n\
                      31 30 254:1 / /data/local rw - xfs /dev/vdb rw\n\
                      32 22 0:41 / /a\\040b rw - fuse.sshfs me@host: rw\n\
                      33 22 0:42 / /over rw - ext4 /dev/vdc rw\n\
                      34 33 0:43 / /over rw - cifs //host/share rw\n";
        for (folder, kind) in [
            ("/var/lib/ferry", "ext4"),
            ("/data/ferry", "nfs4"),
            ("/data", "nfs4"),
            ("/database", "ext4"),
            ("/data/local/ferry", "xfs"),
            ("/a b/ferry", "fuse.sshfs"),
            ("/over/ferry", "cifs"),
        ] {
            assert_eq!(file_system_of(Path::new(folder), mounts), Some(kind), "{folder}");
        }
        assert_eq!(file_system_of(Path::new("/x"), "nonsense"), None);
    }
}
