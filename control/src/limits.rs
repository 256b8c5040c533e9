//! What control bounds, with unit and reason. Limits that other programs must know are in `rexec_shared::limits`.

use std::time::Duration;

/// Largest request body, bytes. Every body is a small JSON document; the largest, a CSR, is about 1 KiB.
pub const BODY_MAX: usize = 64 * 1024;

/// Time for a whole request body to arrive: a slow sender holds a task, nothing else.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Time for the head of a request to arrive, counted from the first byte a connection may send.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of a request head. Browsers send below 4 KiB.
pub const HEAD_MAX: usize = 32 * 1024;

/// Header fields of a request.
pub const HEADERS_MAX: usize = 64;

/// HTTP connections at once, viewers' WebSockets and event streams included: a connection counts until its socket is closed.
pub const CONNECTIONS_MAX: usize = 16_384;

/// HTTP connections at once from one network (an IPv4 address, an IPv6 /64): an office behind one address, and no more than a
/// sixteenth of all. Trusted proxies and this machine are not counted so.
pub const CONNECTIONS_PER_NET: usize = 1_024;

/// A login ends after this long without a request (OWASP ASVS 7.3.1).
pub const LOGIN_IDLE: Duration = Duration::from_secs(12 * 3600);

/// A login ends this long after it began, however busy it is (OWASP ASVS 7.3.2).
pub const LOGIN_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// `last_seen_at` of a login is written at most this often.
pub const LOGIN_TOUCH: Duration = Duration::from_secs(60);

/// Live logins of one person; the oldest goes when one more is made.
pub const LOGINS_PER_PERSON: u64 = 50;

/// A login's row is kept this long after it ended, so that the networks a person signs in from stay familiar.
pub const LOGIN_KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// Tickets one person may take at once: each is a line in the audit for good. A browser takes one per terminal it opens.
pub const TICKETS_AT_ONCE: u32 = 600;

/// One more ticket comes back in this time: 120 a minute.
pub const TICKET_EVERY: Duration = Duration::from_millis(500);

/// Wrong credentials of brokers from one network at once: each is a look into the database.
pub const BROKER_TRIES_AT_ONCE: u32 = 20;

/// One more wrong credential may be tried in this time.
pub const BROKER_TRY_EVERY: Duration = Duration::from_secs(5);

/// Shortest password, characters (NIST SP 800-63B-4 asks for 15 without a second factor, 8 with; passphrases welcome).
pub const PASSWORD_MIN: usize = 12;

/// Longest password, bytes: argon2id reads all of it.
pub const PASSWORD_MAX: usize = 1024;

/// Password checks running at once: each takes 19 MiB and some 20 ms of a core.
pub const PASSWORD_CHECKS: usize = 2;

/// Password checks waiting for a turn; more are turned away at once.
pub const PASSWORD_QUEUE: usize = 32;

/// The set-up link is good for this long; a restart prints a new one.
pub const SETUP_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Join tokens of one organisation that are still good.
pub const JOIN_TOKENS_MAX: u64 = 1_000;

/// Life of a join token nobody gave one, seconds.
pub const JOIN_TTL_DEFAULT_S: u32 = 900;

/// Shortest life of a join token, seconds.
pub const JOIN_TTL_MIN_S: u32 = 60;

/// Longest life of a join token, seconds: a week.
pub const JOIN_TTL_MAX_S: u32 = 604_800;

/// Most machines one join token enrols.
pub const JOIN_USES_MAX: u32 = 1_000;

/// Machines of one organisation.
pub const MACHINES_MAX: u64 = 10_000;

/// Tags of one machine.
pub const TAGS_MAX: usize = 32;

/// Characters of a label a person writes.
pub const LABEL_MAX: usize = 64;

/// A device code is good for this long (RFC 8628 asks for a life so short that codes cannot be tried out).
pub const DEVICE_LIFE: Duration = Duration::from_secs(600);

/// An agent polls no faster than this.
pub const DEVICE_INTERVAL: Duration = Duration::from_secs(2);

/// Requests waiting for a person's decision, in all.
pub const DEVICE_WAITING_MAX: u64 = 2_000;

/// Requests waiting for a decision from one address (an IPv4 address, an IPv6 /64).
pub const DEVICE_WAITING_PER_NET: u64 = 20;

/// A join token made by an approval lives this long: the agent is waiting for it.
pub const DEVICE_JOIN_LIFE: Duration = Duration::from_secs(300);

/// Events an event stream may lag behind before it is given the whole list anew.
pub const EVENTS_BEHIND: usize = 256;

/// Event streams of one organisation.
pub const EVENT_STREAMS_MAX: usize = 200;

/// An event stream that has nothing to say says so this often, so that dead peers are found.
pub const EVENT_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Time for requests in progress to end when the process is told to stop.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Connections to PostgreSQL, or readers of SQLite.
pub const DATABASE_CONNECTIONS: u32 = 8;

/// A statement waits this long for a connection or for SQLite's one writer.
pub const DATABASE_WAIT: Duration = Duration::from_secs(5);

/// Preferences of one person: a handful of screens with some settings each.
pub const PREFERENCES_MAX: u64 = 64;

/// Characters of a preference's key.
pub const PREFERENCE_KEY_MAX: usize = 64;

/// Snippets of one person, and as many that an organisation shares: what a person finds by typing.
pub const SNIPPETS_MAX: u64 = 500;

/// Characters of a snippet's name.
pub const SNIPPET_NAME_MAX: usize = 80;

/// Characters of what a snippet is for.
pub const SNIPPET_DESCRIPTION_MAX: usize = 200;

/// Bytes of a snippet: a script of a screen or three; what is longer belongs into a file.
pub const SNIPPET_BODY_MAX: usize = 8 * 1024;

/// Entries of the activity that are told at once: some screens of it.
pub const ACTIVITY_PAGE: u64 = 50;

/// Machines whose samples are asked for at once: more than a screen shows.
pub const SAMPLES_ASKED_MAX: usize = 64;

/// Sandboxes of one organisation where the operator said nothing else.
pub const SANDBOXES_MAX_DEFAULT: u32 = 10;

/// Thousandths of a processor that one sandbox may have where the operator said nothing else.
pub const SANDBOX_CPUS_MILLI_MAX_DEFAULT: u32 = 4_000;

/// MiB of memory that one sandbox may have where the operator said nothing else.
pub const SANDBOX_MEMORY_MB_MAX_DEFAULT: u32 = 8_192;

/// Least of a processor a sandbox works with, thousandths.
pub const SANDBOX_CPUS_MILLI_MIN: u32 = 100;

/// Least memory a sandbox works with, MiB: the agent, a shell and a package manager.
pub const SANDBOX_MEMORY_MB_MIN: u32 = 64;

/// Processes and threads of a sandbox nobody said a number for (THREATS CT-07).
pub const SANDBOX_PIDS_DEFAULT: u32 = 256;

/// Fewest and most processes and threads of a sandbox.
pub const SANDBOX_PIDS: std::ops::RangeInclusive<u32> = 32..=4_096;

/// Shortest time after which an idle sandbox is stopped, seconds.
pub const SANDBOX_IDLE_MIN_S: u32 = 60;

/// Shortest life of a sandbox that has one, seconds.
pub const SANDBOX_LIFE_MIN_S: u32 = 60;

/// Entries in the list of what a restricted sandbox may reach.
pub const SANDBOX_ALLOW_MAX: usize = 64;

/// Connections through the proxy of restricted sandboxes, of all of them.
pub const SANDBOX_PROXY_CONNECTIONS: usize = 2_048;

/// Connections through it of one of them at once: a package manager opens about ten.
pub const SANDBOX_PROXY_EACH: usize = 128;

/// Snapshots of one organisation.
pub const SNAPSHOTS_MAX: u64 = 50;

/// Homes of one organisation: those of its sandboxes and as many that were kept again, and never fewer than this.
pub const SANDBOX_VOLUMES_MIN: u64 = 50;

/// Sandboxes on which something is being done at once; others wait for their turn.
pub const SANDBOX_STEPS_AT_ONCE: usize = 16;

/// A preset that takes longer than this has failed.
pub const SANDBOX_SET_UP_MAX: Duration = Duration::from_secs(20 * 60);

/// The token a sandbox's agent is let in with lives this long: the agent is waiting for it.
pub const SANDBOX_JOIN_LIFE: Duration = Duration::from_secs(120);

/// A sandbox whose agent has not come by then is let in anew; one whose tunnel was lost for this long is looked after.
pub const SANDBOX_TUNNEL_WAIT: Duration = Duration::from_secs(150);

/// A container of ours that no row has spoken of for so long is removed.
pub const SANDBOX_ORPHAN_AGE: Duration = Duration::from_secs(60);

/// Tries in a row before a sandbox is given up.
pub const SANDBOX_TRIES: u32 = 5;

/// Time a container has to end by itself before it is killed.
pub const SANDBOX_STOP_GRACE: Duration = Duration::from_secs(5);

/// Ports of an organisation's machines that are open to browsers.
pub const PREVIEWS_MAX: u64 = 200;

/// How long a preview's link is good at least.
pub const PREVIEW_SHARE_MIN: Duration = Duration::from_secs(5 * 60);
/// How long at most: a link is passed on further than anybody knows.
pub const PREVIEW_SHARE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
