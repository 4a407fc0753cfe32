//! Where parts can be.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::folder::Folder;
use super::{Parts, s3};

/// Why a place for parts cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// There are only `memory`, folders, and `s3://bucket/prefix`.
    #[error("{0:?} is no place for parts: memory, a folder, or s3://bucket/prefix")]
    Unknown(String),
    /// There is no such folder, and none was to be made.
    #[error("there is no folder {0:?} with parts")]
    Absent(PathBuf),
    /// The folder cannot be used.
    #[error("the folder {folder:?} cannot be used for parts: {error}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The object store cannot be used as it is set up.
    #[error("{place} cannot be used for parts: {reason}")]
    Setup {
        /// The place.
        place: String,
        /// Why not.
        reason: String,
    },
}

/// What must not be shown.
#[derive(Clone, Default)]
pub(super) struct Secrets(Arc<[String]>);

impl Secrets {
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
        Secrets(secrets.collect())
    }

    /// The text without them.
    pub(super) fn hide(&self, text: &str) -> String {
        let secrets = self.0.iter();
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Parts {
    /// Parts in memory, for tests: they are gone with the last clone.
    pub fn memory() -> Self {
        Parts::over(Arc::new(InMemory::new()), "", "memory")
    }

    /// Parts in a folder of this machine, which is created where it is not there. Only its owner
    /// may enter it, or, if it was there, the folders of shards in it.
    ///
    /// # Errors
    ///
    /// If the folder cannot be used.
    pub fn folder(path: impl Into<PathBuf>) -> Result<Self, PlaceError> {
        let path = path.into();
        let folder = Folder::open(&path);
        Self::over_folder(path, folder)
    }

    /// Parts in a folder of this machine that is there already: nothing is made, and the right to
    /// read it is all that reading needs.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Absent`] if there is none; if it cannot be used.
    pub fn existing_folder(path: impl Into<PathBuf>) -> Result<Self, PlaceError> {
        let path = path.into();
        match Folder::open_existing(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(PlaceError::Absent(path)),
            folder => Self::over_folder(path, folder),
        }
    }

    fn over_folder(path: PathBuf, folder: io::Result<Folder>) -> Result<Self, PlaceError> {
        let unusable = |error| PlaceError::Folder {
            folder: path.clone(),
            error,
        };
        let folder = folder.map_err(unusable)?;
        let store = LocalFileSystem::new_with_prefix(folder.root());
        let store = store.map_err(|error| unusable(io::Error::other(error)))?;
        Ok(Parts {
            folder: Some(Arc::new(folder)),
            // Without it a part is lost with the power, and the record is not.
            ..Parts::over(
                Arc::new(store.with_fsync(true)),
                "",
                &path.to_string_lossy(),
            )
        })
    }

    /// Parts at a place by its name: `memory`, a folder, or `s3://bucket/prefix`.
    ///
    /// For S3 and what speaks its language the environment says the rest, as it does to Amazon's own
    /// tools: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL`, and `AWS_ALLOW_HTTP=true` for a server without encryption.
    ///
    /// # Errors
    ///
    /// If there is no such place, or it cannot be used.
    pub fn at(place: &str) -> Result<Self, PlaceError> {
        match place.split_once("://") {
            None if place.is_empty() => Err(PlaceError::Unknown(place.to_owned())),
            None if place == "memory" => Ok(Parts::memory()),
            None => Parts::folder(place),
            Some(("s3", rest)) => s3::open(rest),
            // What stands behind may be a password.
            Some((scheme, _)) => Err(PlaceError::Unknown(format!("{scheme}://…"))),
        }
    }

    /// Parts in an object store of the caller's, below `prefix`. The store must be able to create
    /// an object only if it is not there ([`PutMode::Create`](object_store::PutMode::Create)), and
    /// must have made durable what it has acknowledged. `place` is what they are shown as.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: &str, place: &str) -> Self {
        Parts {
            store,
            prefix: Path::from(prefix),
            folder: None,
            place: place.into(),
            secrets: Secrets::default(),
            written: Arc::default(),
        }
    }
}
