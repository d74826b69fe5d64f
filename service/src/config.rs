//! Settings from several places. Each is read by itself, so that an unknown key is refused with
//! file and line; then they are laid over one another, key by key:
//!
//! 1. the file that `--config` names
//! 2. the environment: `TOCYN_ISSUER__LIMITS__MAX_BATCH=64`
//! 3. `/etc/tocyn/issuer.toml`
//! 4. `config.toml` in the data folder; without one, `./issuer.toml`
//!
//! What is nowhere has its default.

mod environment;

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::folder::{self, FolderError};
use crate::output::print;

/// Settings of a service.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// Refuses values that would stop the service from working; says which key, and why.
    fn validate(&self) -> Result<(), String>;
}

/// Where a service looks for its settings.
#[derive(Clone, Debug)]
pub struct Places {
    /// `issuer` or `relay`.
    name: &'static str,
    /// What `--config` names.
    explicit: Option<PathBuf>,
    /// `config.toml` of the data folder.
    in_data: PathBuf,
    /// Folder of the machine's settings.
    etc: PathBuf,
}

impl Places {
    /// The places for the service called `name`.
    pub fn new(name: &'static str, explicit: Option<PathBuf>, data: &Path) -> Self {
        let (in_data, etc) = (data.join("config.toml"), PathBuf::from("/etc/tocyn"));
        Self { name, explicit, in_data, etc }
    }

    /// The files that there are, the one that decides last first.
    fn files(&self) -> Vec<PathBuf> {
        let etc = self.etc.join(format!("{}.toml", self.name));
        let here = PathBuf::from(format!("./{}.toml", self.name));
        // One that is there and cannot be seen is an error when it is read.
        let mut files: Vec<PathBuf> = match self.in_data.try_exists() {
            Ok(false) => Some(here).filter(|path| path.exists()).into_iter().collect(),
            Ok(true) | Err(_) => vec![self.in_data.clone()],
        };
        files.extend(Some(etc).filter(|path| path.exists()));
        files
    }

    /// Reads and checks all of them.
    pub fn read<T: Settings>(&self) -> Result<Loaded<T>, FolderError> {
        self.read_with(std::env::vars_os().filter_map(|(name, value)| {
            // What is not text cannot be one of ours: their names and values are.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    fn read_with<T: Settings>(
        &self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded<T>, FolderError> {
        // The one that decides comes later.
        let mut layers: Vec<(String, Table)> = Vec::new();
        let read_file = |path: &Path| {
            // Read as settings first: the error then has the line and the key.
            folder::read_toml::<T>(path)?;
            Ok::<_, FolderError>((path.display().to_string(), folder::read_toml(path)?))
        };
        for path in self.files() {
            layers.push(read_file(&path)?);
        }
        let prefix = format!("TOCYN_{}__", self.name.to_uppercase());
        let named = environment::layers::<T>(&prefix, variables)
            .map_err(|(name, reason)| FolderError::invalid(Path::new(&name), reason))?;
        layers.extend(named);
        if let Some(path) = &self.explicit {
            layers.push(read_file(path)?);
        }
        let mut table = Table::new();
        for (_, layer) in &layers {
            lay_over(&mut table, layer.clone());
        }
        let sources = Sources { layers, otherwise: self.in_data.display().to_string() };
        let invalid =
            |reason: String| FolderError::invalid(Path::new(&sources.places_of(&reason)), reason);
        let settings: T = table.try_into().map_err(|error| invalid(error.to_string()))?;
        settings.validate().map_err(invalid)?;
        Ok(Loaded { settings, sources })
    }
}

/// The keys of a table, with dots.
fn keys(table: &Table) -> Vec<String> {
    let below = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Table(table) => {
            keys(table).into_iter().map(|below| format!("{key}.{below}")).collect()
        }
        _ => vec![key.clone()],
    };
    table.iter().flat_map(below).collect()
}

/// Settings, and where they came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// All of them, checked.
    pub settings: T,
    /// Files and variables that were read.
    pub sources: Sources,
}

/// Files and variables, each with what it sets; the one that decides comes later.
#[derive(Clone, Debug)]
pub struct Sources {
    layers: Vec<(String, Table)>,
    /// Where what is nowhere would be set.
    otherwise: String,
}

impl Sources {
    /// An error about a setting, with the place of that.
    pub fn blame(&self, error: impl Display) -> String {
        let error = error.to_string();
        format!("{}: {error}", self.places_of(&error))
    }

    /// The files and variables that set the keys which a reason names; else those that set others of
    /// the same section.
    fn places_of(&self, reason: &str) -> String {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
        let named: Vec<&str> = reason.split(word).map(|word| word.trim_end_matches('.')).collect();
        // A reason says `limits.max_posts, .max_followers`.
        let is_named = |key: &str| {
            let last = key.rsplit_once('.').map(|(_, last)| format!(".{last}"));
            named.iter().any(|word| *word == key || last.as_deref() == Some(*word))
        };
        let is_beside = |key: &str| {
            let section = |key: &str| key.rsplit_once('.').map(|(section, _)| section.to_owned());
            section(key)
                .is_some_and(|of| named.iter().any(|word| section(word).as_ref() == Some(&of)))
        };
        let places = self.of_keys(is_named).or_else(|| self.of_keys(is_beside));
        places.unwrap_or_else(|| self.otherwise.clone())
    }

    fn of_keys(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let mut deciding: HashMap<String, &str> = HashMap::new();
        for (source, layer) in &self.layers {
            deciding.extend(keys(layer).into_iter().map(|key| (key, source.as_str())));
        }
        let mut places: Vec<&str> =
            deciding.iter().filter(|(key, _)| wanted(key)).map(|(_, source)| *source).collect();
        places.sort_unstable();
        places.dedup();
        (!places.is_empty()).then(|| places.join(", "))
    }
}

fn lay_over(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => lay_over(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

/// `config init|validate|show`.
#[derive(clap::Subcommand)]
pub enum ConfigCommand {
    /// Write the commented settings, all at their defaults, to the data folder or to a file.
    Init {
        /// The file, instead of config.toml in the data folder; `-` is standard output.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Read all settings, from all places, and say whether they can be used.
    Validate,
    /// Show the settings that are in force, without secrets, and where they came from.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl ConfigCommand {
    /// Runs it; `example` is the commented text, and `check` looks at what the settings refer to.
    pub fn run<T: Settings>(
        self,
        places: &Places,
        example: &str,
        check: impl FnOnce(&T) -> Result<(), Box<dyn std::error::Error>>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        match self {
            Self::Init { to } => {
                let path = to.unwrap_or_else(|| places.in_data.clone());
                if path == Path::new("-") {
                    return Ok(print(example.trim_end())?);
                }
                folder::create(&path, example.as_bytes())?;
                print(format_args!("wrote {}", path.display()))?;
            }
            Self::Validate => {
                let loaded = places.read::<T>()?;
                check(&loaded.settings).map_err(|error| loaded.sources.blame(error))?;
                let from = loaded.from();
                print(format_args!("the settings can be used; they are from: {from}"))?;
            }
            Self::Show { json } => {
                let loaded = places.read::<T>()?;
                print(match json {
                    true => serde_json::to_string(&loaded.settings)?,
                    false => {
                        let settings = toml::to_string(&loaded.settings)?;
                        format!("# from: {}\n\n{}", loaded.from(), settings.trim_end())
                    }
                })?;
            }
        }
        Ok(())
    }
}

impl<T> Loaded<T> {
    fn from(&self) -> String {
        let names: Vec<&str> = self.sources.layers.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() { "the defaults".to_owned() } else { names.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::time::Duration;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Some2 {
        name: String,
        limits: Limits,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Limits {
        most: u32,
        least: u32,
        on: bool,
        listen: Vec<String>,
        places: Vec<String>,
        #[serde(with = "humantime_serde")]
        wait: Duration,
    }

    impl Default for Limits {
        fn default() -> Self {
            let (places, wait) = (vec!["here".to_owned()], Duration::from_secs(1));
            Self { most: 0, least: 0, on: false, listen: Vec::new(), places, wait }
        }
    }

    impl Settings for Some2 {
        fn validate(&self) -> Result<(), String> {
            if self.limits.most == 13 { Err("limits.most must not be 13".into()) } else { Ok(()) }
        }
    }

    fn places(dir: &Path) -> Places {
        let mut places = Places::new("thing", None, dir);
        places.etc = dir.join("etc");
        std::fs::create_dir_all(&places.etc).unwrap();
        places
    }

    fn read(places: &Places, variables: &[(&str, &str)]) -> Result<Some2, String> {
        let variables = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        places.read_with(variables).map(|l| l.settings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_nearest_place_decides_on_each_key() {
        let dir = tempfile::tempdir().unwrap();
        let mut places = places(dir.path());
        assert_eq!(read(&places, &[]).unwrap(), Some2::default());
        std::fs::write(&places.in_data, "name = 'data'\n[limits]\nmost = 1\nleast = 1\n").unwrap();
        assert_eq!(read(&places, &[]).unwrap().limits.most, 1);
        std::fs::write(places.etc.join("thing.toml"), "[limits]\nmost = 2\n").unwrap();
        let settings = read(&places, &[]).unwrap();
        assert_eq!((settings.name.as_str(), settings.limits.most), ("data", 2));
        let variables =
            [("TOCYN_THING__LIMITS__MOST", "3"), ("TOCYN_OTHER__X", "1"), ("HOME", "/")];
        let settings = read(&places, &variables).unwrap();
        assert_eq!((settings.limits.most, settings.limits.least), (3, 1));
        let explicit = dir.path().join("explicit.toml");
        std::fs::write(&explicit, "[limits]\nmost = 4\n").unwrap();
        places.explicit = Some(explicit.clone());
        assert_eq!(read(&places, &variables).unwrap().limits.most, 4);
        std::fs::remove_file(explicit).unwrap();
        assert!(read(&places, &variables).is_err(), "a file that was named must be there");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let error = read(&places, &[("TOCYN_THING__LIMITS__MOAST", "3")]).unwrap_err();
        assert!(error.contains("TOCYN_THING__LIMITS__MOAST"), "{error}");
        assert!(error.contains("limits.moast"), "{error}");
        let error = read(&places, &[("TOCYN_THING__LIMITS__MOST", "many")]).unwrap_err();
        assert!(error.contains("TOCYN_THING__LIMITS__MOST") && error.contains("whole"), "{error}");
        let error = read(&places, &[("TOCYN_THING__LIMITS__ON", "yes")]).unwrap_err();
        assert!(error.contains("true or false"), "{error}");
        let error = read(&places, &[("TOCYN_THING__LIMITS", "3")]).unwrap_err();
        assert!(error.contains("section"), "{error}");
        let error = read(&places, &[("TOCYN_THING__LIMITS__MOST", "13")]).unwrap_err();
        assert!(error.contains("must not be 13"), "{error}");
        assert!(error.starts_with("TOCYN_THING__LIMITS__MOST: "), "{error}");
        let error = read(&places, &[("TOCYN_THING__LIMITS__WAIT", "30")]).unwrap_err();
        assert!(error.starts_with("TOCYN_THING__LIMITS__WAIT: "), "{error}");
        assert!(!error.contains("30\""), "it may be a secret: {error}");
        // Of a key that both set, the one that decides.
        let etc = places.etc.join("thing.toml");
        std::fs::write(&etc, "[limits]\nmost = 13\n").unwrap();
        let error = read(&places, &[]).unwrap_err();
        assert!(error.starts_with(&etc.display().to_string()), "{error}");
        assert_eq!(read(&places, &[("TOCYN_THING__LIMITS__MOST", "1")]).unwrap().limits.most, 1);
        std::fs::remove_file(etc).unwrap();
        // What is empty by default may be, and nothing else.
        assert_eq!(read(&places, &[("TOCYN_THING__NAME", "")]).unwrap().name, "");
        for empty in ["TOCYN_THING__LIMITS__PLACES", "TOCYN_THING__LIMITS__WAIT"] {
            let error = read(&places, &[(empty, " ")]).unwrap_err();
            assert!(error.starts_with(empty) && error.contains("is empty"), "{error}");
        }
        let listen = [("TOCYN_THING__LIMITS__LISTEN", "127.0.0.1:1, unix:/x")];
        assert_eq!(read(&places, &listen).unwrap().limits.listen, ["127.0.0.1:1", "unix:/x"]);
        std::fs::write(&places.in_data, "[limits]\n\nmoast = 1\n").unwrap();
        let error = read(&places, &[]).unwrap_err();
        assert!(error.contains("line 3, moast"), "{error}");
    }
}
