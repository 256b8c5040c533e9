//! Unix sockets that only our own user can reach (THREATS LO-01, WS-03).
//!
//! The directory is ours, mode 0700, and no link; the socket is mode 0600; and a peer is asked for its credentials, should a
//! descriptor have travelled. The host listens on nothing else.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

/// Pause after `accept` failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that cannot be had.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The directory cannot be made or made private.
    #[error("cannot make {path} a private directory: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory belongs to somebody else.
    #[error("{path} belongs to user {owner}, not to user {us}")]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Something answers there.
    #[error("another session host answers at {path}")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be bound.
    #[error("cannot listen at {path}: {source}")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A bound socket; its file goes when this is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that a successor's socket is not removed.
    identity: (u64, u64),
}

impl Listener {
    /// Binds `path`, in a directory that is made private or refused; a socket left by a dead process is replaced.
    pub(super) fn bind(path: &Path) -> Result<Self, SocketError> {
        let bind = |source| SocketError::Bind { path: path.to_owned(), source };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        prepare_directory(directory.ok_or_else(|| bind(io::ErrorKind::InvalidInput.into()))?)?;
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(bind)?;
        // Nobody else can be here before this: the directory is ours alone.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(bind)?;
        let metadata = std::fs::symlink_metadata(path).map_err(bind)?;
        Ok(Self { listener, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }

    /// The next connection of our own user or of root.
    pub(super) async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if is_trusted(&stream) => return stream,
                Ok(_) => {
                    tracing::warn!(path = %self.path.display(), "a process of another user was turned away")
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting on a local socket failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if std::fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn is_trusted(stream: &UnixStream) -> bool {
    let us = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == us || peer.uid() == 0)
}

fn prepare_directory(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Directory { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let stat = rustix::fs::fstat(&directory).map_err(|error| failed(error.into()))?;
    let us = rustix::process::geteuid().as_raw();
    if stat.st_uid != us {
        return Err(SocketError::Owner { path: path.to_owned(), owner: stat.st_uid, us });
    }
    if stat.st_mode & 0o777 != 0o700 {
        rustix::fs::fchmod(&directory, Mode::RWXU).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let bind = |source| SocketError::Bind { path: path.to_owned(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(bind(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(bind(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no socket is in its place",
        )));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: path.to_owned() });
    }
    std::fs::remove_file(path).map_err(bind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lo_01_directory_and_socket_are_ours_alone() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("run");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.join("viewer.sock");
        let listener = Listener::bind(&path).unwrap();
        let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&path)), (0o700, 0o600));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn lo_01_a_link_planted_for_the_directory_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(temp.path().join("elsewhere"), temp.path().join("run")).unwrap();
        assert!(matches!(
            Listener::bind(&temp.path().join("run/viewer.sock")),
            Err(SocketError::Directory { .. })
        ));
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("run/link.sock");
        let first = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(SocketError::InUse { .. })));
        let left = temp.path().join("run/left");
        std::fs::rename(&path, &left).unwrap();
        drop(first);
        std::fs::rename(&left, &path).unwrap();
        assert!(Listener::bind(&path).is_ok());
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_the_socket_is_not_removed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(Listener::bind(&path), Err(SocketError::Bind { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }
}
