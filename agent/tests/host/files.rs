//! Files over a stream: what may be asked with which ticket, where paths lead, and that an upload is the file or nothing.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use rexec_shared::files::{
    Answer, Ask, ENTRIES_MAX, Entry, EntryKind, Failure, FilesOpened, FilesReply, FilesRequest, Op, Outcome,
    Replace, WINDOW,
};
use rexec_shared::frame::Decoder;
use rexec_shared::limits::DATA_FRAME_MAX;
use rexec_shared::message::{Open, SessionKind, Spec, ViewerMessage};
use rexec_shared::proof::ViewerKey;
use rexec_shared::ticket::Capability::{self, Exec, FilesRead, FilesWrite, Forward, Terminal, View};
use rexec_shared::tunnel::{LinkMessage, LinkRole};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use uuid::Uuid;

use crate::support::{DEADLINE, Host, present_with};

/// A files stream, asking one thing after the other.
struct Files {
    stream: UnixStream,
    decoder: Decoder,
    opened: FilesOpened,
    next: u32,
}

impl Files {
    async fn open(host: &Host, caps: &[Capability]) -> Result<Self, String> {
        let (session, key) = (Uuid::new_v4(), ViewerKey::generate().unwrap());
        let ticket = host.signer.ticket(&host.claims(session, &key.confirmation(), caps));
        let spec = Spec {
            kind: SessionKind::Files,
            cols: 0,
            rows: 0,
            env: Default::default(),
            cwd: None,
            command: None,
            port: None,
        };
        let (viewer, features) = (Uuid::new_v4(), Vec::new());
        let open = Open { v: 1, features, ticket, viewer, attempt: 0, session, input_seq: 0, spec };
        let mut first = BytesMut::new();
        ViewerMessage::Open(open).encode(&mut first);
        let opened = |frame: &_| match FilesReply::decode(frame).unwrap() {
            Some(FilesReply::Opened(opened)) => Some(opened),
            _ => None,
        };
        let (stream, decoder, opened) = present_with(host.viewer_socket(), &first, &key, opened).await?;
        Ok(Self { stream, decoder, opened, next: 0 })
    }

    async fn put(&mut self, request: &FilesRequest) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next reply; `None` when the host has hung up.
    async fn reply(&mut self) -> Option<FilesReply> {
        let read = async {
            loop {
                if let Some(frame) = self.decoder.poll_frame().unwrap() {
                    return Some(FilesReply::decode(&frame).unwrap().expect("a type of this build"));
                }
                if self.stream.read_buf(self.decoder.buffer_mut()).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(DEADLINE, read).await.expect("an answer in time")
    }

    async fn outcome(&mut self) -> Outcome {
        match self.reply().await.expect("an answer") {
            FilesReply::Answer(Answer { id, outcome }) => {
                assert_eq!(id, self.next, "{outcome:?}");
                outcome
            }
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&mut self, op: Op) -> Outcome {
        self.next += 1;
        self.put(&FilesRequest::Ask(Ask { id: self.next, op })).await;
        self.outcome().await
    }

    async fn fails(&mut self, op: Op) -> (Failure, String) {
        match self.ask(op.clone()).await {
            Outcome::Failed { code, message } => (code, message),
            other => panic!("{op:?}: {other:?}"),
        }
    }

    async fn entry(&mut self, op: Op) -> Entry {
        match self.ask(op.clone()).await {
            Outcome::Entry { entry } => entry,
            other => panic!("{op:?}: {other:?}"),
        }
    }

    async fn list(&mut self, path: &Path) -> (Vec<Entry>, bool) {
        let mut all = Vec::new();
        let mut outcome = self.ask(Op::List { path: text(path) }).await;
        loop {
            let Outcome::Entries { entries, more, cut } = outcome else { panic!("{outcome:?}") };
            all.extend(entries);
            if !more {
                return (all, cut);
            }
            outcome = self.outcome().await;
        }
    }

    /// All bytes that come, and what they are said to be.
    async fn download(&mut self, op: Op) -> (Vec<u8>, String, Vec<String>) {
        let outcome = self.ask(op).await;
        assert!(matches!(outcome, Outcome::Sending { .. }), "{outcome:?}");
        let (mut all, mut start) = (Vec::new(), None);
        loop {
            match self.reply().await.expect("data") {
                FilesReply::Data { offset, bytes } => {
                    let start = *start.get_or_insert(offset);
                    assert_eq!(offset, start + all.len() as u64);
                    all.extend_from_slice(&bytes);
                    let offset = offset + bytes.len() as u64;
                    self.put(&FilesRequest::Ack { offset }).await;
                }
                FilesReply::Answer(Answer { outcome: Outcome::Sent { sha256, lacking }, .. }) => {
                    return (all, sha256, lacking);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn begin(&mut self, path: &Path, upload: Uuid, size: usize) -> (u64, String) {
        let (path, size) = (text(path), size as u64);
        match self.ask(Op::Write { path, upload, size, restart: false }).await {
            Outcome::Receiving { offset, sha256 } => (offset, sha256),
            other => panic!("{other:?}"),
        }
    }

    /// Sends these bytes and waits until they are written.
    async fn data(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        for piece in bytes.chunks(DATA_FRAME_MAX) {
            self.put(&FilesRequest::Data { offset: at, bytes: Bytes::copy_from_slice(piece) }).await;
            at += piece.len() as u64;
            assert_eq!(self.outcome().await, Outcome::Received { offset: at });
        }
    }

    async fn commit(&mut self, bytes: &[u8], replace: Replace) -> Outcome {
        self.ask(Op::Commit { sha256: sha256(bytes), replace }).await
    }

    async fn upload(&mut self, path: &Path, bytes: &[u8], replace: Replace) -> Outcome {
        self.begin(path, Uuid::new_v4(), bytes.len()).await;
        self.data(0, bytes).await;
        // The question that began it is not the one that ends it.
        self.commit(bytes, replace).await
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

const READ_WRITE: &[Capability] = &[FilesRead, FilesWrite];

async fn ground() -> (Host, std::path::PathBuf) {
    let host = Host::start().await;
    let directory = host.file("ground");
    std::fs::create_dir(&directory).unwrap();
    (host, directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bu_02_under_every_set_of_capabilities_files_does_what_the_ticket_says_and_no_more() {
    let (host, directory) = ground().await;
    let all = [Terminal, Exec, FilesRead, FilesWrite, Forward, View];
    for set in 0..1u32 << all.len() {
        let caps: Vec<Capability> =
            (0..all.len()).filter(|bit| set >> bit & 1 == 1).map(|bit| all[bit]).collect();
        let (reads, writes) = (caps.contains(&FilesRead), caps.contains(&FilesWrite));
        let files = Files::open(&host, &caps).await;
        assert_eq!(
            files.as_ref().err().map(String::as_str),
            (!reads && !writes).then_some("forbidden"),
            "{caps:?}"
        );
        let Ok(mut files) = files else { continue };
        assert_eq!((files.opened.read, files.opened.write), (reads, writes));
        let (made, kept, file) = (directory.join("made"), directory.join("kept"), directory.join("file"));
        let moved = directory.join("moved");
        let _ = std::fs::remove_dir(&made);
        let _ = std::fs::remove_file(&moved);
        std::fs::write(&kept, "kept").unwrap();
        std::fs::write(&file, "file").unwrap();
        let upload = Uuid::new_v4();
        let ops = [
            Op::List { path: text(&directory) },
            Op::Stat { path: text(&kept) },
            Op::MakeDirectory { path: text(&made) },
            Op::Rename { from: text(&file), to: text(&moved) },
            Op::Write { path: text(&kept), upload, size: 0, restart: false },
            Op::Commit { sha256: sha256(b""), replace: Replace::Always },
            Op::Delete { path: text(&moved), recursive: false },
        ];
        for op in ops {
            let may = caps.contains(&op.needs());
            let outcome = files.ask(op.clone()).await;
            let forbidden = matches!(outcome, Outcome::Failed { code: Failure::Forbidden, .. });
            assert_eq!(forbidden, !may, "{caps:?}: {op:?}: {outcome:?}");
            assert!(forbidden || !matches!(outcome, Outcome::Failed { .. }), "{caps:?}: {op:?}: {outcome:?}");
        }
        for op in [Op::Read { path: text(&kept), offset: 0 }, Op::Archive { path: text(&directory) }] {
            if reads {
                files.download(op).await;
            } else {
                assert_eq!(files.fails(op).await.0, Failure::Forbidden);
            }
        }
        // What was refused was not done.
        assert_eq!(made.exists(), writes);
        assert_eq!(std::fs::read(&kept).unwrap().is_empty(), writes);
        assert_eq!(file.exists(), !writes);
        assert!(!moved.exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_cut_half_way_and_resumed_has_an_equal_hash() {
    let (host, directory) = ground().await;
    let (path, upload, bytes) =
        (directory.join("large"), Uuid::new_v4(), noise(3 * WINDOW as usize + 12_345));
    let half = bytes.len() / 2;
    let mut files = Files::open(&host, READ_WRITE).await.unwrap();
    assert_eq!(files.begin(&path, upload, bytes.len()).await, (0, sha256(b"")));
    files.data(0, &bytes[..half]).await;
    // While it is under way nobody else goes on with it, and there is no file of that name.
    let mut other = Files::open(&host, READ_WRITE).await.unwrap();
    let again = Op::Write { path: text(&path), upload, size: bytes.len() as u64, restart: false };
    assert_eq!(other.fails(again.clone()).await.0, Failure::Busy);
    assert!(!path.exists());
    assert!(files.list(&directory).await.0.is_empty(), "what gathers is not shown");
    drop(files);
    let opened = until_receiving(&mut other, &again).await;
    assert_eq!(opened, (half as u64, sha256(&bytes[..half])));
    other.data(half as u64, &bytes[half..]).await;
    let outcome = other.commit(&bytes, Replace::Never).await;
    assert!(matches!(outcome, Outcome::Entry { .. }), "{outcome:?}");
    assert_eq!(sha256(&std::fs::read(&path).unwrap()), sha256(&bytes));
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left");
    let (all, hash, _) = other.download(Op::Read { path: text(&path), offset: 0 }).await;
    assert_eq!((sha256(&all), hash), (sha256(&bytes), sha256(&bytes)));
    let (rest, hash, _) = other.download(Op::Read { path: text(&path), offset: half as u64 }).await;
    assert!(rest == bytes[half..] && hash == sha256(&rest));
}

/// The lock of a stream that was cut is free as soon as the host has seen the cut.
async fn until_receiving(files: &mut Files, op: &Op) -> (u64, String) {
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        match files.ask(op.clone()).await {
            Outcome::Receiving { offset, sha256 } => return (offset, sha256),
            Outcome::Failed { code: Failure::Busy, .. } => {
                assert!(std::time::Instant::now() < deadline, "the upload stays locked");
                tokio::task::yield_now().await;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_the_file_or_nothing() {
    let (host, directory) = ground().await;
    let path = directory.join("notes.txt");
    let mut files = Files::open(&host, READ_WRITE).await.unwrap();
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let exists = files.upload(&path, b"new", Replace::Never).await;
    assert!(matches!(exists, Outcome::Failed { code: Failure::Exists, .. }), "{exists:?}");
    let seen = files.entry(Op::Stat { path: text(&path) }).await;
    let unchanged = |entry: &Entry| Replace::Unchanged { size: entry.size, modified: entry.modified };
    std::fs::write(&path, "theirs").unwrap();
    let changed = files.upload(&path, b"mine", unchanged(&seen)).await;
    assert!(matches!(changed, Outcome::Failed { code: Failure::Changed, .. }), "{changed:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    let seen = files.entry(Op::Stat { path: text(&path) }).await;
    let saved = files.upload(&path, b"mine", unchanged(&seen)).await;
    assert!(
        matches!(&saved, Outcome::Entry { entry } if entry.mode == 0o640 && entry.size == 4),
        "{saved:?}"
    );
    // Other bytes than announced, out of turn, or too many of them.
    files.begin(&path, Uuid::new_v4(), 4).await;
    files.data(0, b"abcd").await;
    let wrong = files.commit(b"abce", Replace::Always).await;
    assert!(matches!(wrong, Outcome::Failed { code: Failure::Mismatch, .. }), "{wrong:?}");
    for (offset, bytes) in [(1, &b"ab"[..]), (0, b"abcde")] {
        files.begin(&path, Uuid::new_v4(), 4).await;
        files.put(&FilesRequest::Data { offset, bytes: Bytes::from_static(bytes) }).await;
        let outcome = files.outcome().await;
        assert!(matches!(outcome, Outcome::Failed { code: Failure::Mismatch, .. }), "{outcome:?}");
    }
    let none = files.commit(b"abcd", Replace::Always).await;
    assert!(matches!(none, Outcome::Failed { .. }), "{none:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    // Through a link the file is written, not the link.
    let link = directory.join("link");
    symlink("notes.txt", &link).unwrap();
    let through = files.upload(&link, b"through", Replace::Always).await;
    assert!(matches!(through, Outcome::Entry { .. }), "{through:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"through");
    assert!(link.symlink_metadata().unwrap().is_symlink());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_listed_is_what_is_there() {
    let (host, directory) = ground().await;
    std::fs::create_dir(directory.join("sub")).unwrap();
    std::fs::write(directory.join("a <b> \u{202e}.txt"), "12345").unwrap();
    std::fs::set_permissions(directory.join("a <b> \u{202e}.txt"), PermissionsExt::from_mode(0o4751))
        .unwrap();
    symlink("sub", directory.join("to-sub")).unwrap();
    symlink("nowhere", directory.join("dangling")).unwrap();
    let raw: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"bad-\xff");
    std::fs::write(directory.join(raw), "").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        directory.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut files = Files::open(&host, &[FilesRead]).await.unwrap();
    let (entries, cut) = files.list(&directory).await;
    let kinds: Vec<_> =
        entries.iter().map(|entry| (entry.name.as_str(), entry.kind, entry.leads_to)).collect();
    use EntryKind::{Directory, File, Link, Other};
    let expected = [
        ("a <b> \u{202e}.txt", File, None),
        ("bad-\u{fffd}", File, None),
        ("dangling", Link, None),
        ("fifo", Other, None),
        ("sub", Directory, None),
        ("to-sub", Link, Some(Directory)),
    ];
    assert_eq!((kinds.as_slice(), cut), (&expected[..], false));
    let (file, odd) = (&entries[0], &entries[1]);
    assert_eq!((file.size, file.mode, odd.unnameable), (5, 0o4751, true));
    let owner = std::fs::metadata(directory.join("sub")).unwrap().uid();
    let name = nix::unistd::User::from_uid(owner.into()).unwrap().map_or(owner.to_string(), |user| user.name);
    assert_eq!(file.owner, name);
    assert_eq!(entries[5].target.as_deref(), Some("sub"));
    // A FIFO is not opened: that would wait for its other end.
    let fifo = Op::Read { path: text(&directory.join("fifo")), offset: 0 };
    assert_eq!(files.fails(fifo).await.0, Failure::NotFile);
    let missing = text(&directory.join("missing"));
    let (code, message) = files.fails(Op::Read { path: missing.clone(), offset: 0 }).await;
    assert!(code == Failure::NotFound && message.starts_with(&missing), "{message}");
    assert_eq!(files.entry(Op::Stat { path: "/".to_owned() }).await.kind, Directory);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_more_than_can_be_told_is_cut() {
    let (host, directory) = ground().await;
    for number in 0..=ENTRIES_MAX {
        std::fs::write(directory.join(format!("{number:06}-{}", "n".repeat(40))), "").unwrap();
    }
    let mut files = Files::open(&host, &[FilesRead]).await.unwrap();
    let (entries, cut) = files.list(&directory).await;
    assert_eq!((entries.len(), cut), (ENTRIES_MAX, true));
    assert!(entries.is_sorted_by_key(|entry| entry.name.clone()));
}

/// The root is a directory that something outside lies beside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ma_07_nothing_outside_the_root_is_reached_by_dots_links_or_swaps() {
    let directory = tempfile::tempdir().unwrap();
    let (outside, root) = (directory.path().join("outside"), directory.path().join("root"));
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(outside.join("secret"), "canary").unwrap();
    std::fs::write(root.join("plain"), "plain").unwrap();
    symlink(&outside, root.join("absolute")).unwrap();
    symlink("../outside", root.join("relative")).unwrap();
    symlink("/plain", root.join("within")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    let host = Host::start_in(&root).await;
    let mut files = Files::open(&host, READ_WRITE).await.unwrap();
    let paths = [
        "/absolute/secret",
        "/relative/secret",
        "/magic/etc/passwd",
        "/../outside/secret",
        "/sub/../../outside/secret",
    ];
    for path in paths {
        let op = Op::Read { path: path.to_owned(), offset: 0 };
        let (code, _) = files.fails(op).await;
        assert!(matches!(code, Failure::NotFound | Failure::BadPath), "{path}: {code:?}");
        for op in [
            Op::Write { path: path.to_owned(), upload: Uuid::new_v4(), size: 1, restart: false },
            Op::Delete { path: path.to_owned(), recursive: true },
            Op::Rename { from: path.to_owned(), to: "/taken".to_owned() },
            Op::Rename { from: "/plain".to_owned(), to: path.to_owned() },
            Op::MakeDirectory { path: format!("{path}-made") },
            Op::Archive { path: path.to_owned() },
            Op::List { path: path.to_owned() },
        ] {
            let (code, _) = files.fails(op.clone()).await;
            assert!(matches!(code, Failure::NotFound | Failure::BadPath), "{op:?}: {code:?}");
        }
    }
    // A link that is absolute means the root, as in a chroot.
    let (bytes, ..) = files.download(Op::Read { path: "/within".to_owned(), offset: 0 }).await;
    assert_eq!(bytes, b"plain");
    // What an archive brings of links is the links; what is removed of them, too.
    let (tar, _, lacking) = files.download(Op::Archive { path: "/".to_owned() }).await;
    assert!(!String::from_utf8_lossy(&tar).contains("canary"));
    assert!(lacking.is_empty(), "{lacking:?}");
    for link in ["/absolute", "/relative", "/magic", "/within"] {
        let outcome = files.ask(Op::Delete { path: link.to_owned(), recursive: true }).await;
        assert_eq!(outcome, Outcome::Done, "{link}");
    }
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"canary");
    // Somebody swaps a directory for a link while paths through it are asked for.
    let swapping = root.join("sub");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stopped, target) = (stop.clone(), outside.clone());
    let swapper = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = std::fs::remove_dir(&swapping);
            let _ = symlink(&target, &swapping);
            let _ = std::fs::remove_file(&swapping);
            let _ = std::fs::create_dir(&swapping);
        }
    });
    for _ in 0..500 {
        let op = Op::Delete { path: "/sub/secret".to_owned(), recursive: false };
        let (code, message) = files.fails(op).await;
        assert!(matches!(code, Failure::NotFound | Failure::NotDirectory | Failure::BadPath), "{message}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"canary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_is_what_tar_reads() {
    let (host, directory) = ground().await;
    let tree = directory.join("tree");
    std::fs::create_dir_all(tree.join("empty")).unwrap();
    let long = tree.join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&long).unwrap();
    std::fs::write(long.join("deep.bin"), noise(100_001)).unwrap();
    std::fs::write(tree.join("run.sh"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(tree.join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("run.sh", tree.join("link")).unwrap();
    let mut files = Files::open(&host, &[FilesRead]).await.unwrap();
    let (tar, hash, lacking) = files.download(Op::Archive { path: text(&tree) }).await;
    assert_eq!((hash, lacking), (sha256(&tar), Vec::new()));
    let (archive, unpacked) = (directory.join("tree.tar"), directory.join("unpacked"));
    std::fs::write(&archive, &tar).unwrap();
    std::fs::create_dir(&unpacked).unwrap();
    let tar = std::process::Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&unpacked).status();
    assert!(tar.unwrap().success());
    let mut diff = std::process::Command::new("diff");
    diff.args(["-r", "--no-dereference"]).arg(&tree).arg(unpacked.join("tree"));
    assert!(diff.status().unwrap().success());
    assert_eq!(std::fs::metadata(unpacked.join("tree/run.sh")).unwrap().mode() & 0o777, 0o755);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_change_and_trees_go_but_nothing_is_overwritten() {
    let (host, directory) = ground().await;
    let mut files = Files::open(&host, READ_WRITE).await.unwrap();
    let path = |name: &str| text(&directory.join(name));
    files.entry(Op::MakeDirectory { path: path("a") }).await;
    assert_eq!(files.fails(Op::MakeDirectory { path: path("a") }).await.0, Failure::Exists);
    std::fs::write(directory.join("a/one"), "1").unwrap();
    std::fs::write(directory.join("two"), "2").unwrap();
    let onto = Op::Rename { from: path("two"), to: path("a/one") };
    assert_eq!(files.fails(onto).await.0, Failure::Exists);
    let entry = files.entry(Op::Rename { from: path("two"), to: path("a/two") }).await;
    assert_eq!(entry.name, "two");
    let (code, message) = files.fails(Op::Rename { from: path("a"), to: path("a/b") }).await;
    assert!(code == Failure::BadPath && message.contains("into itself"), "{message}");
    assert_eq!(files.fails(Op::Delete { path: path("a"), recursive: false }).await.0, Failure::NotEmpty);
    assert_eq!(files.fails(Op::Delete { path: "/".to_owned(), recursive: true }).await.0, Failure::BadPath);
    let mut outcome = files.ask(Op::Delete { path: path("a"), recursive: true }).await;
    while let Outcome::Progress { .. } = outcome {
        outcome = files.outcome().await;
    }
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    for bad in ["relative", "/a\0b", "/../x", &format!("/{}", "x".repeat(300)), &"/x".repeat(3_000)] {
        let (code, message) = files.fails(Op::Stat { path: bad.to_owned() }).await;
        assert_eq!(code, Failure::BadPath, "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_acknowledges_nothing_gets_a_window_and_no_more() {
    let (host, directory) = ground().await;
    let path = directory.join("large");
    std::fs::write(&path, noise(4 * WINDOW as usize)).unwrap();
    let mut files = Files::open(&host, &[FilesRead]).await.unwrap();
    let outcome = files.ask(Op::Read { path: text(&path), offset: 0 }).await;
    assert!(matches!(outcome, Outcome::Sending { size: Some(size), .. } if size == 4 * WINDOW));
    let mut came = 0;
    while came < WINDOW {
        let Some(FilesReply::Data { bytes, .. }) = files.reply().await else { panic!("no data") };
        came += bytes.len() as u64;
    }
    // It answers meanwhile, and what it answers comes behind all that it has sent.
    files.put(&FilesRequest::Ping { t: 5 }).await;
    files.put(&FilesRequest::Ask(Ask { id: 77, op: Op::List { path: "/".to_owned() } })).await;
    assert_eq!(files.reply().await, Some(FilesReply::Pong { t: 5 }));
    let busy = files.reply().await;
    assert!(
        matches!(
            &busy,
            Some(FilesReply::Answer(Answer { id: 77, outcome: Outcome::Failed { code: Failure::Busy, .. } }))
        ),
        "{busy:?}"
    );
    assert_eq!(came, WINDOW);
    files.put(&FilesRequest::Ack { offset: WINDOW + 1 }).await;
    let Some(FilesReply::Error(error)) = files.reply().await else { panic!("no error") };
    assert_eq!(error.code, "protocol_error");
    assert_eq!(files.reply().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bu_03_a_revoked_login_loses_its_files_at_once_and_opens_none() {
    let (host, directory) = ground().await;
    let (path, bytes) = (directory.join("large"), noise(200_000));
    let mut reader = Files::open(&host, READ_WRITE).await.unwrap();
    let mut writer = Files::open(&host, READ_WRITE).await.unwrap();
    writer.begin(&path, Uuid::new_v4(), bytes.len()).await;
    writer.data(0, &bytes).await;
    let mut link = host.link(LinkRole::Uplink).await;
    link.send(&LinkMessage::Feed { token: host.feed(1, &[format!("login:{}", Uuid::from_u128(7))]) }).await;
    for files in [&mut reader, &mut writer] {
        let Some(FilesReply::Error(error)) = files.reply().await else { panic!("no error") };
        assert_eq!(error.code, "revoked");
        assert_eq!(files.reply().await, None);
    }
    assert!(!path.exists());
    assert_eq!(Files::open(&host, READ_WRITE).await.err().as_deref(), Some("revoked"));
}
