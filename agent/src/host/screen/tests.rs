//! The screen against itself: a snapshot painted on a fresh screen is the same screen, and stays the same under the same output.

use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::TermMode;
use alacritty_terminal::term::cell::{Cell, Flags};
use proptest::prelude::*;
use rexec_shared::limits::SNAPSHOT_MAX;
use rexec_shared::message::Size;

use super::Screen;

const SIZE: Size = Size { cols: 20, rows: 6 };

fn screen(bytes: &[u8]) -> Screen {
    let mut screen = Screen::new(SIZE);
    screen.advance(bytes);
    screen
}

/// A fresh screen with the snapshot painted and the bytes after its offset fed, as a viewer's terminal has it.
fn viewer_of(screen: &mut Screen, all: &[u8]) -> Screen {
    let mut viewer = Screen::new(screen.size());
    for part in screen.snapshot().chunks(4096) {
        viewer.advance(part);
    }
    viewer.advance(&all[screen.offset() as usize..]);
    viewer
}

/// A cell as it shows: what no sequence can say is left out.
fn shown(cell: &Cell) -> String {
    let hidden = Flags::WRAPLINE | Flags::LEADING_WIDE_CHAR_SPACER;
    let c = if cell.c == '\t' { ' ' } else { cell.c };
    let link = cell.hyperlink().map(|link| link.uri().to_owned());
    let zerowidth = cell.zerowidth().unwrap_or_default();
    format!(
        "{c:?}{zerowidth:?}{:?}{:?}{:?}{:?}{link:?}",
        cell.fg,
        cell.bg,
        cell.flags - hidden,
        cell.underline_color()
    )
}

fn lines(screen: &Screen) -> Vec<String> {
    let grid = screen.engine.term.grid();
    (grid.topmost_line().0..=grid.bottommost_line().0)
        .map(|line| (0..grid.columns()).map(|column| shown(&grid[Line(line)][Column(column)])).collect())
        .collect()
}

/// Which lines continue on the next; the last has no next.
fn wraps(screen: &Screen) -> Vec<bool> {
    let grid = screen.engine.term.grid();
    (grid.topmost_line().0..grid.bottommost_line().0)
        .map(|line| grid[Line(line)][Column(grid.columns() - 1)].flags.contains(Flags::WRAPLINE))
        .collect()
}

fn assert_same(left: &Screen, right: &Screen) {
    for (index, (left, right)) in lines(left).iter().zip(lines(right)).enumerate() {
        assert_eq!(*left, right, "line {index}");
    }
    let (l, r) = (&left.engine.term, &right.engine.term);
    assert_eq!(l.grid().total_lines(), r.grid().total_lines());
    assert_eq!(l.mode(), r.mode());
    assert_eq!(l.cursor_style(), r.cursor_style());
    assert_eq!(left.engine.shadow, right.engine.shadow);
    let (lc, rc) = (&l.grid().cursor, &r.grid().cursor);
    assert_eq!((lc.point, lc.input_needs_wrap, lc.charsets), (rc.point, rc.input_needs_wrap, rc.charsets));
    assert_eq!(shown(&lc.template), shown(&rc.template));
    let (lc, rc) = (&l.grid().saved_cursor, &r.grid().saved_cursor);
    assert_eq!((lc.point, lc.input_needs_wrap, lc.charsets), (rc.point, rc.input_needs_wrap, rc.charsets));
    assert_eq!(shown(&lc.template), shown(&rc.template));
    for index in 0..259 {
        assert_eq!(l.colors()[index], r.colors()[index]);
    }
}

/// Pieces of what programs write. Those that cut wide characters in half or wrap about margins are in [`rough`] only.
fn smooth() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-zA-Z0-9 .]{1,30}".prop_map(String::into_bytes),
        4 => Just(b"\r\n".to_vec()),
        1 => Just(b"\t".to_vec()),
        2 => prop::sample::select(vec!["日本語", "e\u{301}", "äöü", "👍", "─│┌"]).prop_map(|text| text.as_bytes().to_vec()),
        3 => prop::sample::select(vec![
            "\x1b[1m", "\x1b[0m", "\x1b[3;4m", "\x1b[4:3m", "\x1b[58:2::1:2:3m", "\x1b[7;9m", "\x1b[31m", "\x1b[97;104m", "\x1b[38;5;200m",
            "\x1b[48;2;1;2;3m", "\x1b[38;2;200;100;50m", "\x1b[49m", "\x1b[2;8m", "\x1b[58;5;9m", "\x1b[4:5m",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        2 => (1..8u8, 1..22u8).prop_map(|(line, column)| format!("\x1b[{line};{column}H").into_bytes()),
        3 => prop::sample::select(vec![
            "\x1b[?2004h", "\x1b[?1000h", "\x1b[?1002h\x1b[?1006h", "\x1b[?1h", "\x1b=", "\x1b>", "\x1b[?25l", "\x1b[?25h", "\x1b[?1004h", "\x1b[?7l",
            "\x1b[?7h", "\x1b[5 q", "\x1b[0 q", "\x1b[>5u", "\x1b[=3;1u", "\x1b[<1u", "\x1b[?1007l", "\x1b[20h", "\x1b7", "\x1b8", "\x1bH",
            "\x1b[3g", "\x1b(0", "\x1b(B", "\x0e", "\x0f", "\x1b)0", "\x1b]4;3;#102030\x07", "\x1b]11;rgb:11/22/33\x1b\\", "\x1b]8;id=a;http://x/;y\x1b\\",
            "\x1b]8;;\x1b\\", "\x1b[?2026h", "\x1b[?2026l", "\x1b]0;title\x07",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(vec!["\x1b[?1049h", "\x1b[?1049l"]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(vec!["\x1b[2J", "\x1b[H\x1b[J", "\x1b[3J", "\x1bc", "\x1b[2K"]).prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn rough() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => smooth(),
        1 => prop::sample::select(vec![
            "\x1b[2;4r", "\x1b[r", "\x1b[?6h", "\x1b[?6l", "\x1b[4h", "\x1b[4l", "\x1bM", "\x1b[L", "\x1b[2M", "\x1b[3P", "\x1b[2@", "\x1b[X", "\x1b[S", "\x1b[T",
            "\x1b[5b", "\x1b[1K", "\x1b[K", "\x08\x08", "\x1b#8", "\x1b[?3h", "\x1bP1$qm\x1b\\", "\x1b_x\x1b\\", "\x1b[c", "\x1b[6n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn bytes_of(piece: impl Strategy<Value = Vec<u8>>, count: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece, 0..count).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_painted_snapshot_is_the_same_screen_and_stays_it(before in bytes_of(smooth(), 60), after in bytes_of(smooth(), 20)) {
        let mut host = screen(&before);
        let mut viewer = viewer_of(&mut host, &before);
        assert_same(&host, &viewer);
        host.advance(&after);
        viewer.advance(&after);
        assert_same(&host, &viewer);
    }

    /// Where the output is cut does not matter: sequences and characters begun are replayed from the log.
    #[test]
    fn a_snapshot_taken_anywhere_and_the_rest_of_the_log_make_the_same_screen(all in bytes_of(smooth(), 40), cut in 0usize..400) {
        let cut = cut.min(all.len());
        let mut host = screen(&all[..cut]);
        let mut viewer = viewer_of(&mut host, &all[..cut]);
        host.advance(&all[cut..]);
        viewer.advance(&all[cut..]);
        assert_same(&host, &viewer);
    }

    #[test]
    fn lines_that_wrapped_wrap_again(text in "[a-z]{0,200}", more in "[a-z日]{0,90}") {
        let all = format!("{text}\r\n{more}");
        let mut host = screen(all.as_bytes());
        let mut viewer = viewer_of(&mut host, all.as_bytes());
        prop_assert_eq!(wraps(&host), wraps(&viewer));
        let wide = Size { cols: 33, rows: 6 };
        host.resize(wide);
        viewer.resize(wide);
        assert_same(&host, &viewer);
    }

    /// Passing over what scrolls away makes no difference.
    #[test]
    fn a_flood_skimmed_is_a_flood_read(
        before in bytes_of(smooth(), 20),
        lines in prop::collection::vec(("[a-z]{0,30}|日本", prop::sample::select(vec!["", "\x1b[31m", "\x1b[0m", "\x1b[48;5;4m", "\t"])), 0..80),
        after in bytes_of(smooth(), 10),
        end in prop::sample::select(vec!["\r\n", "\n", "\r"]),
    ) {
        let mut flood = lines.iter().flat_map(|(text, colour)| format!("{colour}{text}\r\n").into_bytes()).collect::<Vec<u8>>();
        flood.extend_from_slice(end.as_bytes());
        let mut read = Screen::with_scrollback(SIZE, 10);
        let mut skimmed = Screen::with_scrollback(SIZE, 10);
        read.advance(&before);
        skimmed.advance(&before);
        read.advance(&flood);
        let all = [&before[..], &flood].concat();
        let start = skimmed.offset();
        skimmed.skim(&all[start as usize..]);
        skimmed.advance(&all[skimmed.fed() as usize..]);
        prop_assert_eq!(skimmed.offset(), read.offset());
        assert_same(&read, &skimmed);
        read.advance(&after);
        skimmed.advance(&after);
        assert_same(&read, &skimmed);
    }

    #[test]
    fn out_05_no_output_breaks_the_screen(pieces in prop::collection::vec(rough(), 0..60), sizes in prop::collection::vec((2u16..60, 1u16..20), 1..4)) {
        let mut host = Screen::new(SIZE);
        for (index, piece) in pieces.iter().enumerate() {
            host.advance(piece);
            if index % 13 == 12 {
                let (cols, rows) = sizes[index % sizes.len()];
                host.resize(Size { cols, rows });
            }
        }
        let painted = host.snapshot();
        prop_assert!(painted.len() <= SNAPSHOT_MAX);
        let mut viewer = Screen::new(host.size());
        viewer.advance(&painted);
        prop_assert_eq!(viewer.engine.term.grid().total_lines(), host.engine.term.grid().total_lines());
    }

    /// The whole answer is a number in one of a few forms: no control character but ESC, nothing the program chose.
    #[test]
    fn out_02_every_answer_is_numeric(pieces in prop::collection::vec(prop_oneof![queries(), rough()], 0..40)) {
        let mut host = screen(&pieces.concat());
        let replies = host.take_replies();
        for reply in replies.split('\x1b').filter(|reply| !reply.is_empty() && *reply != "\\") {
            let csi = reply.strip_prefix('[').is_some_and(|rest| {
                let (numbers, last) = rest.split_at(rest.len() - 1);
                "cnRutny".contains(last) && numbers.chars().all(|c| c.is_ascii_digit() || ";?>$".contains(c))
            });
            let osc = reply.strip_prefix(']').is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit() || ";:/rgb".contains(c)));
            prop_assert!(csi || osc, "{:?}", reply);
        }
    }
}

fn queries() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![
        "\x1b[c",
        "\x1b[>c",
        "\x1b[=c",
        "\x1b[5n",
        "\x1b[6n",
        "\x1b[?6n",
        "\x1b[18t",
        "\x1b[14t",
        "\x1b[21t",
        "\x1b[?u",
        "\x1b[?2004$p",
        "\x1b[4$p",
        "\x1bP$qm\x1b\\",
        "\x1bP+q544e\x1b\\",
        "\x1b]4;1;?\x07",
        "\x1b]10;?\x1b\\",
        "\x1b]11;?\x07",
        "\x1b]52;c;?\x07",
        "\x1b]50;?\x07",
        "\x1b[>q",
        "\x1b[?4m",
        "\x05",
        "\x1bZ",
        "\x1b]0;rm -rf ~\n\x07\x1b[21t",
        "\x1b]11;#123456\x07\x1b]11;?\x07",
        "\x1b]l\x1b\\",
    ])
    .prop_map(|text| text.as_bytes().to_vec())
}

#[test]
fn out_02_queries_have_these_answers_and_no_others() {
    for (query, answer) in [
        ("\x1b[c", "\x1b[?6c"),
        ("\x1b[5n", "\x1b[0n"),
        ("ab\x1b[6n", "\x1b[1;3R"),
        ("\x1b[?2004h\x1b[?2004$p", "\x1b[?2004;1$y"),
        ("\x1b[?2004$p", "\x1b[?2004;2$y"),
        ("\x1b[?9999$p", "\x1b[?9999;0$y"),
        ("\x1b[>3u\x1b[?u", "\x1b[?3u"),
        ("\x1b]11;?\x07", "\x1b]11;rgb:0b0b/0e0e/1414\x1b\\"),
        ("\x1b]11;#ff0000\x07\x1b]11;?\x07", "\x1b]11;rgb:0b0b/0e0e/1414\x1b\\"),
        ("\x1b]52;c;?\x07", ""),
        ("\x1b]0;x\x07\x1b[21t", ""),
        ("\x1bP$qm\x1b\\", ""),
        ("\x1bP+q544e\x1b\\", ""),
        ("\x1b[>q", ""),
    ] {
        assert_eq!(screen(query.as_bytes()).take_replies(), answer, "{query:?}");
    }
}

#[test]
fn an_alternate_screen_and_the_primary_below_it_are_both_painted() {
    let before = b"shell prompt $ \x1b[31mvim\r\n\x1b[?1049h\x1b[?1h\x1b[2;3Halternate";
    let mut host = screen(before);
    let keep = lines(&host);
    let mut viewer = viewer_of(&mut host, before);
    assert_eq!(lines(&host), keep, "taking a snapshot changes nothing");
    assert_same(&host, &viewer);
    assert!(viewer.engine.term.mode().contains(TermMode::ALT_SCREEN));
    host.advance(b"\x1b[?1049lafter");
    viewer.advance(b"\x1b[?1049lafter");
    assert_same(&host, &viewer);
}

#[test]
fn out_05_an_overlong_sequence_is_skipped_and_the_offset_goes_on() {
    for (begin, end) in [
        ("\x1b]0;", "\x07"),
        ("\x1b]0;", "\x1b\\"),
        ("\x1bPq", "\x1b\\"),
        ("\x1b_", "\x1b\\"),
        ("\x1b[", "m"),
        ("\x1b(", "B"),
    ] {
        let filler = if begin == "\x1b(" { "(" } else { "1" };
        let mut all = format!("a{begin}{}", filler.repeat(20_000)).into_bytes();
        let mut host = Screen::new(SIZE);
        for part in all.chunks(100) {
            host.advance(part);
        }
        assert_eq!(host.offset(), all.len() as u64, "{begin:?} is not kept");
        let mut viewer = viewer_of(&mut host, &all);
        all.extend_from_slice(filler.repeat(10).as_bytes());
        let rest = format!("{}{end}b", filler.repeat(10));
        host.advance(rest.as_bytes());
        viewer.advance(rest.as_bytes());
        assert_eq!(host.engine.term.grid()[Line(0)][Column(1)].c, 'b', "{begin:?} {end:?}");
        assert_same(&host, &viewer);
        assert_eq!(host.take_title(), None);
    }
}

#[test]
fn out_05_what_makes_the_engine_panic_costs_the_picture_only() {
    let mut host = screen(format!("before\x1b]4;1;#{}\x07", "0".repeat(90)).as_bytes());
    host.advance(b"after");
    assert!(host.engine.term.grid()[Line(0)][Column(0)].c == 'a' || lines(&host)[0].contains("'b'"));
    let mut host = screen("\x1b[>1u".repeat(5000).as_bytes());
    host.advance(b"\x1b[?u");
    assert_eq!(host.take_replies(), "\x1b[?1u");
}

#[test]
fn out_05_bombs_are_bounded() {
    let begin = std::time::Duration::from_secs(10);
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut host = screen("x\x1b[65535b".repeat(1000).as_bytes());
        host.advance(format!("e{}", "\u{301}".repeat(100_000)).as_bytes());
        host.advance("\x1b[65535L\x1b[65535S\x1b[65535T\x1b[65535P\x1b[65535@".repeat(500).as_bytes());
        host.advance("\x1b[22;0t".repeat(10_000).as_bytes());
        host.advance("\x1b[c".repeat(10_000).as_bytes());
        assert!(host.take_replies().len() < 5000);
        let _ = done.send(host.snapshot().len());
    });
    let painted = waiting.recv_timeout(begin).expect("it takes no ten seconds");
    assert!(painted < 100_000, "{painted}");
}

#[test]
fn a_hostile_screen_still_fits_its_snapshot() {
    let mut host = Screen::new(Size { cols: 1000, rows: 500 });
    let link = "x".repeat(1900);
    for cell in 0..9_000 {
        host.advance(format!("\x1b]8;id={cell};http://{link}\x1b\\c").as_bytes());
    }
    let painted = host.snapshot();
    assert!(!painted.is_empty() && painted.len() <= SNAPSHOT_MAX, "{}", painted.len());
    let mut full = Screen::new(Size { cols: 200, rows: 50 });
    for line in 0..6000u32 {
        let row: String =
            (0..200).map(|column| format!("\x1b[38;2;{};{};{}m#", line % 256, column, line / 256)).collect();
        full.advance(row.as_bytes());
        full.advance(b"\r\n");
    }
    full.advance(b"\x1b[0mlast line");
    let painted = full.snapshot();
    assert!(painted.len() <= SNAPSHOT_MAX && painted.len() > SNAPSHOT_MAX / 2, "{}", painted.len());
    assert!(painted.windows(9).any(|window| window == b"last line"));
}

proptest! {
    /// Reading the clipboard is never answered and writing it does nothing, whatever the selection, the terminator or the way it is cut.
    #[test]
    fn out_01_osc_52_types_nothing_into_the_pty(
        selection in "[cpqs0-7]{0,4}", data in "[?]|[A-Za-z0-9+/=]{0,60}|[!-~]{0,20}", terminator in prop::sample::select(vec!["\x07", "\x1b\\", "\u{9c}"]),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = format!("a\x1b]52;{selection};{data}{terminator}\x1b\\b").into_bytes();
        let (first, rest) = bytes.split_at(cut.index(bytes.len()));
        let mut screen = Screen::new(SIZE);
        screen.advance(first);
        screen.advance(rest);
        prop_assert_eq!(screen.take_replies(), "");
        prop_assert_eq!(screen.take_title(), None);
        let painted = String::from_utf8(screen.snapshot()).unwrap();
        prop_assert!(!painted.contains("]52"), "no viewer is handed it with the screen");
    }
}

#[test]
fn out_01_asking_for_the_clipboard_is_not_answered() {
    for query in ["\x1b]52;c;?\x07", "\x1b]52;;?\x1b\\", "\x1b]52;pc;?\x07", "\x1b]52;c;?\u{9c}"] {
        assert_eq!(screen(query.as_bytes()).take_replies(), "", "{query:?}");
    }
    assert_eq!(screen(b"\x1b[5n").take_replies(), "\x1b[0n", "while what is allowed is");
}
