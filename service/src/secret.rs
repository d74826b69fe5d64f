//! A secret in the settings: best not itself, but where to find it.

use std::fmt;
use std::path::Path;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// `file:/absolute/path`, `env:NAME`, or the secret itself; empty is none. `Debug` and
/// `config show` give away a reference, never a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

const HIDDEN: &str = "(not shown)";
const NO_TEXT: &str = "this must be text in quotes";

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

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(text.into())
            }

            // What stands there may be a secret without its quotes. serde's own error repeats it.
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(E::custom(NO_TEXT))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom(NO_TEXT))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::custom(NO_TEXT))
            }
        }

        deserializer.deserialize_str(Text)
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
        for unquoted in ["24680", "true", "13.579"] {
            let error = toml::from_str::<toml::Table>(&format!("key = {unquoted}")).unwrap();
            let error = error["key"].clone().try_into::<Secret>().unwrap_err().to_string();
            assert!(error.contains("in quotes") && !error.contains(unquoted), "{error}");
        }
        assert!(Secret::default().is_none() && format!("{:?}", Secret::default()).is_empty());
    }
}
