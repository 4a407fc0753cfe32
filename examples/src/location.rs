//! Where the durable shards are, as the user says it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use lowwater_shard::consensus::postgres::PostgresConfig;

/// The options that say where the shards are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct LocationArgs {
    /// Where the shards are: a folder, memory, or postgres://user@host/database. Without it, a
    /// fresh folder among the temporary files.
    #[arg(long, value_name = "STORE", value_parser = address())]
    pub store: Option<Address>,

    /// Where the parts are, if the records are in a database: a folder, or s3://bucket/prefix.
    #[arg(long, value_name = "BLOBS", value_parser = address())]
    pub blobs: Option<Address>,
}

/// Takes an argument as an [`Address`].
pub(crate) fn address() -> impl TypedValueParser<Value = Address> {
    OsStringValueParser::new().map(Address)
}

/// What the user calls a place. It may have a password in it, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(OsString);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

/// Where the durable shards are.
#[derive(Clone, Debug)]
pub enum Location {
    /// In a new folder, made for this run and left behind.
    Fresh,
    /// In memory, and gone with the program.
    Memory,
    /// In a folder: records in SQLite, parts beside them.
    Folder(PathBuf),
    /// Records in a database that speaks the PostgreSQL protocol.
    Postgres {
        /// Which database.
        records: Box<PostgresConfig>,
        /// Where the parts are.
        blobs: Blobs,
    },
}

/// Where parts are that are not beside their records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blobs {
    /// In a folder.
    Folder(PathBuf),
    /// In an object store: `s3://bucket/prefix`.
    S3(String),
}

/// Why these options name no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// The parts have to be somewhere that outlives the program, too.
    #[error("a --store in a database needs --blobs, a folder or s3://bucket/prefix")]
    NoBlobs,
    /// Only records in a database leave open where the parts are.
    #[error(
        "--blobs goes with --store postgres://… only: elsewhere the parts are beside the records"
    )]
    NeedlessBlobs,
    /// The store is none of those that there are.
    #[error(
        "--store is neither a folder, nor memory, nor postgres://user@host/database (a folder whose \
         name looks like an address is written as ./NAME)"
    )]
    UnknownStore,
    /// The blobs are none of those that there are.
    #[error(
        "--blobs is neither a folder nor s3://bucket/prefix (a folder whose name looks like an \
         address is written as ./NAME)"
    )]
    UnknownBlobs,
    /// The database's address is not well-formed.
    #[error("--store: {0}")]
    Postgres(#[from] lowwater_shard::consensus::postgres::AddressError),
}

impl TryFrom<LocationArgs> for Location {
    type Error = LocationError;

    fn try_from(args: LocationArgs) -> Result<Self, LocationError> {
        let LocationArgs { store, blobs } = args;
        let location = match store {
            None => Self::Fresh,
            Some(Address(store)) => match (store.to_str(), scheme(&store)) {
                (Some("memory"), _) => Self::Memory,
                (Some(address), Some("postgres" | "postgresql")) => {
                    let records = Box::new(PostgresConfig::new(address)?);
                    let blobs = Blobs::try_from(blobs.ok_or(LocationError::NoBlobs)?)?;
                    return Ok(Self::Postgres { records, blobs });
                }
                (_, Some(_)) => return Err(LocationError::UnknownStore),
                (_, None) if store.is_empty() || looks_like_address(&store) => {
                    return Err(LocationError::UnknownStore);
                }
                (_, None) => Self::Folder(store.into()),
            },
        };
        match blobs {
            Some(_) => Err(LocationError::NeedlessBlobs),
            None => Ok(location),
        }
    }
}

impl TryFrom<Address> for Blobs {
    type Error = LocationError;

    fn try_from(Address(blobs): Address) -> Result<Self, LocationError> {
        match (blobs.to_str(), scheme(&blobs)) {
            (Some(url), Some("s3")) => Ok(Self::S3(url.to_owned())),
            (Some("" | "memory"), _) | (_, Some(_)) => Err(LocationError::UnknownBlobs),
            (_, None) if looks_like_address(&blobs) => Err(LocationError::UnknownBlobs),
            (_, None) => Ok(Self::Folder(blobs.into())),
        }
    }
}

/// What stands before `://`; folders have no such thing.
fn scheme(address: &OsStr) -> Option<&str> {
    let (scheme, _) = address.to_str()?.split_once("://")?;
    Some(scheme)
}

/// Whether this is rather an address that is misspelt, or of another form, than a folder: one that is
/// made of it would be called by a password.
fn looks_like_address(place: &OsStr) -> bool {
    let place = place.to_string_lossy().to_lowercase();
    let is_path = place.starts_with(['.', '/']);
    !is_path && (place.contains(":/") || may_have_password(&place))
}

/// Whether there may be a password in what the user has written, wherever it was meant to stand.
pub(crate) fn may_have_password(written: &str) -> bool {
    let written = written.to_lowercase();
    let key = written.split_once('=').map(|(key, _)| key.trim());
    written.contains("://")
        || written.contains('@')
        || written.contains("password")
        || written.starts_with("postgres:")
        || written.starts_with("postgresql:")
        || key.is_some_and(|key| KEYS.contains(&key))
}

/// What addresses begin with that are written as `key=value` pairs.
const KEYS: [&str; 8] = [
    "user",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "options",
    "sslmode",
    "connect_timeout",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn location(store: Option<&str>, blobs: Option<&str>) -> Result<Location, LocationError> {
        let address = |text: &str| Address(text.into());
        Location::try_from(LocationArgs {
            store: store.map(address),
            blobs: blobs.map(address),
        })
    }

    #[test]
    fn places_are_told_apart() {
        assert!(matches!(location(None, None), Ok(Location::Fresh)));
        assert!(matches!(
            location(Some("memory"), None),
            Ok(Location::Memory)
        ));
        for folder in ["./memory", "flights", "a=b", "./me@here", "/tmp/host=here"] {
            assert!(
                matches!(location(Some(folder), None), Ok(Location::Folder(_))),
                "{folder}"
            );
        }
        for blobs in ["parts", "s3://bucket/prefix"] {
            let database = location(Some("postgres://me@here/this"), Some(blobs));
            assert!(
                matches!(database, Ok(Location::Postgres { .. })),
                "{database:?}"
            );
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        use LocationError::{NeedlessBlobs, NoBlobs, UnknownBlobs, UnknownStore};
        let database = Some("postgresql://me@here/this");
        for (store, blobs, refusal) in [
            (database, None, NoBlobs),
            (database, Some("memory"), UnknownBlobs),
            (database, Some("http://here"), UnknownBlobs),
            (database, Some(""), UnknownBlobs),
            (Some("mysql://me:secret@here"), None, UnknownStore),
            (Some("postgres:/me:secret@here/this"), None, UnknownStore),
            (Some("postgres:me:secret"), None, UnknownStore),
            (Some("Postgres://me:secret@here/this"), None, UnknownStore),
            (Some("me:secret@here/this"), None, UnknownStore),
            (Some("host=here password=secret"), None, UnknownStore),
            (Some("HOST = here"), None, UnknownStore),
            (database, Some("s3:/key:secret@bucket"), UnknownBlobs),
            (Some(""), None, UnknownStore),
            (None, Some("parts"), NeedlessBlobs),
            (Some("memory"), Some("parts"), NeedlessBlobs),
            (Some("folder"), Some("parts"), NeedlessBlobs),
        ] {
            assert_eq!(
                location(store, blobs).unwrap_err(),
                refusal,
                "{store:?} {blobs:?}"
            );
        }
        let nonsense = location(Some("postgres://me:secret@here:port"), Some("parts"));
        let refusal = nonsense.unwrap_err();
        assert!(!refusal.to_string().contains("secret"), "{refusal}");
    }

    #[test]
    fn nothing_shows_a_password() {
        let address = "postgres://me:secret@here/this";
        let args = LocationArgs {
            store: Some(Address(address.into())),
            blobs: Some(Address("parts".into())),
        };
        assert!(!format!("{args:?}").contains("secret"));
        let location = Location::try_from(args).unwrap();
        assert!(!format!("{location:?}").contains("secret"));
    }
}
