//! How paths and streams end, in terms that both transports share.

use std::io::{self, ErrorKind};

use quinn::{ConnectionError, ReadError, StoppedError, TransportErrorCode, WriteError};
use rexec_shared::close::CloseCode;
use thiserror::Error;

/// How a path ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathEnd {
    /// The peer closed it; `None` is a code of a newer peer.
    #[error("closed by the peer: {}", .0.map_or("a code of a newer version", CloseCode::name))]
    Closed(Option<CloseCode>),
    /// The peer no longer knows of it: it restarted, or was killed.
    #[error("reset by the peer")]
    Reset,
    /// Nothing was heard for too long.
    #[error("timed out")]
    TimedOut,
    /// The peer refused our certificate, or TLS failed on its side: its alert (RFC 8446 §6).
    #[error("the peer sent TLS alert {0}")]
    Tls(u8),
    /// Anything else: we closed it, the peer broke the protocol, the system failed.
    #[error("{0}")]
    Other(String),
}

/// Why a half takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendEnd {
    /// The peer reads no more; a number of the table of close codes, or of a newer one.
    #[error("stopped by the peer with code {0}")]
    Stopped(u64),
    /// The path is gone, or we have ended this half ourselves.
    #[error("the path is lost")]
    Lost,
}

/// Why a half gives no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecvEnd {
    /// The peer abandoned it; a number of the table of close codes, or of a newer one.
    #[error("reset by the peer with code {0}")]
    Reset(u64),
    /// The path is gone, or we have stopped this half ourselves.
    #[error("the path is lost")]
    Lost,
}

impl From<&ConnectionError> for PathEnd {
    fn from(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                Self::Closed(CloseCode::from_number(close.error_code.into_inner()))
            }
            ConnectionError::ConnectionClosed(close) => {
                alert(close.error_code).map_or_else(|| Self::Other(close.to_string()), Self::Tls)
            }
            ConnectionError::Reset => Self::Reset,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::LocallyClosed
            | ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::CidsExhausted => Self::Other(error.to_string()),
        }
    }
}

/// QUIC carries TLS alerts as 0x100 + the alert (RFC 9001 §4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

impl From<io::Error> for PathEnd {
    fn from(error: io::Error) -> Self {
        // A killed process ends its connections without a word of TLS: an end, but not an orderly one.
        const RESETS: [ErrorKind; 4] = [
            ErrorKind::UnexpectedEof,
            ErrorKind::ConnectionReset,
            ErrorKind::ConnectionAborted,
            ErrorKind::BrokenPipe,
        ];
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => return Self::Tls(u8::from(*alert)),
            Some(error) => return Self::Other(error.to_string()),
            None => {}
        }
        if RESETS.contains(&error.kind()) {
            Self::Reset
        } else if error.kind() == ErrorKind::TimedOut {
            Self::TimedOut
        } else {
            Self::Other(error.to_string())
        }
    }
}

impl From<WriteError> for SendEnd {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stopped(code.into_inner()),
            WriteError::ConnectionLost(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                Self::Lost
            }
        }
    }
}

impl From<StoppedError> for SendEnd {
    fn from(error: StoppedError) -> Self {
        match error {
            StoppedError::ConnectionLost(_) | StoppedError::ZeroRttRejected => Self::Lost,
        }
    }
}

impl From<ReadError> for RecvEnd {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code.into_inner()),
            ReadError::ConnectionLost(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_a_word_is_a_reset_and_an_alert_keeps_its_number() {
        let refused = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
        let refused = io::Error::new(ErrorKind::InvalidData, refused);
        assert_eq!(PathEnd::from(refused), PathEnd::Tls(45));
        assert_eq!(PathEnd::from(io::Error::from(ErrorKind::UnexpectedEof)), PathEnd::Reset);
        assert_eq!(PathEnd::from(io::Error::from(ErrorKind::TimedOut)), PathEnd::TimedOut);
        assert_eq!(alert(TransportErrorCode::crypto(45)), Some(45));
        assert_eq!(alert(TransportErrorCode::CONNECTION_REFUSED), None);
    }
}
