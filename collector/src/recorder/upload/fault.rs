//! Why a file is not copied, in words that may be logged.

use std::path::PathBuf;

/// A store's own words end here.
const MOST_LETTERS: usize = 400;

#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("read {file}")]
    Read { file: String, source: std::io::Error },
    #[error("copy {file} to the object store")]
    Put { file: String, source: Refusal },
    #[error("set up the object store")]
    Store(#[source] Refusal),
    #[error("set up TLS to the object store")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("keep {file}")]
    Ledger { file: PathBuf, source: std::io::Error },
}

/// What the store said, without the rest of its page: S3 answers a wrong signature with all that was signed, a session's token among it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

impl Refusal {
    pub(super) fn new(error: &object_store::Error) -> Self {
        let text = error.to_string();
        let (said, page) = text.split_at(text.find('<').unwrap_or(text.len()));
        let said = said.trim_end_matches([' ', ':', '-']);
        let reason: Vec<&str> = ["Code", "Message"].iter().filter_map(|name| element(page, name)).collect();
        let all = if reason.is_empty() { said.to_owned() } else { format!("{said}: {}", reason.join(": ")) };
        Self(all.chars().take(MOST_LETTERS).collect())
    }
}

fn element<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Refusal::new(&object_store::Error::Generic { store: "S3", source: text.into() }).to_string()
    }

    #[test]
    fn of_a_page_code_and_message_are_said() {
        let page = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code>\
                    <Message>The request signature differs.</Message><CanonicalRequest>x-amz-security-token:hush</CanonicalRequest></Error>";
        let said = refusal(page);
        assert!(said.ends_with("403 Forbidden: SignatureDoesNotMatch: The request signature differs."), "{said}");
        assert!(!said.contains("hush"));
        assert_eq!(refusal("502: <html>hush</html>"), "Generic S3 error: 502");
        assert_eq!(refusal("HTTP error: connection refused"), "Generic S3 error: HTTP error: connection refused");
        assert_eq!(refusal(&"x".repeat(1000)).len(), MOST_LETTERS);
    }
}
