//! Keys from a file, as Amazon's own tools have them. It is read for each request: keys may be changed at any time.

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct CredentialsFile(pub(super) PathBuf);

/// Never shows what is in the file.
#[derive(Debug, thiserror::Error)]
enum CredentialsError {
    #[error("read credentials of {file}: {source}")]
    Read { file: PathBuf, source: std::io::Error },
    #[error("{file} has no {key}")]
    Missing { file: PathBuf, key: &'static str },
}

impl CredentialsFile {
    async fn read(&self) -> Result<AwsCredential, CredentialsError> {
        let file = || self.0.clone();
        let text = tokio::fs::read_to_string(&self.0).await;
        let text = text.map_err(|source| CredentialsError::Read { file: file(), source })?;
        let needed = |key| value(&text, key).ok_or_else(|| CredentialsError::Missing { file: file(), key });
        let (key_id, secret_key) = (needed("aws_access_key_id")?, needed("aws_secret_access_key")?);
        Ok(AwsCredential { key_id, secret_key, token: value(&text, "aws_session_token") })
    }
}

#[tonic::async_trait]
impl CredentialProvider for CredentialsFile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let read = self.read().await;
        read.map(Arc::new).map_err(|fault| object_store::Error::Generic { store: "S3", source: fault.into() })
    }
}

/// Of the profile `[default]`, or of a file without any.
fn value(text: &str, key: &str) -> Option<String> {
    let mut is_default = true;
    for line in text.lines().map(str::trim) {
        if let Some(profile) = line.strip_prefix('[') {
            is_default = profile.trim_end_matches(']').trim() == "default";
        }
        let value = line.split_once('=').filter(|(name, _)| is_default && name.trim() == key).map(|(_, value)| value.trim());
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            return Some(value.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_default_profile_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = CredentialsFile(folder.path().join("credentials"));
        let text =
            "[other]\naws_access_key_id = no\n# a word\n[default]\naws_access_key_id=AK\naws_secret_access_key = s/e+c=ret==\n";
        std::fs::write(&file.0, text).unwrap();
        let read = file.get_credential().await.unwrap();
        assert_eq!((&*read.key_id, &*read.secret_key, &read.token), ("AK", "s/e+c=ret==", &None));
        std::fs::write(&file.0, "aws_access_key_id = AK\naws_secret_access_key = x\naws_session_token = t").unwrap();
        let read = file.get_credential().await.unwrap();
        assert_eq!((&*read.secret_key, read.token.as_deref()), ("x", Some("t")));
    }

    #[tokio::test]
    async fn what_is_missing_is_named_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = CredentialsFile(folder.path().join("credentials"));
        assert!(file.get_credential().await.unwrap_err().to_string().contains("read credentials of "));
        std::fs::write(&file.0, "aws_secret_access_key = hush").unwrap();
        let fault = file.get_credential().await.unwrap_err().to_string();
        assert!(fault.ends_with("credentials has no aws_access_key_id") && !fault.contains("hush"), "{fault}");
    }
}
