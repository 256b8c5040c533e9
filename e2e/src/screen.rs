//! What a terminal shows: the bytes a viewer was given, put through a VT engine, as lines of text.

use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::term::{Config, Term};
use alacritty_terminal::vte::ansi::Processor;

/// More scrollback than the session host keeps.
const SCROLLBACK: usize = 20_000;

#[derive(Debug, Clone, Copy)]
struct Size {
    cols: usize,
    rows: usize,
}

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.rows
    }
    fn screen_lines(&self) -> usize {
        self.rows
    }
    fn columns(&self) -> usize {
        self.cols
    }
}

/// A terminal without a window.
pub struct Screen {
    term: Term<VoidListener>,
    parser: Processor,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Screen")
    }
}

impl Screen {
    /// An empty terminal.
    pub fn new(cols: u16, rows: u16) -> Self {
        let config = Config { scrolling_history: SCROLLBACK, ..Config::default() };
        let size = Size { cols: cols.into(), rows: rows.into() };
        Self { term: Term::new(config, &size, VoidListener), parser: Processor::new() }
    }

    /// Shows output.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.term, bytes);
    }

    /// Every line, scrollback first; blanks at the end of lines and blank lines at the end are left out, wrapped lines are joined.
    pub fn lines(&self) -> Vec<String> {
        let grid = self.term.grid();
        let mut lines = Vec::new();
        let mut joined = String::new();
        for line in grid.topmost_line().0..=grid.bottommost_line().0 {
            let row = &grid[Line(line)];
            let cells = (0..grid.columns()).map(|column| &row[Column(column)]);
            let shown = cells.filter(|cell| !cell.flags.intersects(Flags::WIDE_CHAR_SPACER));
            joined.extend(shown.map(|cell| cell.c));
            if !row[Column(grid.columns() - 1)].flags.contains(Flags::WRAPLINE) {
                lines.push(joined.trim_end().to_owned());
                joined.clear();
            }
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// Line and column of the cursor on the screen, from 0.
    pub fn cursor(&self) -> (i32, usize) {
        let point = self.term.grid().cursor.point;
        (point.line.0, point.column.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_scrolled_away_are_still_read() {
        let mut screen = Screen::new(10, 3);
        for number in 0..50 {
            screen.feed(format!("n{number}\r\n").as_bytes());
        }
        assert_eq!(screen.lines().len(), 50);
        assert_eq!(screen.lines().first().map(String::as_str), Some("n0"));
    }

    #[test]
    fn a_wrapped_line_is_one_line_and_a_wide_character_one_character() {
        let mut screen = Screen::new(10, 3);
        screen.feed("0123456789abc\r\n日本".as_bytes());
        assert_eq!(screen.lines(), ["0123456789abc", "日本"]);
    }
}
