//! A numbered stream one way and hashed typing the other: what proves that no byte was lost or doubled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use uuid::Uuid;

use crate::api::Api;
use crate::viewer::{ViewerClient, terminal};

const READY_DEADLINE: Duration = Duration::from_secs(20);

/// A program for a terminal: prints `READY`, and after one typed byte `n0`, `n1`, … until told to stop, then `END <count>`; meanwhile
/// it reads a given number of typed bytes, and prints `TYPED <sha256>`.
#[derive(Debug, Clone)]
pub struct Counter {
    stop: PathBuf,
    typed_bytes: usize,
}

impl Counter {
    /// One whose files are in `dir`, and that reads this many typed bytes.
    pub fn new(dir: &Path, typed_bytes: usize) -> Self {
        Self { stop: dir.join(format!("stop-{}", Uuid::new_v4().simple())), typed_bytes }
    }

    /// Its argument vector. `read -t` on a pipe that stays silent is a pause that starts no process: some 300 numbers a second.
    fn command(&self) -> Vec<String> {
        let script = format!(
            r#"stty raw -echo opost onlcr; exec 9<> <(:); echo READY; head -c 1 >/dev/null
            (i=0; while [ ! -e '{stop}' ]; do echo "n$i"; i=$((i+1)); read -t 0.003 -u 9; done; echo "END $i") &
            sum=$(head -c {bytes} | sha256sum); echo "TYPED ${{sum%% *}}"; wait; echo OVER; sleep 600"#,
            stop = self.stop.display(),
            bytes = self.typed_bytes,
        );
        vec!["/bin/bash".into(), "-c".into(), script]
    }

    /// Opens a session that runs it, and lets it begin: everything it counts comes as output.
    ///
    /// # Errors
    /// When the session is refused, or the counter does not begin.
    pub async fn start(&self, api: &Api, machine: Uuid) -> Result<ViewerClient> {
        self.start_from(None, api, machine).await
    }

    /// As [`Counter::start`], with the viewer in a network namespace.
    ///
    /// # Errors
    /// As [`Counter::start`].
    pub async fn start_from(&self, network: Option<&str>, api: &Api, machine: Uuid) -> Result<ViewerClient> {
        let spec = terminal(Some(self.command()));
        let mut viewer = ViewerClient::open_from(network, api, machine, spec).await?;
        viewer.wait_for("READY", READY_DEADLINE).await?;
        viewer.type_bytes(b"g")?;
        Ok(viewer)
    }

    /// Tells it to stop counting.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn stop(&self) -> Result<()> {
        Ok(std::fs::write(&self.stop, "")?)
    }
}

/// The hash as `sha256sum` prints it.
pub fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a counter's whole output: every number once, in order, and as many as it says. Returns how many, and the hash it read.
///
/// # Errors
/// Names the first number that is missing, doubled or mangled.
pub fn check_output(output: &[u8]) -> Result<(u64, Option<String>)> {
    let text = String::from_utf8_lossy(output);
    check_lines(text.lines())
}

/// As [`check_output`], of lines a terminal shows.
///
/// # Errors
/// As [`check_output`].
pub fn check_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<(u64, Option<String>)> {
    let (mut next, mut end, mut typed) = (0u64, None, None);
    for line in lines.into_iter().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(number) = line.strip_prefix('n') {
            ensure!(number.parse() == Ok(next), "after n{} comes {line:?}", next.saturating_sub(1));
            next += 1;
        } else if let Some(count) = line.strip_prefix("END ") {
            end = Some(count.to_owned());
        } else if let Some(hash) = line.strip_prefix("TYPED ") {
            typed = Some(hash.to_owned());
        } else if line != "READY" && line != "OVER" {
            bail!("after n{} comes {line:?}", next.saturating_sub(1));
        }
    }
    ensure!(end == Some(next.to_string()), "{next} numbers, and the counter says {end:?}");
    Ok((next, typed))
}

/// What came of a counter's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines that are a number.
    pub came: u64,
    /// Numbers the counter printed and nobody saw.
    pub lost: u64,
    /// Numbers seen more than once, out of their order, or mangled.
    pub doubled: u64,
}

/// Counts a counter's whole output, and returns the hash it read.
pub fn tally(output: &[u8]) -> (Tally, Option<String>) {
    let text = String::from_utf8_lossy(output);
    let (mut tally, mut next, mut end, mut typed) = (Tally::default(), 0u64, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(number) = line.strip_prefix('n') {
            tally.came += 1;
            match number.parse::<u64>() {
                Ok(number) if number >= next => {
                    tally.lost += number - next;
                    next = number + 1;
                }
                Ok(_) | Err(_) => tally.doubled += 1,
            }
        } else if let Some(count) = line.strip_prefix("END ") {
            end = count.parse().ok();
        } else if let Some(hash) = line.strip_prefix("TYPED ") {
            typed = Some(hash.to_owned());
        }
    }
    // Without an end nobody knows how many there were: one is missing at least.
    tally.lost += end.map_or(1, |end: u64| end.saturating_sub(next));
    (tally, typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_what_is_missing_and_what_came_twice() {
        let of = |text: &str| tally(text.as_bytes()).0;
        assert_eq!(of("READY\nn0\nn1\nEND 2"), Tally { came: 2, lost: 0, doubled: 0 });
        assert_eq!(of("n0\nn3\nn3\nnx\nEND 6"), Tally { came: 4, lost: 4, doubled: 2 });
        assert_eq!(of("n0").lost, 1, "cut off");
        assert_eq!(tally(b"n0\nEND 1\nTYPED ab").1.as_deref(), Some("ab"));
    }

    #[test]
    fn a_missing_doubled_or_mangled_number_is_found() {
        assert_eq!(check_output(b"READY\r\nn0\r\nn1\r\nEND 2\r\n").unwrap(), (2, None));
        for wrong in ["n0\nn2\nEND 2", "n0\nn0\nEND 2", "n0\nn1\nEND 3", "n0\nx\nEND 1", "n0\nn1"] {
            assert!(check_output(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
