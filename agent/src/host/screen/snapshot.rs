//! A screen as bytes that paint it.
//!
//! Order: tab stops and colours; scrollback and primary screen, line by line, lines that wrapped left to wrap again so that they reflow; if the alternate
//! screen is in use, the primary cursor, then the alternate screen; saved cursor; scroll region and modes; the cursor last, for most of the others move it.
//!
//! Left out, because no sequence says it: cells of wide characters that were cut in half are blank.
#![deny(clippy::disallowed_methods)]

mod pen;

use std::collections::VecDeque;
use std::io::Write;

use alacritty_terminal::Grid;
use alacritty_terminal::grid::{Cursor, Dimensions, Row};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::TermMode;
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::vte::ansi::{
    CharsetIndex, CursorShape, Handler, KeyboardModes, KeyboardModesApplyBehavior, NamedColor,
    StandardCharset,
};
use rexec_shared::limits::SNAPSHOT_MAX;

use super::engine::{Engine, default_tabs};
use pen::Pen;

/// Room for what is not lines: tab stops, colours, modes, bytes.
const REST_MAX: usize = 64 * 1024;

/// How much of the picture is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Everything.
    Full,
    /// Characters alone: what is left when colours and links of a hostile screen exceed the limit.
    Text,
}

/// Bytes that paint the engine's screen. The engine is as before when this returns; it is borrowed mutably because the terminal shows its
/// inactive screen only by switching to it.
pub(super) fn paint(engine: &mut Engine) -> Vec<u8> {
    Painter::run(engine, Detail::Full).or_else(|| Painter::run(engine, Detail::Text)).unwrap_or_default()
}

struct Painter {
    out: Vec<u8>,
    pen: Pen,
    detail: Detail,
    /// Where lines that may be left out begin, oldest first. Invariant: at each the pen is plain.
    starts: VecDeque<usize>,
    /// Bytes that screen lines may take.
    limit: usize,
    overflow: bool,
}

impl Painter {
    fn run(engine: &mut Engine, detail: Detail) -> Option<Vec<u8>> {
        let (out, starts, limit) = (Vec::new(), VecDeque::new(), SNAPSHOT_MAX - REST_MAX);
        let mut painter = Self { out, pen: Pen::default(), detail, starts, limit, overflow: false };
        painter.screens(engine);
        painter.colors_and_tabs(engine);
        painter.modes(engine);
        (!painter.overflow && painter.out.len() <= SNAPSHOT_MAX).then_some(painter.out)
    }

    fn screens(&mut self, engine: &mut Engine) {
        if !engine.term.mode().contains(TermMode::ALT_SCREEN) {
            self.alternate_keyboard(&engine.shadow.keyboard[1]);
            self.grid(engine.term.grid());
            self.keyboard_stack(&engine.shadow.keyboard[0]);
            return;
        }
        let alternate = engine.term.grid().clone();
        let keys = *engine.term.mode();
        engine.term.swap_alt();
        self.limit /= 2;
        self.grid(engine.term.grid());
        self.limit *= 2;
        self.cursor(engine.term.grid(), engine.shadow.charset, 0);
        engine.term.swap_alt();
        *engine.term.grid_mut() = alternate;
        engine.term.set_keyboard_mode(keyboard_modes(keys), KeyboardModesApplyBehavior::Replace);

        self.keyboard_stack(&engine.shadow.keyboard[0]);
        self.out.extend_from_slice(b"\x1b[?1049h");
        self.plain();
        self.out.extend_from_slice(b"\x1b(B\x1b)B\x0f\x1b[H\x1b[2J");
        self.starts.clear();
        self.grid(engine.term.grid());
        self.keyboard_stack(&engine.shadow.keyboard[1]);
    }

    /// All lines of a grid, history first, beginning with the cursor in the top left corner of an empty screen.
    fn grid(&mut self, grid: &Grid<Cell>) {
        let (top, bottom) = (grid.topmost_line().0, grid.bottommost_line().0);
        let mut wrapped = false;
        for line in top..=bottom {
            if line > top && !wrapped {
                self.plain();
                self.out.extend_from_slice(b"\r\n");
            }
            if !wrapped && line <= 0 {
                self.starts.push_back(self.out.len());
            }
            let next = (line < bottom).then(|| &grid[Line(line + 1)]);
            wrapped = self.row(&grid[Line(line)], next, wrapped);
            self.trim();
            if self.overflow {
                return;
            }
        }
        self.plain();
    }

    /// One row; returns whether the next is its continuation and follows without a line break.
    fn row(&mut self, row: &Row<Cell>, next: Option<&Row<Cell>>, continued: bool) -> bool {
        let cols = row.len();
        let last = &row[Column(cols - 1)];
        let wraps = self.detail == Detail::Full && next.is_some() && last.flags.contains(Flags::WRAPLINE);
        let next_is_wide =
            next.is_some_and(|next| is_wide(&next[Column(0)]) && is_whole(Some(&next[Column(1)])));
        let spacer = last.flags.contains(Flags::LEADING_WIDE_CHAR_SPACER) && next_is_wide && wraps;
        let end = match (wraps, spacer) {
            (true, true) => cols - 1,
            (true, false) => cols,
            (false, _) => {
                (0..cols).rev().find(|column| !shows_blank(row, *column)).map_or(0, |column| column + 1)
            }
        };
        // A continuation shows itself by at least one character: it is what makes the terminal wrap.
        let end = if continued { end.max(1) } else { end };
        let opened_on_colour = self.cells(row, end);
        if continued && opened_on_colour && end < cols {
            // Wrapping scrolled in a line of the pen's background; the rest of it is blank.
            self.plain();
            self.out.extend_from_slice(b"\x1b[K");
        }
        wraps
    }

    /// Cells up to `end`; returns whether the first has a background.
    fn cells(&mut self, row: &Row<Cell>, end: usize) -> bool {
        let mut column = 0;
        while column < end {
            let cell = &row[Column(column)];
            column += self.cell(cell, (column + 1 < row.len()).then(|| &row[Column(column + 1)]));
            if cell.zerowidth().is_some_and(|marks| !marks.is_empty()) && column < end {
                // Terminals disagree about the width of combined characters; say where the next one stands.
                let _ = write!(self.out, "\x1b[{}G", column + 1);
            }
        }
        pen::has_background(&row[Column(0)])
    }

    /// One cell; returns how many columns it took.
    fn cell(&mut self, cell: &Cell, next: Option<&Cell>) -> usize {
        if self.detail == Detail::Full {
            self.pen.change(cell, &mut self.out);
        }
        let whole = is_whole(next);
        let c = if cell.c == '\t' || (is_wide(cell) && !whole) { ' ' } else { cell.c };
        let mut buffer = [0; 4];
        self.out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        if self.detail == Detail::Full {
            for mark in cell.zerowidth().unwrap_or_default() {
                self.out.extend_from_slice(mark.encode_utf8(&mut buffer).as_bytes());
            }
        }
        if is_wide(cell) && whole { 2 } else { 1 }
    }

    fn plain(&mut self) {
        self.pen.change(&Cell::default(), &mut self.out);
    }

    /// Leaves out the oldest lines while there is too much.
    fn trim(&mut self) {
        if self.out.len() <= self.limit {
            return;
        }
        let excess = self.out.len() - self.limit / 4 * 3;
        let keep = self.starts.partition_point(|start| *start < excess);
        let Some(cut) = self.starts.get(keep).copied() else {
            self.overflow = true;
            return;
        };
        self.out.drain(..cut);
        self.starts.drain(..keep);
        self.starts.iter_mut().for_each(|start| *start -= cut);
    }

    fn colors_and_tabs(&mut self, engine: &Engine) {
        let colors = engine.term.colors();
        for index in 0..=NamedColor::Cursor as usize {
            if let Some(rgb) = colors[index] {
                let code = if index < 256 { format!("4;{index}") } else { (index - 246).to_string() };
                let _ = write!(self.out, "\x1b]{code};rgb:{:02x}/{:02x}/{:02x}\x1b\\", rgb.r, rgb.g, rgb.b);
            }
        }
        if engine.shadow.tabs != default_tabs(engine.term.columns()) {
            self.out.extend_from_slice(b"\x1b[3g");
            for column in
                engine.shadow.tabs.iter().enumerate().filter(|(_, stop)| **stop).map(|(column, _)| column)
            {
                let _ = write!(self.out, "\x1b[{}G\x1bH", column + 1);
            }
        }
    }

    fn keyboard_stack(&mut self, stack: &[KeyboardModes]) {
        for modes in stack {
            let _ = write!(self.out, "\x1b[>{}u", modes.bits());
        }
    }

    /// Keyboard modes left pushed on an alternate screen not in use.
    fn alternate_keyboard(&mut self, stack: &[KeyboardModes]) {
        if !stack.is_empty() {
            self.out.extend_from_slice(b"\x1b[?1049h");
            self.keyboard_stack(stack);
            self.out.extend_from_slice(b"\x1b[?1049l");
        }
    }

    /// Saved cursor, region, modes, and the cursor itself.
    fn modes(&mut self, engine: &Engine) {
        let (grid, mode) = (engine.term.grid(), *engine.term.mode());
        // Entering the alternate screen saves the cursor: there, the default has to be said as well.
        if mode.contains(TermMode::ALT_SCREEN) || grid.saved_cursor != Cursor::default() {
            self.place(grid, &grid.saved_cursor, 0);
            self.out.extend_from_slice(b"\x1b7");
        }
        let lines = grid.screen_lines();
        if engine.shadow.region != (0..lines) {
            let _ = write!(self.out, "\x1b[{};{}r", engine.shadow.region.start + 1, engine.shadow.region.end);
        }
        let origin = if mode.contains(TermMode::ORIGIN) { engine.shadow.region.start } else { 0 };
        if mode.contains(TermMode::ORIGIN) {
            self.out.extend_from_slice(b"\x1b[?6h");
        }
        self.cursor(grid, engine.shadow.charset, origin);
        self.keyboard_flags(engine, mode);
        let style = engine.term.cursor_style();
        let shape = match style.shape {
            CursorShape::Underline => 4,
            CursorShape::Beam => 6,
            CursorShape::Block | CursorShape::HollowBlock | CursorShape::Hidden => 2,
        };
        if style != Default::default() {
            let _ = write!(self.out, "\x1b[{} q", shape - u8::from(style.blinking));
        }
        for (flag, default, set, unset) in MODES {
            if mode.contains(*flag) != *default {
                self.out.extend_from_slice(if *default { unset.as_bytes() } else { set.as_bytes() });
            }
        }
    }

    fn keyboard_flags(&mut self, engine: &Engine, mode: TermMode) {
        let index = usize::from(mode.contains(TermMode::ALT_SCREEN));
        let stack = engine.shadow.keyboard.get(index).and_then(|stack| stack.last());
        let (now, pushed) = (keyboard_modes(mode), stack.copied().unwrap_or(KeyboardModes::NO_MODE));
        if now != pushed {
            let _ = write!(self.out, "\x1b[={};1u", now.bits());
        }
    }

    fn cursor(&mut self, grid: &Grid<Cell>, charset: CharsetIndex, origin: usize) {
        self.place(grid, &grid.cursor, origin);
        self.out.push(if charset == CharsetIndex::G1 { 0x0e } else { 0x0f });
    }

    /// Puts the cursor where `cursor` is, with its pen and character sets, and about to wrap if it was.
    fn place(&mut self, grid: &Grid<Cell>, cursor: &Cursor<Cell>, origin: usize) {
        let line = usize::try_from(cursor.point.line.0).unwrap_or(0);
        let mut column = cursor.point.column.0;
        let row = &grid[cursor.point.line];
        if cursor.input_needs_wrap
            && row[Column(column)].flags.contains(Flags::WIDE_CHAR_SPACER)
            && column > 0
        {
            column -= 1;
        }
        self.designate(&Cursor::<Cell>::default());
        let _ = write!(self.out, "\x1b[{};{}H", line.saturating_sub(origin) + 1, column + 1);
        if cursor.input_needs_wrap {
            // Only printing in the last column makes a terminal about to wrap, so what stands there is printed again.
            self.cell(&row[Column(column)], (column + 1 < row.len()).then(|| &row[Column(column + 1)]));
        }
        self.pen.change(&cursor.template, &mut self.out);
        self.designate(cursor);
    }

    fn designate(&mut self, cursor: &Cursor<Cell>) {
        let sets = [
            (CharsetIndex::G0, b'('),
            (CharsetIndex::G1, b')'),
            (CharsetIndex::G2, b'*'),
            (CharsetIndex::G3, b'+'),
        ];
        for (index, byte) in sets {
            let set = match cursor.charsets[index] {
                StandardCharset::Ascii => b'B',
                StandardCharset::SpecialCharacterAndLineDrawing => b'0',
            };
            self.out.extend_from_slice(&[0x1b, byte, set]);
        }
    }
}

/// Modes besides origin and screen: flag, whether it is set after a reset, what sets it, what unsets it.
const MODES: &[(TermMode, bool, &str, &str)] = &[
    (TermMode::SHOW_CURSOR, true, "\x1b[?25h", "\x1b[?25l"),
    (TermMode::LINE_WRAP, true, "\x1b[?7h", "\x1b[?7l"),
    (TermMode::ALTERNATE_SCROLL, true, "\x1b[?1007h", "\x1b[?1007l"),
    (TermMode::URGENCY_HINTS, true, "\x1b[?1042h", "\x1b[?1042l"),
    (TermMode::APP_CURSOR, false, "\x1b[?1h", "\x1b[?1l"),
    (TermMode::APP_KEYPAD, false, "\x1b=", "\x1b>"),
    (TermMode::INSERT, false, "\x1b[4h", "\x1b[4l"),
    (TermMode::LINE_FEED_NEW_LINE, false, "\x1b[20h", "\x1b[20l"),
    (TermMode::MOUSE_REPORT_CLICK, false, "\x1b[?1000h", "\x1b[?1000l"),
    (TermMode::MOUSE_DRAG, false, "\x1b[?1002h", "\x1b[?1002l"),
    (TermMode::MOUSE_MOTION, false, "\x1b[?1003h", "\x1b[?1003l"),
    (TermMode::FOCUS_IN_OUT, false, "\x1b[?1004h", "\x1b[?1004l"),
    (TermMode::UTF8_MOUSE, false, "\x1b[?1005h", "\x1b[?1005l"),
    (TermMode::SGR_MOUSE, false, "\x1b[?1006h", "\x1b[?1006l"),
    (TermMode::BRACKETED_PASTE, false, "\x1b[?2004h", "\x1b[?2004l"),
];

fn keyboard_modes(mode: TermMode) -> KeyboardModes {
    [
        (TermMode::DISAMBIGUATE_ESC_CODES, KeyboardModes::DISAMBIGUATE_ESC_CODES),
        (TermMode::REPORT_EVENT_TYPES, KeyboardModes::REPORT_EVENT_TYPES),
        (TermMode::REPORT_ALTERNATE_KEYS, KeyboardModes::REPORT_ALTERNATE_KEYS),
        (TermMode::REPORT_ALL_KEYS_AS_ESC, KeyboardModes::REPORT_ALL_KEYS_AS_ESC),
        (TermMode::REPORT_ASSOCIATED_TEXT, KeyboardModes::REPORT_ASSOCIATED_TEXT),
    ]
    .into_iter()
    .filter(|(flag, _)| mode.contains(*flag))
    .fold(KeyboardModes::NO_MODE, |modes, (_, key)| modes | key)
}

fn is_wide(cell: &Cell) -> bool {
    cell.flags.contains(Flags::WIDE_CHAR)
}

/// Whether a wide character whose other half would be `next` has it: one that was cut in half is painted as a blank.
fn is_whole(next: Option<&Cell>) -> bool {
    next.is_some_and(|next| next.flags.contains(Flags::WIDE_CHAR_SPACER))
}

/// Whether a cell just reset looks and behaves the same as this one when it is painted. A tab leaves its own character in a cell; it shows as a
/// space.
fn shows_blank(row: &Row<Cell>, column: usize) -> bool {
    let cell = &row[Column(column)];
    let next = (column + 1 < row.len()).then(|| &row[Column(column + 1)]);
    let blank = matches!(cell.c, ' ' | '\t') || (is_wide(cell) && !is_whole(next));
    blank && pen::is_plain(cell) && cell.zerowidth().is_none_or(<[char]>::is_empty)
}
