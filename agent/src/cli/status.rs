//! `status`: registered, running, online? For a person, or as JSON.

use std::process::ExitCode;

use rexec_shared::tunnel::{HostStatus, SessionInfo, UplinkStatus};
use serde::Serialize;
use url::Url;
use uuid::Uuid;

use super::say::{say, say_json};
use super::{Complaint, EXIT_NOT_ONLINE, EXIT_NOT_RUNNING, Profile, host_link};
use crate::clock::unix_ms;
use crate::plain_text::plain;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    profile: String,
    registered: bool,
    name: Option<String>,
    machine: Option<Uuid>,
    server: Option<Url>,
    running: bool,
    online: bool,
    host: Option<HostStatus>,
}

pub(super) fn run(profile: &Profile, is_json: bool) -> Result<ExitCode, Complaint> {
    let report = report(profile)?;
    if is_json {
        say_json(&report)?;
    } else {
        describe(&report).iter().for_each(|line| say(line));
    }
    Ok(match (report.running, report.online) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(EXIT_NOT_ONLINE),
        (false, _) => ExitCode::from(EXIT_NOT_RUNNING),
    })
}

fn report(profile: &Profile) -> Result<Report, Complaint> {
    let registration = profile.registration()?;
    let running = profile.is_running()?;
    let host = if running { host_link::query(profile)? } else { None };
    let uplink = host.as_ref().and_then(|host| host.uplink.as_ref());
    let online = uplink.is_some_and(|uplink| uplink.state == "online");
    Ok(Report {
        profile: profile.name().into(),
        registered: registration.is_some(),
        name: registration.as_ref().map(|known| known.name.clone()),
        machine: registration.as_ref().map(|known| known.machine),
        server: registration.map(|known| known.server),
        running,
        online,
        host,
    })
}

fn describe(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    match (&report.name, &report.server) {
        (Some(name), Some(server)) => lines.push(format!("\"{}\", registered with {server}", plain(name))),
        (_, _) => lines.push("not registered: run `rexec-agent register --name NAME`".into()),
    }
    let field = |name: &str, value: String| format!("  {name:<12}{value}");
    lines.extend(report.machine.map(|machine| field("machine", machine.to_string())));
    match &report.host {
        Some(host) => describe_host(host, &mut lines),
        None if report.running => lines.push(field("agent", "runs, but does not answer".into())),
        None => lines.push(field("agent", "not running: `rexec-agent start --daemon`".into())),
    }
    lines
}

fn describe_host(host: &HostStatus, lines: &mut Vec<String>) {
    let field = |name: &str, value: String| format!("  {name:<12}{value}");
    let now = unix_ms();
    match &host.uplink {
        Some(uplink) => describe_uplink(uplink, now, lines),
        None => lines.push(field("state", "starting".into())),
    }
    let up = ago(now.saturating_sub(host.started) / 1000);
    lines.push(field("agent", format!("version {}, pid {}, up {up}", plain(&host.version), host.pid)));
    lines.push(field("sessions", host.sessions.len().to_string()));
    lines.extend(host.sessions.iter().map(describe_session));
}

fn describe_uplink(uplink: &UplinkStatus, now: u64, lines: &mut Vec<String>) {
    let field = |name: &str, value: String| format!("  {name:<12}{value}");
    let since = ago(now.saturating_sub(uplink.since) / 1000);
    let detail =
        if uplink.detail.is_empty() { String::new() } else { format!(": {}", plain(&uplink.detail)) };
    lines.push(field("state", format!("{} for {since}{detail}", plain(&uplink.state))));
    if let Some(broker) = &uplink.broker {
        let transport =
            uplink.transport.as_deref().map_or_else(String::new, |name| format!(" over {}", plain(name)));
        let rtt = uplink.rtt_ms.map_or_else(String::new, |rtt| format!(", round trip {rtt:.1} ms"));
        lines.push(field("broker", format!("{}{transport}{rtt}", plain(broker))));
        lines.extend(uplink.why.as_deref().map(|why| field("not QUIC", plain(why))));
    }
    if let Some(until) = uplink.certificate_until.and_then(|until| u64::try_from(until).ok()) {
        let now = now / 1000;
        let text = if until > now {
            format!("good for {}", ago(until - now))
        } else {
            "ended; being renewed".into()
        };
        let trouble = uplink.certificate_trouble.as_deref();
        let trouble = trouble.map_or_else(String::new, |trouble| format!("; {}", plain(trouble)));
        lines.push(field("certificate", text + &trouble));
    }
}

fn describe_session(session: &SessionInfo) -> String {
    let state =
        if session.exited.is_some() { "ended".into() } else { format!("{} viewers", session.viewers) };
    format!("    {}  {}×{}  {state}  {}", session.session, session.cols, session.rows, plain(&session.title))
}

/// A duration in its two greatest units.
pub(super) fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ma_08_a_sessions_title_cannot_drive_the_terminal() {
        let session = SessionInfo {
            session: Uuid::nil(),
            kind: rexec_shared::message::SessionKind::Terminal,
            title: "\u{1b}]0;x\u{7}\nfake line".into(),
            cols: 80,
            rows: 24,
            viewers: 1,
            user: Uuid::nil(),
            created: 0,
            exited: None,
        };
        let line = describe_session(&session);
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }

    #[test]
    fn durations_are_told_in_two_units() {
        assert_eq!(ago(59), "59 s");
        assert_eq!(ago(3_700), "1 h 1 min");
        assert_eq!(ago(200_000), "2 d 7 h");
    }
}
