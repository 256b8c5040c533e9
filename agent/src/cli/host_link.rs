//! A command's end of the link: asks the session host how it fares, or tells it to stop.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use rexec_shared::frame::Decoder;
use rexec_shared::tunnel::{HostStatus, LinkAnswer, LinkMessage, LinkRole};

use super::{Complaint, Profile};

/// A host answers at once.
const DEADLINE: Duration = Duration::from_secs(3);

/// How the host fares; `None` when none answers.
pub(super) fn query(profile: &Profile) -> Result<Option<HostStatus>, Complaint> {
    let socket = profile.link_socket()?;
    let asked = UnixStream::connect(socket).and_then(|stream| {
        say(&stream, &[LinkMessage::Hello { role: LinkRole::Cli }, LinkMessage::Query])?;
        listen(&stream)
    });
    Ok(asked.ok())
}

/// Tells the host to stop.
pub(super) fn stop(profile: &Profile) -> Result<io::Result<()>, Complaint> {
    let socket = profile.link_socket()?;
    Ok(UnixStream::connect(socket).and_then(|stream| {
        say(&stream, &[LinkMessage::Hello { role: LinkRole::Cli }, LinkMessage::Stop])?;
        // Its closing says that it was heard; whether it has ended, the lock says.
        stream.set_read_timeout(Some(DEADLINE))?;
        let _ = io::copy(&mut (&stream).take(1024 * 1024), &mut io::sink());
        Ok(())
    }))
}

fn say(mut stream: &UnixStream, messages: &[LinkMessage]) -> io::Result<()> {
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut out = BytesMut::new();
    messages.iter().for_each(|message| message.encode(&mut out));
    stream.write_all(&out)
}

fn listen(mut stream: &UnixStream) -> io::Result<HostStatus> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let (mut decoder, mut buffer) = (Decoder::new(), [0; 4096]);
    loop {
        while let Some(frame) = decoder.poll_frame().map_err(io::Error::other)? {
            if let Some(LinkAnswer::Status(status)) = LinkAnswer::decode(&frame).map_err(io::Error::other)? {
                return Ok(status);
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => decoder.push(buffer.get(..n).unwrap_or_default()),
        }
    }
}
