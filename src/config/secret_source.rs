//! Where a secret is. Blocks: it reads files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Secret;
use crate::limits::SECRET_BYTES_MAX;

/// Where a secret is, as a catalog or the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretSource<'a> {
    /// `blake3:` and 64 hex digits: nowhere; what has this hash is the secret.
    Hash(blake3::Hash),
    /// `env:` and the name of an environment variable.
    Variable(&'a str),
    /// `file:` and a path.
    File(&'a Path),
}

/// Why a secret is not there.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, or no UTF-8.
    #[error("the environment variable {0} is not set")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, std::io::Error),
    /// It is empty, too long or no UTF-8.
    #[error("what is in {0} is no secret: 1 to {SECRET_BYTES_MAX} bytes of UTF-8")]
    NoSecret(String),
    /// A hash does not lead back.
    #[error("only its hash is known")]
    OnlyHash,
}

impl<'a> SecretSource<'a> {
    /// Reads a reference; `None` if it is none.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        if let Some(hash) = text.strip_prefix("blake3:") {
            return blake3::Hash::from_hex(hash).ok().map(Self::Hash);
        }
        if let Some(name) = text.strip_prefix("env:") {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            return (!name.is_empty() && name.bytes().all(is_name)).then_some(Self::Variable(name));
        }
        let path = Path::new(text.strip_prefix("file:")?);
        path.is_absolute().then_some(Self::File(path))
    }

    /// The secret, without white space around it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(self) -> Result<Secret<String>, SecretError> {
        let (place, text) = match self {
            Self::Hash(_) => return Err(SecretError::OnlyHash),
            Self::Variable(name) => {
                let unset = |_| SecretError::NoVariable(name.to_owned());
                (name.to_owned(), std::env::var(name).map_err(unset)?)
            }
            Self::File(path) => {
                let place = path.display().to_string();
                let text = read_file(path);
                let unreadable = |error| SecretError::Unreadable(place.clone(), error);
                let text = String::from_utf8(text.map_err(unreadable)?);
                let text = text.map_err(|_| SecretError::NoSecret(place.clone()))?;
                (place, text)
            }
        };
        match text.trim() {
            "" => Err(SecretError::NoSecret(place)),
            secret if secret.len() > SECRET_BYTES_MAX => Err(SecretError::NoSecret(place)),
            secret => Ok(Secret::new(secret.to_owned())),
        }
    }
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(2 * SECRET_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How a catalog, or the configuration, names a token by its hash.
#[must_use]
pub fn hash_text(token: &str) -> String {
    format!("blake3:{}", blake3::hash(token.as_bytes()).to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_where_the_secret_is_and_is_none_itself() {
        let check = |text, expected| assert_eq!(SecretSource::parse(text), expected, "{text}");
        check("env:ACME_KEY", Some(SecretSource::Variable("ACME_KEY")));
        check("file:/run/key", Some(SecretSource::File(Path::new("/run/key"))));
        let (hash, text) = (blake3::hash(b"t0ken"), hash_text("t0ken"));
        assert_eq!(SecretSource::parse(&text), Some(SecretSource::Hash(hash)));
        for text in ["", "t0ken", "env:", "env:A B", "file:", "file:key", "blake3:", "blake3:00"] {
            check(text, None);
        }
    }

    #[test]
    fn what_is_read_has_no_white_space_around_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("writable");
            SecretSource::File(&path).read().map(|secret| secret.expose().clone())
        };
        assert_eq!(read(b" hunter2\n").expect("a secret"), "hunter2");
        for bytes in [&b""[..], b"\n", b"\xFF", &[b'x'; SECRET_BYTES_MAX + 1]] {
            let error = read(bytes).expect_err("no secret").to_string();
            assert!(error.ends_with("1 to 1024 bytes of UTF-8"), "{error}");
        }
        assert!(SecretSource::File(folder.path()).read().is_err(), "a folder");
        assert!(SecretSource::Variable("POSTBACKD_NO_SUCH_VARIABLE").read().is_err());
    }
}
