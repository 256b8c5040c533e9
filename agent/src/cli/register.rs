//! `register`: a join token or a person's approval, then enrolment.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rexec_shared::enrol::DeviceAnswer;
use url::Url;

use super::say::{say, say_error, say_in_place};
use super::{Complaint, Profile, Register, prompt};
use crate::control_api::{ControlApi, is_exposed, parse_server};
use crate::enrolment::{self, JoinToken, Progress};
use crate::plain_text::{hostname_of, plain};
use crate::state::MachineKey;

/// Longest token file read, bytes.
const TOKEN_FILE_MAX: u64 = 4096;
/// Longest name, bytes.
const NAME_MAX: usize = 63;

pub(super) fn run(profile: &Profile, options: Register) -> Result<ExitCode, Complaint> {
    refuse_second(profile)?;
    let name = name_of(options.name)?;
    let server = server_of(profile, options.server.as_deref())?;
    if is_exposed(&server) {
        say_error(&format!(
            "warning: {server} is plain http: whoever is on the way can read and change what is sent, this registration included"
        ));
    }
    // Before anything is asked: a token given is read, and one that cannot be read costs nobody an approval.
    let token = options.token_file.as_deref().map(read_token).transpose()?;
    let api = ControlApi::new(server);
    let key = MachineKey::generate().map_err(|error| Complaint::new(error.to_string()))?;
    profile.keep_key(&key)?;
    let token = match token {
        Some(token) => token,
        None => {
            let mut screen = ApprovalScreen::new(&name, &api, &key)?;
            enrolment::ask_approval(&api, &name, &key, |progress| screen.show(&progress))?
        }
    };
    let (registration, skew) = enrolment::enrol(&api, profile, &name, &key, token)?;
    if let Some(complaint) = skew.complaint() {
        say_error(&format!("warning: {complaint}"));
    }
    profile.set_default_server(&registration.server)?;
    say(&format!("This machine is registered as \"{}\".", plain(&registration.name)));
    say(&format!("Next: rexec-agent{} start --daemon", profile_option(profile)));
    Ok(ExitCode::SUCCESS)
}

/// How commands must name this profile.
pub(super) fn profile_option(profile: &Profile) -> String {
    if profile.name() == "default" { String::new() } else { format!(" --profile {}", profile.name()) }
}

fn refuse_second(profile: &Profile) -> Result<(), Complaint> {
    let Some(known) = profile.registration()? else { return Ok(()) };
    Err(Complaint::new(format!(
        "this machine is registered already, as \"{}\" with {} (machine {})",
        plain(&known.name),
        known.server,
        known.machine
    ))
    .hint("`rexec-agent unregister` first, or register a second one with --profile NAME"))
}

fn name_of(given: Option<String>) -> Result<String, Complaint> {
    let Some(name) = given else {
        return Ok(hostname_of(&hostname::get().unwrap_or_default().to_string_lossy()));
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if plain && (1..=NAME_MAX).contains(&name.len()) {
        return Ok(name);
    }
    Err(Complaint::new(format!("a machine's name has 1 to {NAME_MAX} letters, digits, '.', '_' and '-'"))
        .hint("for example --name my-laptop"))
}

fn server_of(profile: &Profile, given: Option<&str>) -> Result<Url, Complaint> {
    match given.filter(|text| !text.is_empty()) {
        Some(text) => parse_server(text).map_err(|error| {
            Complaint::new(format!("the server's address cannot be used: {error}"))
                .hint("for example --server https://rexec.example")
        }),
        None => profile.default_server()?.ok_or_else(|| {
            Complaint::new("no server is known").hint("add --server URL: the page where you sign in to Rexec")
        }),
    }
}

fn read_token(path: &Path) -> Result<JoinToken, Complaint> {
    let text = if path == Path::new("-") {
        if io::stdin().is_terminal() {
            prompt::secret("Join token (not shown): ")
        } else {
            read_text(io::stdin().lock())
        }
    } else {
        File::open(path).and_then(read_text)
    };
    let text = text
        .map_err(|error| Complaint::new(format!("cannot read the token from {}: {error}", path.display())))?;
    Ok(JoinToken::parse(&text)?)
}

fn read_text(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(TOKEN_FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// What a person sees while another screen decides.
struct ApprovalScreen {
    name: String,
    server: Url,
    fingerprint: String,
    is_terminal: bool,
    /// Minutes last told where the line cannot be replaced.
    minutes: Option<u64>,
}

impl ApprovalScreen {
    fn new(name: &str, api: &ControlApi, key: &MachineKey) -> Result<Self, Complaint> {
        let fingerprint = key.fingerprint().map_err(|error| Complaint::new(error.to_string()))?;
        let is_terminal = io::stdout().is_terminal();
        Ok(Self { name: name.into(), server: api.server().clone(), fingerprint, is_terminal, minutes: None })
    }

    fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Code(answer) => self.show_code(answer),
            Progress::Waiting(rest) => self.show_waiting(*rest),
            Progress::Trouble(error) => self.clear_and_say(&format!("{error}; trying again")),
            Progress::Approved => self.clear_and_say("Approved."),
        }
    }

    fn show_code(&self, answer: &DeviceAnswer) {
        say(&format!("To add this machine as \"{}\" to {}, open\n", self.name, self.server));
        say(&format!("    {}\n", plain(&answer.verification_uri_complete)));
        say("and approve it there, if the page shows the same\n");
        say(&format!("    code         {}", plain(&answer.user_code)));
        say(&format!("    fingerprint  {}\n", self.fingerprint));
    }

    fn show_waiting(&mut self, rest: Duration) {
        let seconds = rest.as_secs();
        if self.is_terminal {
            say_in_place(&format!(
                "Waiting for approval; the code is good for {}:{:02}",
                seconds / 60,
                seconds % 60
            ));
        } else if self.minutes != Some(seconds / 60) {
            self.minutes = Some(seconds / 60);
            say(&format!("Waiting for approval; the code is good for {} min", seconds.div_ceil(60)));
        }
    }

    fn clear_and_say(&self, text: &str) {
        if self.is_terminal {
            say_in_place("");
        }
        say(text);
    }
}
