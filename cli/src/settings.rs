//! Where the database and the broker are. Flags come first, then `LONGSHORE_*`, then `longshore.toml` in the
//! current directory, then the one in the user's configuration directory, then the defaults.

use crate::ended::Ended;
use anyhow::Context;
use serde::Deserialize;
use std::{
    env, fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// The broker that is channels in the engine's own process.
const EMBEDDED: &str = "embedded";

/// `longshore.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// `sqlite://PATH` or `postgres://…`.
    pub(crate) database: Option<String>,
    /// `amqp://…`, `amqps://…` or `embedded`.
    pub(crate) broker: Option<String>,
    /// What is logged.
    pub(crate) log: Option<String>,
    /// Engines: the address of the HTTP listener.
    pub(crate) listen: Option<String>,
    /// Engines: a reference to the token of HTTP's readers.
    pub(crate) http_token: Option<String>,
    /// Workers: the zone.
    pub(crate) zone: Option<String>,
    /// Workers: the host's name.
    pub(crate) host: Option<String>,
}

/// What every subcommand may need to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// `sqlite://PATH` or `postgres://…`.
    pub(crate) database: String,
    /// How commands and steps travel.
    pub(crate) broker: Broker,
    /// The rest of the file.
    pub(crate) file: File,
}

/// How commands and steps travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broker {
    /// Channels inside the engine's process, and a socket beside the database.
    Embedded,
    /// RabbitMQ, at this address.
    Amqp(String),
}

impl Settings {
    /// Flags and environment, as clap has merged them, over the files.
    pub(crate) fn read(database: Option<&str>, broker: Option<&str>, config: Option<&Path>) -> Result<Settings, Ended> {
        let file = find_file(config)?;
        Settings::merge(database, broker, file)
    }

    fn merge(database: Option<&str>, broker: Option<&str>, file: File) -> Result<Settings, Ended> {
        let broker = broker.or(file.broker.as_deref()).unwrap_or(EMBEDDED);
        let broker = match broker.split_once("://") {
            None if broker == EMBEDDED => Broker::Embedded,
            Some(("amqp" | "amqps", _)) => Broker::Amqp(broker.to_owned()),
            _ => return Err(Ended::usage("the broker is amqp://…, amqps://… or embedded")),
        };
        let database = match database.or(file.database.as_deref()) {
            Some(url) if ["sqlite:", "postgres:", "postgresql:"].iter().any(|it| url.starts_with(it)) => url.to_owned(),
            Some(_) => return Err(Ended::usage("the database is sqlite://PATH or postgres://USER@HOST/NAME")),
            None => default_database().map_err(Ended::Broken)?,
        };
        Ok(Settings { database, broker, file })
    }

    /// The socket of embedded mode: beside the database.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        longshore_engine::database::sqlite_path(&self.database).map(|path| PathBuf::from(format!("{path}.sock")))
    }
}

fn find_file(config: Option<&Path>) -> Result<File, Ended> {
    if let Some(path) = config {
        let found = read_file(path)?;
        return found.ok_or_else(|| Ended::usage(format!("there is no {}", path.display())));
    }
    let home = directory("XDG_CONFIG_HOME", ".config").map(|it| it.join("longshore/longshore.toml"));
    for path in [Some(PathBuf::from("longshore.toml")), home].into_iter().flatten() {
        if let Some(file) = read_file(&path)? {
            return Ok(file);
        }
    }
    Ok(File::default())
}

fn read_file(path: &Path) -> Result<Option<File>, Ended> {
    let named = |what: &str| Ended::usage(format!("read {}: {what}", path.display()));
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map(Some).map_err(|error| named(error.to_string().trim_end())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(&error.to_string())),
    }
}

/// SQLite in the user's data directory, which nobody else may read.
fn default_database() -> anyhow::Result<String> {
    let data = directory("XDG_DATA_HOME", ".local/share").context("no home directory; set LONGSHORE_DATABASE")?;
    let folder = data.join("longshore");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("make the folder {} for the database; or set LONGSHORE_DATABASE", folder.display()))?;
    Ok(format!("sqlite://{}", folder.join("longshore.db").display()))
}

/// A base directory of the XDG specification: relative ones are to be ignored.
fn directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|it| it.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|it| it.join(below_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_was_said_closer_to_the_command_counts() {
        let text = "database = \"sqlite:///file.db\"\nbroker = \"amqp://file\"";
        let merged = Settings::merge(None, None, file(text)).unwrap();
        assert_eq!((merged.database.as_str(), merged.broker), ("sqlite:///file.db", Broker::Amqp("amqp://file".into())));
        let merged = Settings::merge(Some("sqlite:///flag.db"), Some("embedded"), file(text)).unwrap();
        assert_eq!((merged.database.as_str(), merged.broker), ("sqlite:///flag.db", Broker::Embedded));
    }

    #[test]
    fn a_wrong_address_is_refused_without_showing_it() {
        for (database, broker) in [(Some("mysql://u:hunter2@h"), None), (Some("sqlite://x"), Some("http://u:hunter2@h"))] {
            let Err(Ended::Usage(said)) = Settings::merge(database, broker, File::default()) else { panic!("{broker:?}") };
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn an_unknown_key_and_a_missing_file_are_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("longshore.toml");
        assert!(matches!(find_file(Some(&path)), Err(Ended::Usage(_))));
        std::fs::write(&path, "databse = \"x\"").unwrap();
        assert!(matches!(find_file(Some(&path)), Err(Ended::Usage(said)) if said.contains("databse")));
    }

    #[test]
    fn the_socket_is_beside_the_database() {
        let merged = Settings::merge(Some("sqlite:///a/b.db?mode=rwc"), None, File::default()).unwrap();
        assert_eq!(merged.socket(), Some(PathBuf::from("/a/b.db.sock")));
    }
}
