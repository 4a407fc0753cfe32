//! Folders that are there after a power loss.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Creates a folder with these rights, and those above it, and makes their names durable: each
/// before there is anything in it.
///
/// If there is one, whoever has created it may have died before its own name was durable; but those
/// above it were by then.
pub(crate) fn create(folder: &Path, mode: u32) -> io::Result<()> {
    let parent = match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if folder != parent && !folder.exists() {
        create(parent, 0o777)?;
    }
    match DirBuilder::new().mode(mode).create(folder) {
        Ok(()) => File::open(parent)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match File::open(parent) {
                Ok(parent) => parent.sync_all(),
                // It is somebody else's, who has created the folder for us.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}
