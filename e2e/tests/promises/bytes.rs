//! Bytes are opaque, and all of them arrive.

use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use rexec_e2e::counter::sha256;
use rexec_e2e::viewer::{find, shell, terminal};
use rexec_e2e::{Installation, Machine, ViewerClient, wait};

const FILE_BYTES: usize = 50_000_000;
const PASTE_BYTES: usize = 5_000_000;

fn script(text: String) -> Option<Vec<String>> {
    Some(vec!["/bin/bash".into(), "-c".into(), text])
}

#[tokio::test]
async fn a_binary_file_of_50_mb_arrives_byte_for_byte() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let mut file = vec![0; FILE_BYTES];
    rand::rng().fill_bytes(&mut file);
    let path = installation.scratch().join("file");
    std::fs::write(&path, &file)?;

    let command = script(format!("stty raw -echo; echo READY; cat '{}'; sleep 600", path.display()));
    let mut viewer = ViewerClient::open(installation.owner(), machine.id(), terminal(command)).await?;
    viewer.wait_for("READY\n", Duration::from_secs(10)).await?;
    let from = find(viewer.output(), b"READY\n").context("READY")? + b"READY\n".len();
    let whole = from + FILE_BYTES;
    viewer.until("the whole file", Duration::from_secs(120), |viewer| viewer.output().len() >= whole).await?;

    assert!(viewer.output().get(from..) == Some(&file[..]), "the bytes differ");
    assert_eq!((viewer.gaps(), viewer.streams()), (0, 1));
    Ok(())
}

#[tokio::test]
async fn a_paste_of_5_mb_into_cat_arrives_whole() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let path = installation.scratch().join("pasted");
    let line = "0123456789 the quick brown fox jumps over the lazy dog — schnell\n";
    let paste: String = line.chars().cycle().take(PASTE_BYTES).collect::<String>() + "\n";

    let mut viewer = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    viewer.type_bytes(format!("echo rea''dy; cat > '{}'; echo do''ne\n", path.display()).as_bytes())?;
    viewer.wait_for("ready", Duration::from_secs(10)).await?;
    viewer.type_bytes(paste.as_bytes())?;
    viewer.type_bytes(b"\x04")?;
    viewer.wait_for("done", Duration::from_secs(120)).await?;

    let arrived = std::fs::read(&path)?;
    assert_eq!(arrived.len(), paste.len());
    assert_eq!(sha256(&arrived), sha256(paste.as_bytes()));
    Ok(())
}

#[tokio::test]
async fn an_ended_session_says_how_and_after_its_last_byte() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let command = script("printf 'last words'; exit 7".into());
    let mut viewer = ViewerClient::open(installation.owner(), machine.id(), terminal(command)).await?;
    viewer.until("an exit", Duration::from_secs(10), |viewer| viewer.exit().is_some()).await?;
    let exit = viewer.exit().context("no exit")?;
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    let shown = viewer.rendered().lines();
    assert_eq!(shown.last().map(String::as_str), Some("last words"));
    Ok(())
}

#[tokio::test]
async fn a_terminal_of_200_by_60_knows_its_size() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let mut viewer = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    let size = rexec_shared::message::Size { cols: 200, rows: 60 };
    viewer.send(&rexec_shared::message::ViewerMessage::Resize(size));
    viewer.until("the new size", Duration::from_secs(10), |viewer| viewer.size() == (200, 60)).await?;
    viewer.type_bytes(b"stty size\n")?;
    viewer.wait_for("60 200", Duration::from_secs(10)).await?;
    let seen = wait::until("the new size in presence", Duration::from_secs(10), || {
        let machine = machine.seen_by_control().ok()?;
        (machine["sessions"][0]["cols"] == 200).then(|| machine["sessions"][0]["rows"].clone())
    })?;
    assert_eq!(seen, 60);
    Ok(())
}
