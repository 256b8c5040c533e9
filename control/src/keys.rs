//! The keys of an installation, in the data directory: `keys/`, mode 0700, each file 0600.
//!
//! What is missing is made at the first start; what is there is never overwritten.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rexec_shared::pki::{Authority, Identity, PkiError};
use rexec_shared::ticket::{BadKey, Signer};
use uuid::Uuid;

use crate::secret::{NoRandomness, Secret, Vault, random};
use crate::settings::Settings;
use crate::web_identity::WebIdentities;

/// Everything secret that an installation holds.
#[derive(Debug)]
pub struct Keys {
    /// Signs the certificates of agents and brokers.
    pub authority: Authority,
    /// Signs tickets and feeds.
    pub signer: Signer,
    /// Makes and checks the stored hashes of tokens and cookies.
    pub vault: Vault,
    /// Key of the stateless resets and retry tokens of the embedded broker, so that a restart is noticed by agents at once.
    pub broker_reset: Secret<[u8; RESET_KEY_BYTES]>,
}

/// Length of the broker's reset key: one HMAC-SHA256 block.
pub const RESET_KEY_BYTES: usize = 64;

/// Browsers' certificates: made anew every few days, so the one file that is ever written over.
const WEB_FILE: &str = "web-transport.pem";

/// Keys that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that others may read.
    #[error("{0} is readable by others: chmod 600 it, and think about who read it")]
    Permissions(PathBuf),
    /// A file that holds something else.
    #[error("{0} does not hold the key it should")]
    Malformed(PathBuf),
    /// The certificate library refused.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The signing library refused.
    #[error(transparent)]
    Signing(#[from] BadKey),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

impl Keys {
    /// Reads the keys in the data directory, making those that are missing.
    ///
    /// # Errors
    /// When a file cannot be read or written, is open to others, or holds something else.
    pub fn load(settings: &Settings, installation: Uuid) -> Result<Self, KeysError> {
        let dir = settings.data_dir.join("keys");
        make_dir(&settings.data_dir)?;
        make_dir(&dir)?;
        Ok(Self {
            authority: authority(&dir, installation)?,
            signer: signer(&dir)?,
            vault: vault(&dir, settings)?,
            broker_reset: broker_reset(&dir)?,
        })
    }

    /// What was kept of browsers' certificates; none when there is nothing, or nothing good.
    pub fn web_identities(settings: &Settings) -> Option<WebIdentities> {
        let pem = read(&settings.data_dir.join("keys").join(WEB_FILE)).ok()?;
        WebIdentities::from_pem(&String::from_utf8(pem).ok()?)
    }

    /// Keeps them, instead of what was kept.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_web_identities(settings: &Settings, identities: &WebIdentities) -> Result<(), KeysError> {
        let path = settings.data_dir.join("keys").join(WEB_FILE);
        let unfinished = write_unfinished(&path, identities.to_pem().as_bytes())?;
        std::fs::rename(&unfinished, &path).map_err(|source| io(&path, source))
    }

    /// The vault alone, for commands that run beside the server.
    ///
    /// # Errors
    /// As [`Keys::load`].
    pub fn load_vault(settings: &Settings) -> Result<Vault, KeysError> {
        let dir = settings.data_dir.join("keys");
        make_dir(&settings.data_dir)?;
        make_dir(&dir)?;
        vault(&dir, settings)
    }
}

/// Makes the data directory, for its owner alone.
///
/// # Errors
/// When it cannot be made.
pub fn make_data_dir(settings: &Settings) -> Result<(), KeysError> {
    make_dir(&settings.data_dir)
}

fn authority(dir: &Path, installation: Uuid) -> Result<Authority, KeysError> {
    // Both halves in one file, so that a crash between two writes cannot leave a certificate without its key.
    let path = dir.join("ca.pem");
    let pem = read_or_make(&path, || {
        let made = Authority::generate(installation, SystemTime::now())?;
        Ok(format!("{}{}", made.certificate_pem, made.key_pem).into_bytes())
    })?;
    let malformed = || KeysError::Malformed(path.clone());
    let pem = String::from_utf8(pem).map_err(|_| malformed())?;
    let key_at = pem.find("-----BEGIN PRIVATE KEY-----").ok_or_else(malformed)?;
    let (certificate, key) = pem.split_at(key_at);
    Ok(Authority::load(&Identity { certificate_pem: certificate.to_owned(), key_pem: key.to_owned() })?)
}

fn signer(dir: &Path) -> Result<Signer, KeysError> {
    let pkcs8 = read_or_make(&dir.join("ticket.pk8"), || Ok(Signer::generate()?))?;
    Ok(Signer::from_pkcs8(&pkcs8)?)
}

fn vault(dir: &Path, settings: &Settings) -> Result<Vault, KeysError> {
    if let Some(secret) = &settings.jwt_secret {
        return Ok(Vault::new(secret));
    }
    let path = dir.join("jwt-secret");
    let bytes = read_or_make(&path, || Ok(URL_SAFE_NO_PAD.encode(random::<32>()?).into_bytes()))?;
    let secret = String::from_utf8(bytes).map_err(|_| KeysError::Malformed(path))?;
    Ok(Vault::new(&Secret::new(secret)))
}

fn broker_reset(dir: &Path) -> Result<Secret<[u8; RESET_KEY_BYTES]>, KeysError> {
    let path = dir.join("broker-reset.key");
    let bytes = read_or_make(&path, || Ok(random::<RESET_KEY_BYTES>()?.to_vec()))?;
    bytes.try_into().map(Secret::new).map_err(|_| KeysError::Malformed(path))
}

fn make_dir(path: &Path) -> Result<(), KeysError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| io(path, source))
}

fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, KeysError>,
) -> Result<Vec<u8>, KeysError> {
    match read(path) {
        Err(KeysError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            write_new(path, &make()?)?;
            read(path)
        }
        other => other,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeysError> {
    let mut file = OpenOptions::new().read(true).open(path).map_err(|source| io(path, source))?;
    let mode = file.metadata().map_err(|source| io(path, source))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeysError::Permissions(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| io(path, source))?;
    Ok(bytes)
}

/// Writes the whole file or none of it; of two processes that start at once, one wins and both go on with its key.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeysError> {
    let unfinished = write_unfinished(path, bytes)?;
    let linked = match std::fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    };
    let removed = std::fs::remove_file(&unfinished);
    linked.and(removed).map_err(|source| io(path, source))
}

/// Writes a file beside `path`, which only the caller gives its name.
fn write_unfinished(path: &Path, bytes: &[u8]) -> Result<PathBuf, KeysError> {
    let unfinished = path.with_extension(format!("new-{}", std::process::id()));
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished).and_then(
            |mut file| {
                file.set_permissions(Permissions::from_mode(0o600))?;
                file.write_all(bytes)?;
                file.sync_all()
            },
        );
    written.map(|()| unfinished.clone()).map_err(|source| io(&unfinished, source))
}

fn io(path: &Path, source: std::io::Error) -> KeysError {
    KeysError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_private_and_found_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("k");
        let first = read_or_make(&path, || Ok(b"one".to_vec())).expect("made");
        let again = read_or_make(&path, || Ok(b"two".to_vec())).expect("found");
        assert_eq!((first, again), (b"one".to_vec(), b"one".to_vec()));
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("a directory").count(),
            1,
            "nothing unfinished stays"
        );
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("k");
        read_or_make(&path, || Ok(b"one".to_vec())).expect("made");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(read_or_make(&path, || Ok(Vec::new())), Err(KeysError::Permissions(_))));
    }
}
