//! A secret in the settings: best not itself, but where to find it.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

/// `file:/absolute/path`, `env:NAME`, or the secret itself; empty is none. `Debug` and
/// `config show` give away a reference, never a secret.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

const HIDDEN: &str = "(not shown)";

impl Secret {
    /// The secret, read now. The error says where it was looked for.
    pub fn read(&self) -> Result<Zeroizing<String>, String> {
        if let Some(path) = self.0.strip_prefix("file:") {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            return Ok(Zeroizing::new(Zeroizing::new(text).trim_end().to_owned()));
        }
        if let Some(name) = self.0.strip_prefix("env:") {
            let value = std::env::var(name);
            return value.map(Zeroizing::new).map_err(|_| {
                format!("the environment variable {name} is not set, or is not text")
            });
        }
        Ok(Zeroizing::new(self.0.clone()))
    }

    /// Whether none is set.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the settings hold the secret itself.
    pub fn is_literal(&self) -> bool {
        self.shown() == HIDDEN
    }

    /// The file that it is in, if it is in one.
    pub fn file(&self) -> Option<&Path> {
        self.0.strip_prefix("file:").map(Path::new)
    }

    /// The reference, or that there is something.
    fn shown(&self) -> &str {
        let is_reference = self.0.starts_with("file:") || self.0.starts_with("env:");
        if is_reference || self.0.is_empty() { &self.0 } else { HIDDEN }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_shown_and_a_secret_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "from a file\n").unwrap();
        let reference = Secret(format!("file:{}", path.display()));
        assert_eq!(*reference.read().unwrap(), "from a file");
        assert!(format!("{reference:?}").starts_with("file:"));
        assert!(reference.file() == Some(&path) && !reference.is_literal());
        assert_eq!(*Secret::from("env:PATH").read().unwrap(), std::env::var("PATH").unwrap());
        let error = Secret::from("env:TOCYN_NO_SUCH").read().unwrap_err();
        assert!(error.contains("TOCYN_NO_SUCH"), "{error}");
        let secret = Secret::from("hunter2");
        assert_eq!(*secret.read().unwrap(), "hunter2");
        assert!(secret.is_literal() && secret.file().is_none());
        assert_eq!(format!("{secret:?}"), HIDDEN);
        assert_eq!(serde_json::to_string(&secret).unwrap(), format!("\"{HIDDEN}\""));
        assert!(Secret::default().is_none() && format!("{:?}", Secret::default()).is_empty());
    }
}
