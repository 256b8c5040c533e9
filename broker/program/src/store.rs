//! What a broker keeps on disk: a directory of mode 0700, each file 0600, each written whole or not at all.
//!
//! | file | what |
//! |---|---|
//! | `key.pem` | the private key, made here, never sent |
//! | `reset.key` | key material by which agents notice a restart at once |
//! | `welcome.json` | what control said last: certificate, authority, ticket key, origins |
//! | `feeds.json` | the newest feed of each organisation |
//! | `lock` | held by the process that uses the directory |

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use rexec_shared::broker_link::LinkWelcome;
use rexec_shared::pki::{self, PkiError};
use thiserror::Error;
use uuid::Uuid;

/// The newest feed of each organisation, as control signed it.
pub(crate) type Feeds = BTreeMap<Uuid, String>;

/// Why something cannot be kept, or what was kept is of no use.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0} is readable by others: chmod 600 it, and think about who read it")]
    Permissions(PathBuf),
    #[error("{0} does not hold what it should")]
    Malformed(PathBuf),
    #[error("another rexec-broker uses {0}")]
    InUse(PathBuf),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("the system gave no randomness")]
    Randomness,
}

/// The data directory, held for as long as this lives.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the directory, making it if need be.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_at(dir))?;
        let path = dir.join("lock");
        let lock = private().create(true).truncate(false).open(&path).map_err(io_at(&path))?;
        lock.try_lock().map_err(|_| StoreError::InUse(dir.to_owned()))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// The private key, PKCS #8 in PEM.
    pub(crate) fn key(&self) -> Result<String, StoreError> {
        let path = self.dir.join("key.pem");
        let bytes = self.read_or_make("key.pem", || Ok(pki::generate_key()?.into_bytes()))?;
        let pem = String::from_utf8(bytes).map_err(|_| StoreError::Malformed(path.clone()))?;
        pki::key_fingerprint(&pem).map_err(|_| StoreError::Malformed(path))?;
        Ok(pem)
    }

    /// Key material of the stateless resets.
    pub(crate) fn reset_key(&self) -> Result<[u8; 64], StoreError> {
        let bytes = self.read_or_make("reset.key", || {
            let mut key = [0; 64];
            rand::fill(&mut key).map_err(|_| StoreError::Randomness)?;
            Ok(key.to_vec())
        })?;
        bytes.try_into().map_err(|_| StoreError::Malformed(self.dir.join("reset.key")))
    }

    /// What control said last, if it ever did.
    pub(crate) fn welcome(&self) -> Result<Option<LinkWelcome>, StoreError> {
        self.json("welcome.json")
    }

    /// Keeps what control said.
    pub(crate) fn keep_welcome(&self, welcome: &LinkWelcome) -> Result<(), StoreError> {
        self.write("welcome.json", &serde_json::to_vec(welcome).unwrap_or_default())
    }

    /// The feeds that were kept; none when they cannot be read: control tells them again.
    pub(crate) fn feeds(&self) -> Feeds {
        self.json("feeds.json")
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "the kept feeds cannot be read");
                None
            })
            .unwrap_or_default()
    }

    /// Keeps the feeds.
    pub(crate) fn keep_feeds(&self, feeds: &Feeds) -> Result<(), StoreError> {
        self.write("feeds.json", &serde_json::to_vec(feeds).unwrap_or_default())
    }

    /// Forgets what control said: this is no broker of its any more.
    pub(crate) fn forget(&self) -> Result<(), StoreError> {
        for name in ["welcome.json", "feeds.json"] {
            let path = self.dir.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_at(&path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let path = self.dir.join(name);
        match read(&path)? {
            Some(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| StoreError::Malformed(path)),
            None => Ok(None),
        }
    }

    fn read_or_make(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Vec<u8>, StoreError>,
    ) -> Result<Vec<u8>, StoreError> {
        if let Some(bytes) = read(&self.dir.join(name))? {
            return Ok(bytes);
        }
        let made = make()?;
        self.write(name, &made)?;
        Ok(made)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let (path, unfinished) = (self.dir.join(name), self.dir.join(format!(".{name}.new")));
        let written = private().create(true).truncate(true).open(&unfinished).and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(io_at(&unfinished))?;
        std::fs::rename(&unfinished, &path).map_err(io_at(&path))
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_at(path)(error)),
    };
    if file.metadata().map_err(io_at(path))?.permissions().mode() & 0o077 != 0 {
        return Err(StoreError::Permissions(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io_at(path))?;
    Ok(Some(bytes))
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn st_01_what_is_kept_is_private_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let store = Store::open(&data).unwrap();
        let (key, reset) = (store.key().unwrap(), store.reset_key().unwrap());
        let feeds = Feeds::from([(Uuid::from_u128(1), "rxf1.a.b".to_owned())]);
        store.keep_feeds(&feeds).unwrap();
        assert!(matches!(Store::open(&data), Err(StoreError::InUse(_))), "one process at a time");
        drop(store);
        let store = Store::open(&data).unwrap();
        assert_eq!((store.key().unwrap(), store.reset_key().unwrap(), store.feeds()), (key, reset, feeds));
        assert_eq!(store.welcome().unwrap(), None);
        assert_eq!(mode(&data), 0o700);
        for name in ["key.pem", "reset.key", "feeds.json"] {
            assert_eq!(mode(&data.join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_and_broken_feeds_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.key().unwrap();
        std::fs::set_permissions(dir.path().join("key.pem"), Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(store.key(), Err(StoreError::Permissions(_))));
        store.write("feeds.json", b"{").unwrap();
        assert!(store.feeds().is_empty());
    }
}
