//! The screen of a session under output of a stranger's: bytes as they are, and after 0xff, which no text holds, what the host does meanwhile.

use rexec_shared::limits::{SCROLLBACK_LINES, SNAPSHOT_MAX};
use rexec_shared::message::Size;

use super::screen::{Screen, Watch};
use super::title::TITLE_MAX;
use crate::Input;

/// Bytes before what is not fed at once: as many as the session gives it in one step.
const STEP: usize = 4 * 1024;
/// Floods in one input: each is worth thousands of its bytes.
const FLOODS_MAX: usize = 2;
/// Longest beginning of a sequence that is being skipped, bytes.
const INTRODUCER_MAX: usize = 8;
/// Answers of one step, bytes, generously.
const REPLIES_MAX: usize = 5 * 1024;

pub(crate) fn target(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut screen = Screen::new(size(&mut input));
    let mut watch = Watch::default();
    let (mut fed, mut floods) = (0, 0);
    while !input.is_empty() {
        let len = input.0.iter().position(|byte| *byte == 0xff).unwrap_or(input.0.len());
        for output in input.take(len).chunks(STEP) {
            watch.handle_output(output);
            screen.advance(output);
            fed += output.len() as u64;
        }
        assert_eq!(screen.fed(), fed);
        check(&mut screen);
        input.take(1);
        if !input.is_empty() {
            match input.byte() % 5 {
                0 => screen.resize(size(&mut input)),
                1 => paint(&mut screen),
                2 => screen.shrink(),
                3 => watch.handle_caught_up(),
                _ if floods == FLOODS_MAX => {}
                _ => {
                    floods += 1;
                    fed += flood(&mut screen, input.take(8));
                }
            }
        }
    }
    paint(&mut screen);
}

fn size(input: &mut Input<'_>) -> Size {
    Size { cols: 2 + u16::from(input.byte()) % 150, rows: 1 + u16::from(input.byte()) % 60 }
}

/// Many lines at once, of which the host passes over what will scroll away. Returns how many bytes they are.
fn flood(screen: &mut Screen, line: &[u8]) -> u64 {
    let before = screen.fed();
    if screen.offset() != before {
        return 0;
    }
    let flood = [line, b"\r\n"].concat().repeat(SCROLLBACK_LINES + 200);
    screen.skim(&flood);
    let passed = (screen.fed() - before) as usize;
    flood[passed..].chunks(STEP).for_each(|output| screen.advance(output));
    flood.len() as u64
}

fn check(screen: &mut Screen) {
    assert!(screen.offset() <= screen.fed() && screen.fed() - screen.offset() <= 2 * STEP as u64);
    let replies = screen.take_replies();
    assert!(
        replies.len() <= REPLIES_MAX && !replies.bytes().any(|byte| byte < 0x20 && byte != 0x1b),
        "{replies:?}"
    );
    if let Some(title) = screen.take_title() {
        assert!(title.chars().count() <= TITLE_MAX && !title.chars().any(char::is_control), "{title:?}");
    }
}

/// A snapshot fits its limit, and a terminal that it paints is painted the same again. The latter holds for the corpus and for what people see; a fuzzer soon finds
/// what no sequence says (a cursor about to wrap behind half a wide character), so it is not held to that.
#[expect(unexpected_cfgs, reason = "cargo-fuzz sets it")]
fn paint(screen: &mut Screen) {
    let painted = screen.snapshot();
    assert!(painted.len() <= SNAPSHOT_MAX);
    let mut viewer = Screen::new(screen.size());
    viewer.advance(&painted);
    assert_eq!(viewer.take_replies(), "", "a snapshot asks nothing");
    let again = viewer.snapshot();
    // What is being skipped begins anew after it; a picture that the engine could not make is empty.
    let is_same = painted.starts_with(&again) && painted.len() - again.len() <= INTRODUCER_MAX;
    let [painted, again] = [painted, again].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        cfg!(fuzzing) || is_same || painted.len() <= INTRODUCER_MAX,
        "{painted:?} is painted as {again:?}"
    );
}
