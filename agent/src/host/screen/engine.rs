//! The VT engine of a session: alacritty's terminal with a guard in front of it.
//!
//! The guard does three things the terminal does not. It answers queries itself, from numbers alone, so nothing a program
//! chose can come back as typing (THREATS OUT-02): titles, settings strings, clipboards and colours set by programs are never told.
//! It bounds what a program can make the terminal hold or do (OUT-05). And it remembers what the terminal
//! keeps private and a snapshot needs: tab stops, scroll region, active character set, keyboard mode stacks.

use std::fmt::Write;
use std::ops::Range;

use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::Column;
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::term::{Config, Osc52, Term, TermMode};
use alacritty_terminal::vte::ansi::{
    Attr, CharsetIndex, ClearMode, CursorShape, CursorStyle, Handler, Hyperlink, KeyboardModes,
    KeyboardModesApplyBehavior, LineClearMode, Mode, NamedMode, NamedPrivateMode, PrivateMode, Rgb,
    StandardCharset, TabulationClearMode,
};
use rexec_shared::message::Size;
use unicode_width::UnicodeWidthChar;

use crate::host::title::sanitise;

/// Answers waiting to be typed into the PTY, bytes; a program that asks and never reads gets no more.
const REPLIES_MAX: usize = 4 * 1024;
/// Combining characters kept per cell: more than any script needs.
const ZEROWIDTH_MAX: usize = 8;
/// Longest link target and link id kept, bytes.
const LINK_MAX: usize = 2 * 1024;
/// Depth of the keyboard mode stacks; kitty's protocol asks for a bound and says that the oldest entry goes.
const KEYBOARD_DEPTH_MAX: usize = 16;
/// Distance of tab stops after a reset.
const TAB_INTERVAL: usize = 8;

/// The size of a screen, as the terminal wants to be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cells(pub(super) Size);

impl Dimensions for Cells {
    fn total_lines(&self) -> usize {
        self.screen_lines()
    }
    fn screen_lines(&self) -> usize {
        usize::from(self.0.rows)
    }
    fn columns(&self) -> usize {
        usize::from(self.0.cols)
    }
}

/// What the terminal keeps private and a snapshot tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shadow {
    /// Which columns are tab stops.
    pub(super) tabs: Vec<bool>,
    /// Lines that scroll.
    pub(super) region: Range<usize>,
    /// Which of the designated character sets is in use.
    pub(super) charset: CharsetIndex,
    /// Keyboard modes pushed: on the primary screen, on the alternate screen.
    pub(super) keyboard: [Vec<KeyboardModes>; 2],
}

impl Shadow {
    fn new(size: Size) -> Self {
        Self {
            tabs: default_tabs(usize::from(size.cols)),
            region: 0..usize::from(size.rows),
            charset: CharsetIndex::G0,
            keyboard: [Vec::new(), Vec::new()],
        }
    }

    fn resize(&mut self, size: Size) {
        let cols = usize::from(size.cols);
        self.tabs.truncate(cols);
        let known = self.tabs.len();
        self.tabs.extend((known..cols).map(|column| column.is_multiple_of(TAB_INTERVAL)));
        self.region = 0..usize::from(size.rows);
    }
}

/// The tab stops of a terminal just reset.
pub(super) fn default_tabs(cols: usize) -> Vec<bool> {
    (0..cols).map(|column| column.is_multiple_of(TAB_INTERVAL)).collect()
}

/// Terminal, guard and shadow.
pub(super) struct Engine {
    pub(super) term: Term<VoidListener>,
    pub(super) shadow: Shadow,
    replies: String,
    title: Option<String>,
    /// Characters that may still be printed before the next call of [`Self::allow`].
    allowance: usize,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("shadow", &self.shadow).finish_non_exhaustive()
    }
}

impl Engine {
    /// A terminal just reset that keeps `scrollback` lines.
    pub(super) fn new(size: Size, scrollback: usize) -> Self {
        let config = Config {
            scrolling_history: scrollback,
            kitty_keyboard: true,
            osc52: Osc52::Disabled,
            ..Config::default()
        };
        Self {
            term: Term::new(config, &Cells(size), VoidListener),
            shadow: Shadow::new(size),
            replies: String::new(),
            title: None,
            allowance: 0,
        }
    }

    /// Sets the size, reflowing the primary screen.
    pub(super) fn resize(&mut self, size: Size) {
        self.term.resize(Cells(size));
        self.shadow.resize(size);
    }

    /// Whether every line feed at the bottom scrolls the whole screen, and printing moves nothing.
    pub(super) fn scrolls_whole(&self) -> bool {
        self.shadow.region == (0..self.term.screen_lines()) && !self.term.mode().contains(TermMode::INSERT)
    }

    /// Lets `len` bytes print what an honest program prints with them: repetition (REP) makes 65,535 characters of eight bytes.
    pub(super) fn allow(&mut self, len: usize) {
        self.allowance = len + (len / 4 + 1) * self.term.columns();
    }

    /// Answers to queries since the last call.
    pub(super) fn take_replies(&mut self) -> String {
        std::mem::take(&mut self.replies)
    }

    /// The title, if it was set since the last call.
    pub(super) fn take_title(&mut self) -> Option<String> {
        self.title.take()
    }

    /// Which of the two keyboard mode stacks is in use.
    fn keyboard_index(&self) -> usize {
        usize::from(self.term.mode().contains(TermMode::ALT_SCREEN))
    }

    fn reply(&mut self, answer: std::fmt::Arguments<'_>) {
        if self.replies.len() < REPLIES_MAX {
            let _ = self.replies.write_fmt(answer);
        }
    }

    fn cell_under_combining(&self) -> (usize, bool) {
        let cursor = &self.term.grid().cursor;
        let row = &self.term.grid()[cursor.point.line];
        let mut column = cursor.point.column.0;
        if !cursor.input_needs_wrap {
            column = column.saturating_sub(1);
        }
        if row[Column(column)].flags.contains(Flags::WIDE_CHAR_SPACER) {
            column = column.saturating_sub(1);
        }
        let held = row[Column(column)].zerowidth().map_or(0, <[char]>::len);
        (column, held >= ZEROWIDTH_MAX)
    }

    fn private_mode_state(&self, mode: NamedPrivateMode) -> u8 {
        let flag = match mode {
            NamedPrivateMode::CursorKeys => TermMode::APP_CURSOR,
            NamedPrivateMode::Origin => TermMode::ORIGIN,
            NamedPrivateMode::LineWrap => TermMode::LINE_WRAP,
            NamedPrivateMode::ShowCursor => TermMode::SHOW_CURSOR,
            NamedPrivateMode::ReportMouseClicks => TermMode::MOUSE_REPORT_CLICK,
            NamedPrivateMode::ReportCellMouseMotion => TermMode::MOUSE_DRAG,
            NamedPrivateMode::ReportAllMouseMotion => TermMode::MOUSE_MOTION,
            NamedPrivateMode::ReportFocusInOut => TermMode::FOCUS_IN_OUT,
            NamedPrivateMode::Utf8Mouse => TermMode::UTF8_MOUSE,
            NamedPrivateMode::SgrMouse => TermMode::SGR_MOUSE,
            NamedPrivateMode::AlternateScroll => TermMode::ALTERNATE_SCROLL,
            NamedPrivateMode::UrgencyHints => TermMode::URGENCY_HINTS,
            NamedPrivateMode::SwapScreenAndSetRestoreCursor => TermMode::ALT_SCREEN,
            NamedPrivateMode::BracketedPaste => TermMode::BRACKETED_PASTE,
            NamedPrivateMode::BlinkingCursor => return mode_state(self.term.cursor_style().blinking),
            NamedPrivateMode::SyncUpdate => return mode_state(false),
            NamedPrivateMode::ColumnMode => return 0,
        };
        mode_state(self.term.mode().contains(flag))
    }
}

/// DECRPM's values for set and reset.
fn mode_state(set: bool) -> u8 {
    if set { 1 } else { 2 }
}

/// The colour told for an index: the theme of our own terminals, never one a program set.
fn theme(index: usize) -> Rgb {
    const ANSI: [u32; 16] = [
        0x00_0000, 0xcd_3131, 0x0d_bc79, 0xe5_e510, 0x24_72c8, 0xbc_3fbc, 0x11_a8cd, 0xe5_e5e5, 0x66_6666,
        0xf1_4c4c, 0x23_d18b, 0xf5_f543, 0x3b_8eea, 0xd6_70d6, 0x29_b8db, 0xff_ffff,
    ];
    let level = |step: usize| if step == 0 { 0 } else { (55 + 40 * step) as u8 };
    let rgb = |hex: u32| Rgb { r: (hex >> 16) as u8, g: (hex >> 8) as u8, b: hex as u8 };
    match index {
        0..=15 => rgb(ANSI.get(index).copied().unwrap_or_default()),
        16..=231 => {
            Rgb { r: level((index - 16) / 36), g: level((index - 16) / 6 % 6), b: level((index - 16) % 6) }
        }
        232..=255 => {
            let grey = (8 + 10 * (index - 232)) as u8;
            Rgb { r: grey, g: grey, b: grey }
        }
        257 => rgb(0x0b_0e14),
        _ => rgb(0xd8_dee9),
    }
}

/// Hands calls on to the terminal unchanged.
macro_rules! pass_on {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {
        $(#[inline] fn $name(&mut self $(, $arg: $kind)*) { self.term.$name($($arg),*); })*
    };
}

impl Handler for Engine {
    pass_on! {
        set_cursor_style(style: Option<CursorStyle>);
        set_cursor_shape(shape: CursorShape);
        goto(line: i32, column: usize);
        goto_line(line: i32);
        goto_col(column: usize);
        insert_blank(count: usize);
        move_up(count: usize);
        move_down(count: usize);
        move_forward(count: usize);
        move_backward(count: usize);
        move_down_and_cr(count: usize);
        move_up_and_cr(count: usize);
        put_tab(count: u16);
        backspace();
        carriage_return();
        linefeed();
        newline();
        scroll_up(count: usize);
        scroll_down(count: usize);
        insert_blank_lines(count: usize);
        delete_lines(count: usize);
        erase_chars(count: usize);
        delete_chars(count: usize);
        move_backward_tabs(count: u16);
        move_forward_tabs(count: u16);
        save_cursor_position();
        restore_cursor_position();
        clear_line(mode: LineClearMode);
        clear_screen(mode: ClearMode);
        reverse_index();
        terminal_attribute(attr: Attr);
        set_mode(mode: Mode);
        unset_mode(mode: Mode);
        set_keypad_application_mode();
        unset_keypad_application_mode();
        configure_charset(index: CharsetIndex, charset: StandardCharset);
        set_color(index: usize, color: Rgb);
        reset_color(index: usize);
        decaln();
        set_keyboard_mode(mode: KeyboardModes, behaviour: KeyboardModesApplyBehavior);
    }

    #[inline]
    fn input(&mut self, c: char) {
        if self.allowance == 0 {
            return;
        }
        self.allowance -= 1;
        if c >= '\u{300}' && c.width() == Some(0) && self.cell_under_combining().1 {
            return;
        }
        self.term.input(c);
    }

    fn set_title(&mut self, title: Option<String>) {
        self.title = Some(sanitise(&title.unwrap_or_default()));
    }

    fn set_hyperlink(&mut self, link: Option<Hyperlink>) {
        let bounded = |text: &str| text.len() <= LINK_MAX && !text.chars().any(char::is_control);
        let fits = |link: &Hyperlink| bounded(&link.uri) && link.id.as_deref().is_none_or(bounded);
        self.term.set_hyperlink(link.filter(fits));
    }

    fn set_horizontal_tabstop(&mut self) {
        let column = self.term.grid().cursor.point.column.0;
        if let Some(stop) = self.shadow.tabs.get_mut(column) {
            *stop = true;
        }
        self.term.set_horizontal_tabstop();
    }

    fn clear_tabs(&mut self, mode: TabulationClearMode) {
        let column = self.term.grid().cursor.point.column.0;
        match mode {
            TabulationClearMode::Current => {
                self.shadow.tabs.iter_mut().skip(column).take(1).for_each(|stop| *stop = false)
            }
            TabulationClearMode::All => self.shadow.tabs.fill(false),
        }
        self.term.clear_tabs(mode);
    }

    fn reset_state(&mut self) {
        let size = Size { cols: self.term.columns() as u16, rows: self.term.screen_lines() as u16 };
        self.shadow = Shadow::new(size);
        self.title = Some(String::new());
        self.term.reset_state();
    }

    fn set_private_mode(&mut self, mode: PrivateMode) {
        if mode == PrivateMode::Named(NamedPrivateMode::ColumnMode) {
            self.shadow.region = 0..self.term.screen_lines();
        }
        let before = self.keyboard_index();
        self.term.set_private_mode(mode);
        if self.keyboard_index() != before {
            // What an earlier use of the alternate screen saved is no part of this one, and no snapshot could tell it.
            self.term.save_cursor_position();
        }
    }

    fn unset_private_mode(&mut self, mode: PrivateMode) {
        if mode == PrivateMode::Named(NamedPrivateMode::ColumnMode) {
            self.shadow.region = 0..self.term.screen_lines();
        }
        self.term.unset_private_mode(mode);
    }

    fn set_scrolling_region(&mut self, top: usize, bottom: Option<usize>) {
        let lines = self.term.screen_lines();
        let bottom = bottom.unwrap_or(lines).min(lines);
        // A region that begins below the screen is refused here; the terminal would keep an empty one.
        if top >= 1 && top < bottom {
            self.shadow.region = top - 1..bottom;
            self.term.set_scrolling_region(top, Some(bottom));
        }
    }

    fn set_active_charset(&mut self, index: CharsetIndex) {
        self.shadow.charset = index;
        self.term.set_active_charset(index);
    }

    fn push_keyboard_mode(&mut self, mode: KeyboardModes) {
        let index = self.keyboard_index();
        let Some(stack) = self.shadow.keyboard.get_mut(index) else { return };
        stack.push(mode);
        if stack.len() <= KEYBOARD_DEPTH_MAX {
            return self.term.push_keyboard_mode(mode);
        }
        // The terminal cannot drop its oldest entry, so its stack is made anew.
        stack.remove(0);
        self.term.pop_keyboard_modes(u16::MAX);
        stack.iter().for_each(|mode| self.term.push_keyboard_mode(*mode));
    }

    fn pop_keyboard_modes(&mut self, count: u16) {
        let index = self.keyboard_index();
        if let Some(stack) = self.shadow.keyboard.get_mut(index) {
            stack.truncate(stack.len().saturating_sub(usize::from(count)));
        }
        self.term.pop_keyboard_modes(count);
    }

    fn identify_terminal(&mut self, intermediate: Option<char>) {
        match intermediate {
            None => self.reply(format_args!("\x1b[?6c")),
            Some('>') => self.reply(format_args!("\x1b[>0;276;0c")),
            Some(_) => {}
        }
    }

    fn device_status(&mut self, query: usize) {
        let at = self.term.grid().cursor.point;
        match query {
            5 => self.reply(format_args!("\x1b[0n")),
            6 => self.reply(format_args!("\x1b[{};{}R", at.line.0 + 1, at.column.0 + 1)),
            _ => {}
        }
    }

    fn report_mode(&mut self, mode: Mode) {
        let state = match mode {
            Mode::Named(NamedMode::Insert) => mode_state(self.term.mode().contains(TermMode::INSERT)),
            Mode::Named(NamedMode::LineFeedNewLine) => {
                mode_state(self.term.mode().contains(TermMode::LINE_FEED_NEW_LINE))
            }
            Mode::Unknown(_) => 0,
        };
        self.reply(format_args!("\x1b[{};{state}$y", mode.raw()));
    }

    fn report_private_mode(&mut self, mode: PrivateMode) {
        let state = match mode {
            PrivateMode::Named(named) => self.private_mode_state(named),
            PrivateMode::Unknown(_) => 0,
        };
        self.reply(format_args!("\x1b[?{};{state}$y", mode.raw()));
    }

    fn report_keyboard_mode(&mut self) {
        let stack = self.shadow.keyboard.get(self.keyboard_index());
        let mode = stack.and_then(|stack| stack.last()).map_or(0, |mode| mode.bits());
        self.reply(format_args!("\x1b[?{mode}u"));
    }

    fn dynamic_color_sequence(&mut self, _prefix: String, index: usize, _terminator: &str) {
        let Rgb { r, g, b } = theme(index);
        let value = format!("rgb:{r:02x}{r:02x}/{g:02x}{g:02x}/{b:02x}{b:02x}\x1b\\");
        match index {
            0..=255 => self.reply(format_args!("\x1b]4;{index};{value}")),
            256..=258 => self.reply(format_args!("\x1b]{};{value}", index - 246)),
            _ => {}
        }
    }

    fn text_area_size_chars(&mut self) {
        let (lines, columns) = (self.term.screen_lines(), self.term.columns());
        self.reply(format_args!("\x1b[8;{lines};{columns}t"));
    }
}
