//! What a shell finds around it, and what it does not (THREATS AI-07, LO-01…04, WS-03).

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rexec_shared::message::Spec;
use uuid::Uuid;

use crate::support::{Host, Term, shell, until, until_file};

/// Runs `script`, which writes to the file it is given as `$OUT`'s text, in a session with `spec`'s wishes.
async fn output_of(host: &Host, script: &str, wishes: impl FnOnce(&mut Spec)) -> String {
    let out = host.file(&Uuid::new_v4().to_string());
    let mut spec = shell(&format!("{{ {script}; }} > {out} 2>&1; echo END >> {out}", out = out.display()));
    wishes(&mut spec);
    let mut term = Term::new(Uuid::new_v4(), spec);
    let ticket = host.ticket(term.session(), &term.viewer.confirmation());
    term.connect(host, &ticket, true).await;
    term.opened().await;
    let bytes = until_file(&out, |bytes| bytes.ends_with(b"END\n")).await;
    String::from_utf8(bytes).unwrap().trim_end_matches("END\n").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lo_03_the_shell_is_the_user_we_are_in_a_session_of_its_own() {
    let host = Host::start().await;
    let got = output_of(&host, "id; umask; ps -o pid=,pgid=,sid= -p $$; tty; cat /proc/$$/status | grep -E '^(CapEff|SigIgn|SigBlk|NoNewPrivs)'", |_| {}).await;
    let id = Command::new("id").output().unwrap();
    let mut lines = got.lines();
    assert_eq!(lines.next().unwrap(), String::from_utf8(id.stdout).unwrap().trim());
    assert_eq!(lines.next().unwrap(), "0022");
    let ids: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "leader of its group and its session: {ids:?}");
    assert!(lines.next().unwrap().starts_with("/dev/pts/"));
    assert_eq!(lines.next().unwrap(), "SigBlk:\t0000000000000000");
    let ignored =
        lines.next().unwrap().rsplit('\t').next().map(|mask| u64::from_str_radix(mask, 16).unwrap()).unwrap();
    assert_eq!(ignored & 0x7fff_ffff, 0, "no standard signal is ignored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lo_04_the_shell_inherits_descriptors_0_1_2_and_no_others() {
    let host = Host::start().await;
    // Others of ours are open meanwhile, and one is not even close-on-exec.
    let _busy = host.open("cat").await;
    let leaked = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let out = host.file("fds");
    let mut spec = shell("true");
    // `ls` is the leader itself, so what it lists is what it was given, and the descriptor it lists with.
    spec.command = Some(vec!["/bin/ls".to_owned(), "/proc/self/fd".to_owned()]);
    let mut term = Term::new(Uuid::new_v4(), spec);
    let ticket = host.ticket(term.session(), &term.viewer.confirmation());
    term.connect(&host, &ticket, true).await;
    term.until("it ends", |term| term.exit.is_some()).await;
    let listed: Vec<&str> = std::str::from_utf8(&term.seen).unwrap().split_whitespace().collect();
    assert_eq!(listed, ["0", "1", "2", "3"]);
    assert!(!out.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ai_07_the_environment_of_the_shell_is_our_list_and_nothing_else() {
    let host = Host::start().await;
    let wishes = |spec: &mut Spec| {
        let asked = [
            ("LC_TIME", "C"),
            ("LD_PRELOAD", "/tmp/x.so"),
            ("BASH_ENV", "/tmp/x"),
            ("LC_ALL", "$(id)"),
            ("PATH", "/tmp"),
            ("TERM", "vt100"),
        ];
        spec.env = asked.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    };
    let got = output_of(&host, "cat /proc/$$/environ | tr '\\0' '\\n'", wishes).await;
    let env: BTreeMap<&str, &str> = got.lines().filter_map(|line| line.split_once('=')).collect();
    let names: Vec<&str> = env.keys().copied().collect();
    assert_eq!(
        names,
        ["COLORTERM", "HOME", "LANG", "LC_TIME", "LOGNAME", "PATH", "REXEC_SESSION", "SHELL", "TERM", "USER"]
    );
    assert_eq!((env["TERM"], env["COLORTERM"], env["LC_TIME"]), ("vt100", "truecolor", "C"));
    assert!(env["PATH"].starts_with("/usr/local/"));
}

/// First argument, working directory and environment of the process that leads a session.
fn leader(mark: &str) -> Option<(String, String, String)> {
    std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let read = |name: &str| {
            std::fs::read(entry.path().join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let environ = read("environ").ok().filter(|environ| environ.contains(mark))?;
        let stat = read("stat").ok()?;
        let ids: Vec<String> = stat.rsplit_once(')')?.1.split_ascii_whitespace().map(str::to_owned).collect();
        let pid = entry.file_name().to_string_lossy().into_owned();
        let argv0 = read("cmdline").ok()?.split('\0').next()?.to_owned();
        let cwd = std::fs::read_link(entry.path().join("cwd")).ok()?.to_string_lossy().into_owned();
        (ids.get(3) == Some(&pid)).then_some((argv0, cwd, environ))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_shell_starts_at_home_or_where_it_is_told() {
    let host = Host::start().await;
    let mut spec = shell("");
    spec.command = None;
    let mut term = Term::new(Uuid::new_v4(), spec);
    let ticket = host.ticket(term.session(), &term.viewer.confirmation());
    term.connect(&host, &ticket, true).await;
    term.opened().await;
    // Asked of the kernel, not typed: what a developer's own start-up files do with their time is none of ours.
    let mark = format!("REXEC_SESSION={}\0", term.session());
    until("the shell stands", || leader(&mark).is_some()).await;
    let (argv0, cwd, environ) = leader(&mark).unwrap();
    assert!(argv0.starts_with('-'), "{argv0}");
    assert!(environ.contains(&format!("HOME={cwd}\0")), "{cwd}");
    assert_eq!(output_of(&host, "pwd", |spec| spec.cwd = Some("/usr".to_owned())).await, "/usr\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws_03_the_host_listens_on_no_port() {
    let host = Host::start().await;
    let _term = host.open("cat").await;
    let ours: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for inode in text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)) {
            assert!(!ours.contains(&format!("socket:[{inode}]")), "a socket in {table} is ours");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lo_01_another_user_of_the_machine_reaches_neither_socket() {
    let host = Host::start().await;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: becoming another user takes root");
        return;
    }
    // The directory above is made passable, so that what refuses is ours.
    std::fs::set_permissions(host.directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    for socket in [host.viewer_socket(), host.link_socket()] {
        let script = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un($ARGV[0])) and print 'connected' or print $!+0";
        let output =
            Command::new("perl").args(["-e", script]).arg(&socket).uid(65534).gid(65534).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "13",
            "EACCES; {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
