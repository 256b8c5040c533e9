//! Colours, attributes and links: what a terminal's pen carries, said in as few bytes as change.
#![deny(clippy::disallowed_methods)]

use std::io::Write;

use alacritty_terminal::term::cell::{Cell, Flags, Hyperlink};
use alacritty_terminal::vte::ansi::{Color, NamedColor};

/// Flags that SGR sets; the others say where a character lies.
const ATTRIBUTES: Flags = Flags::INVERSE
    .union(Flags::BOLD_ITALIC)
    .union(Flags::DIM)
    .union(Flags::HIDDEN)
    .union(Flags::STRIKEOUT)
    .union(Flags::ALL_UNDERLINES);

/// The state of the terminal being painted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pen {
    fg: Color,
    bg: Color,
    attributes: Flags,
    underline: Option<Color>,
    link: Option<Hyperlink>,
}

impl Default for Pen {
    fn default() -> Self {
        Self::of(&Cell::default())
    }
}

impl Pen {
    fn of(cell: &Cell) -> Self {
        Self {
            fg: cell.fg,
            bg: cell.bg,
            attributes: cell.flags & ATTRIBUTES,
            underline: cell.underline_color(),
            link: cell.hyperlink(),
        }
    }

    /// Whether the cell was written with this pen; compares without copying, for most cells it was.
    fn wrote(&self, cell: &Cell) -> bool {
        self.fg == cell.fg
            && self.bg == cell.bg
            && self.attributes == cell.flags & ATTRIBUTES
            && (cell.extra.is_none() && self.underline.is_none() && self.link.is_none()
                || cell.extra.is_some()
                    && self.underline == cell.underline_color()
                    && self.link == cell.hyperlink())
    }

    /// Makes the painted terminal's pen that of `cell`.
    pub(super) fn change(&mut self, cell: &Cell, out: &mut Vec<u8>) {
        if self.wrote(cell) {
            return;
        }
        let new = Self::of(cell);
        if (self.fg, self.bg, self.attributes, self.underline)
            != (new.fg, new.bg, new.attributes, new.underline)
        {
            new.put_sgr(out);
        }
        if self.link != new.link {
            let _ = match &new.link {
                Some(link) => write!(out, "\x1b]8;id={};{}\x1b\\", link.id(), link.uri()),
                None => write!(out, "\x1b]8;;\x1b\\"),
            };
        }
        *self = new;
    }

    fn put_sgr(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\x1b[0");
        for (flag, code) in [
            (Flags::BOLD, &b";1"[..]),
            (Flags::DIM, b";2"),
            (Flags::ITALIC, b";3"),
            (Flags::UNDERLINE, b";4"),
            (Flags::DOUBLE_UNDERLINE, b";4:2"),
            (Flags::UNDERCURL, b";4:3"),
            (Flags::DOTTED_UNDERLINE, b";4:4"),
            (Flags::DASHED_UNDERLINE, b";4:5"),
            (Flags::INVERSE, b";7"),
            (Flags::HIDDEN, b";8"),
            (Flags::STRIKEOUT, b";9"),
        ] {
            if self.attributes.contains(flag) {
                out.extend_from_slice(code);
            }
        }
        put_color(self.fg, 38, out);
        put_color(self.bg, 48, out);
        match self.underline {
            Some(Color::Spec(rgb)) => {
                let _ = write!(out, ";58:2::{}:{}:{}", rgb.r, rgb.g, rgb.b);
            }
            Some(Color::Indexed(index)) => {
                let _ = write!(out, ";58:5:{index}");
            }
            Some(Color::Named(_)) | None => {}
        }
        out.push(b'm');
    }
}

/// One colour; `extended` is 38 for the foreground, 48 for the background.
fn put_color(color: Color, extended: usize, out: &mut Vec<u8>) {
    let _ = match color {
        Color::Spec(rgb) => write!(out, ";{extended};2;{};{};{}", rgb.r, rgb.g, rgb.b),
        Color::Indexed(index) => write!(out, ";{extended};5;{index}"),
        Color::Named(name) => match name as usize {
            ansi @ 0..8 => write!(out, ";{}", extended - 8 + ansi),
            bright @ 8..16 => write!(out, ";{}", extended + 52 + bright - 8),
            _ => Ok(()),
        },
    };
}

/// Whether the cell has a background of its own.
pub(super) fn has_background(cell: &Cell) -> bool {
    cell.bg != Color::Named(NamedColor::Background)
}

/// Whether the cell was written with the pen of a terminal just reset.
pub(super) fn is_plain(cell: &Cell) -> bool {
    Pen::default().wrote(cell)
}
