//! Parts in Amazon S3, and in what speaks its language.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{ClientConfigKey, ClientOptions, HttpClient, HttpConnector};
use object_store::{BackoffConfig, RetryConfig};
use rustls::RootCertStore;

use crate::certificates::{encryption, system_roots};

use super::Parts;
use super::fault::story;
use super::place::{PlaceError, Secrets};

/// How long to wait for a server to take a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a server may say nothing in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(20);

/// How long an attempt may take in all.
const ATTEMPT: Duration = Duration::from_secs(120);

/// How often a request is tried again, and for how long at most. Beyond that the caller decides.
const RETRIES: usize = 5;
const RETRY: Duration = Duration::from_secs(20);

/// Opens `bucket/prefix`; the environment says the rest.
pub(super) fn open(place: &str) -> Result<Parts, PlaceError> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(Connector)
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES,
            retry_timeout: RETRY,
        });
    let shown = format!("s3://{bucket}/{prefix}");
    let shown = shown.trim_end_matches('/');
    let refused = |reason: String| PlaceError::Setup {
        place: shown.to_owned(),
        reason,
    };
    // Such an address is shown in logs and errors.
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if bucket.is_empty() || shown.contains(['@', '?']) {
        let reason = "a bucket and a prefix are needed, and nothing else";
        return Err(PlaceError::Unknown(format!("s3://…: {reason}")));
    }
    if endpoint.is_some_and(|endpoint| endpoint.contains('@')) {
        return Err(refused("no password may stand in the endpoint".to_owned()));
    }
    let secrets = secrets(&builder);
    let store = builder.build();
    let store = store.map_err(|error| refused(secrets.hide(&story(&error))))?;
    Ok(Parts {
        secrets,
        ..Parts::over(Arc::new(store), prefix, shown)
    })
}

fn secrets(builder: &AmazonS3Builder) -> Secrets {
    let keys = [
        AmazonS3ConfigKey::AccessKeyId,
        AmazonS3ConfigKey::SecretAccessKey,
        AmazonS3ConfigKey::Token,
    ];
    Secrets::new(keys.iter().filter_map(|key| builder.get_config_value(key)))
}

/// Makes clients that bring their cryptography along: `object_store` would leave it to what is
/// installed in the process, and panic where nothing is.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options
            .get_config_value(&ClientConfigKey::AllowHttp)
            .is_some_and(|allow| allow == "true");
        let roots = match system_roots() {
            Ok(roots) => roots,
            // Where nothing is encrypted none are needed.
            Err(_) if allow_http => RootCertStore::empty(),
            Err(error) => return Err(unusable(error)),
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(encryption(roots).map_err(unusable)?)
            .https_only(!allow_http)
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .timeout(ATTEMPT)
            .build();
        Ok(HttpClient::new(client.map_err(unusable)?))
    }
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_made_without_cryptography_of_the_process() {
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
        let options = ClientOptions::new().with_allow_http(true);
        Connector.connect(&options).unwrap();
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    }

    #[test]
    fn keys_are_never_shown() {
        let builder = AmazonS3Builder::new()
            .with_access_key_id("AKIAKEY")
            .with_secret_access_key("wJalrSECRET");
        let secrets = secrets(&builder);
        let text = secrets.hide("denied: AKIAKEY wJalrSECRET");
        assert_eq!(text, "denied: … …");
        assert!(!format!("{secrets:?}").contains("SECRET"));
    }

    #[test]
    fn a_place_with_more_than_a_bucket_and_a_prefix_is_refused_and_not_shown() {
        for place in ["", "key:SECRET@bucket/x", "bucket/x?secret=SECRET"] {
            let error = open(place).unwrap_err();
            assert!(matches!(error, PlaceError::Unknown(_)));
            assert!(!error.to_string().contains("SECRET"));
        }
    }
}
