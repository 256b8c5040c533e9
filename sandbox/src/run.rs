//! A command in a running sandbox, by the engine: before its agent is let in there is no other way.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt as _;
use rexec_shared::text::shown;
use uuid::Uuid;

use crate::engine::{DEADLINE, Engine, within};
use crate::error::{EngineError, ErrorKind};
use crate::lifecycle::container_name;

/// Longest line that is told, characters.
const LINE_MAX: usize = 200;
/// Bytes of a line before it is told unfinished.
const UNFINISHED_MAX: usize = 4 * 1024;

impl Engine {
    /// Runs `argv` in the sandbox `id` and tells each line it says. The exit code; 128 and more where a signal ended it.
    ///
    /// # Errors
    /// When the container does not run, the engine goes away, or the command takes longer than `most`.
    pub async fn run(
        &self,
        id: Uuid,
        argv: &[&str],
        env: &[(&str, &str)],
        most: Duration,
        told: &mut (dyn FnMut(String) + Send),
    ) -> Result<i64, EngineError> {
        let command = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some("0:0".to_owned()),
            env: Some(env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            cmd: Some(argv.iter().map(|word| (*word).to_owned()).collect()),
            ..CreateExecOptions::<String>::default()
        };
        let made = within(DEADLINE, self.docker().create_exec(&container_name(id), command)).await?;
        let started = within(DEADLINE, self.docker().start_exec(&made.id, None)).await?;
        let StartExecResults::Attached { mut output, .. } = started else {
            return Err(EngineError::new(ErrorKind::Refused, "the engine let the command go unattended"));
        };
        let mut lines = Lines::default();
        let reading = async {
            while let Some(piece) = output.next().await {
                lines.take(&piece?.into_bytes(), told);
            }
            lines.end(told);
            Ok::<(), bollard::errors::Error>(())
        };
        let late = || EngineError::new(ErrorKind::TooSlow, "the command took too long");
        tokio::time::timeout(most, reading).await.map_err(|_| late())??;
        let ended = within(DEADLINE, self.docker().inspect_exec(&made.id)).await?;
        Ok(ended.exit_code.unwrap_or(0))
    }
}

/// Bytes as lines that may be shown.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8], told: &mut (dyn FnMut(String) + Send)) {
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') || self.0.len() == UNFINISHED_MAX {
                self.end(told);
            }
            if !matches!(byte, b'\n' | b'\r') {
                self.0.push(*byte);
            }
        }
    }

    fn end(&mut self, told: &mut (dyn FnMut(String) + Send)) {
        let line = shown(String::from_utf8_lossy(&std::mem::take(&mut self.0)).trim(), LINE_MAX);
        if !line.is_empty() {
            told(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_06_lines_are_told_whole_and_tame() {
        let mut told = Vec::new();
        let mut lines = Lines::default();
        let mut tell = |line| told.push(line);
        for piece in ["one\ntw", "o\r\n\n", "\x1b[31mred\x1b[0m 50 %\r60 %\r", "last"] {
            lines.take(piece.as_bytes(), &mut tell);
        }
        lines.end(&mut tell);
        assert_eq!(told.len(), 5, "{told:?}");
        assert_eq!((told[0].as_str(), told[1].as_str(), told[4].as_str()), ("one", "two", "last"));
        assert!(told.iter().all(|line| !line.contains('\x1b')), "{told:?}");
        let mut told = 0;
        Lines::default().take(&[b'x'; 3 * UNFINISHED_MAX], &mut |line| {
            assert!(line.chars().count() <= LINE_MAX);
            told += 1;
        });
        assert_eq!(told, 2, "a line without end is told in pieces");
    }
}
