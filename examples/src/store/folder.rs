//! Folders with a store in them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::StoreOpenError;

/// How often another name is tried for a fresh folder.
const NAMES_MAX: usize = 100;

/// Makes a folder that nobody had before, for its owner alone, among the temporary files.
pub(super) fn fresh() -> Result<PathBuf, StoreOpenError> {
    let among = std::env::temp_dir();
    let mut last = None;
    for _ in 0..NAMES_MAX {
        let folder = among.join(format!("lowwater-{:08x}", fastrand::u32(..)));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
            Err(error) => return Err(StoreOpenError::Fresh { among, error }),
        }
    }
    let error = last.expect("it was tried at least once");
    Err(StoreOpenError::Fresh { among, error })
}

/// How many bytes of the disk a folder and all that is in it take, as `du` counts them.
pub(super) fn bytes_on_disk(folder: &Path) -> io::Result<u64> {
    let mut bytes = on_disk(&fs::symlink_metadata(folder)?);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let of_one = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => bytes_on_disk(&path),
            Ok(metadata) => Ok(on_disk(&metadata)),
            Err(error) => Err(error),
        };
        match of_one {
            Ok(of_one) => bytes += of_one,
            // Somebody has tidied up in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

fn on_disk(metadata: &fs::Metadata) -> u64 {
    const BLOCK: u64 = 512;
    metadata.blocks() * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_folder_is_its_owners_alone_and_takes_what_is_put_into_it() {
        let folder = fresh().unwrap();
        fs::remove_dir(fresh().unwrap()).unwrap();
        let mode = fs::metadata(&folder).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);

        let empty = bytes_on_disk(&folder).unwrap();
        fs::create_dir(folder.join("inner")).unwrap();
        fs::write(folder.join("inner/file"), vec![7; 100_000]).unwrap();
        let full = bytes_on_disk(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(full >= empty + 100_000, "{empty} {full}");
    }
}
