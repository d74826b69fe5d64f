//! Whose a data folder is: a typo in `--data` must not make a second, empty service.

use super::{Folder, FolderError};

/// A service, by what only its data folder has.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its program.
    program: &'static str,
    /// Files of its own.
    files: &'static [&'static str],
    /// A table that only its settings have.
    table: &'static str,
}

/// An issuer.
pub const ISSUER: Kind = Kind {
    program: "tocyn-issuer",
    files: &["issuer.sqlite", "admin.credential"],
    table: "attesters",
};
/// A relay.
pub const RELAY: Kind = Kind {
    program: "tocyn-relay",
    files: &["relay.sqlite", "log.key", "restored.toml"],
    table: "retention",
};

impl Folder {
    /// Refuses a folder that is of the other service, or of none: it has neither files of this one,
    /// nor settings, nor a pairing, which the supervisor may pass on. Makes nothing in it.
    pub fn check_kind(&self, own: &Kind, other: &Kind) -> Result<(), FolderError> {
        if self.is(own) {
            return Ok(());
        }
        if self.is(other) {
            let (own, other) = (own.program, other.program);
            let reason =
                format!("this is the data folder of a {other}; give --data that of a {own}");
            return Err(FolderError::invalid(&self.path, reason));
        }
        let is_set_up = self.file("config.toml").exists()
            || self.own_secret("pairing.toml").is_some() && self.path.is_dir();
        match is_set_up {
            true => Ok(()),
            false => Err(self.is_none_of(own)),
        }
    }

    /// Says that this is no data folder, and what to do.
    pub fn is_none_of(&self, own: &Kind) -> FolderError {
        let program = own.program;
        let reason = format!(
            "this is no data folder of a {program}, and nothing was changed; look at --data. A new \
             one is made with `{program} --data DIR init`, or out of a backup with `restore`. If a \
             restore into it was cut short, remove it, and restore again"
        );
        FolderError::invalid(&self.path, reason)
    }

    fn is(&self, kind: &Kind) -> bool {
        let is_of_kind = |text: String| {
            let settings = text.parse::<toml::Table>().ok()?;
            Some(settings.contains_key(kind.table))
        };
        let settings = std::fs::read_to_string(self.file("config.toml")).ok();
        kind.files.iter().any(|name| self.file(name).exists())
            || settings.and_then(is_of_kind).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_of_one_kind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("data"), "");
        let checked = || folder.check_kind(&RELAY, &ISSUER).map_err(|error| error.to_string());
        assert!(checked().unwrap_err().contains("no data folder of a tocyn-relay"));
        folder.create().unwrap();
        std::fs::write(folder.file("lock"), "").unwrap();
        assert!(checked().unwrap_err().contains("init"));
        let settings = folder.file("config.toml");
        std::fs::write(&settings, "[attesters]\n").unwrap();
        assert!(checked().unwrap_err().contains("of a tocyn-issuer"));
        std::fs::write(&settings, "what is no TOML is refused later, with its line").unwrap();
        assert_eq!(checked(), Ok(()));
        std::fs::write(&settings, "").unwrap();
        assert_eq!(checked(), Ok(()), "its pairing may be passed on, and its log on a server");
        std::fs::write(folder.file("issuer.sqlite"), "").unwrap();
        assert!(checked().is_err());
        std::fs::write(folder.file("log.key"), "").unwrap();
        assert_eq!(checked(), Ok(()));
    }
}
