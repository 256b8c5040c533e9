//! The figures as an SVG that reads well on light and dark pages.

use std::fmt::Write;

use crate::kind::PeerKind;
use crate::panels::{Group, Panel, Scale, panels};
use crate::report::Report;
use crate::table::{origin, short};

const WIDTH: f64 = 1_000.0;
const MARGIN: f64 = 28.0;
const GAP: f64 = 36.0;
const PANEL: f64 = (WIDTH - 2.0 * MARGIN - GAP) / 2.0;
/// Left of the bars: the peers' names.
const NAMES: f64 = 154.0;
/// Right of the longest bar: its figures.
const FIGURES: f64 = 86.0;
const PLOT: f64 = PANEL - NAMES - FIGURES;
/// Height of what stands above everything, and above a panel's groups.
const HEAD: f64 = 76.0;
const PANEL_HEAD: f64 = 46.0;
/// Height of one peer's group, and of its two bars.
const GROUP: f64 = 27.0;
const BARS: (f64, f64) = (11.0, 6.0);
/// Below the groups: the scale's figures, and air.
const AXIS: f64 = 20.0;
const AIR: f64 = 26.0;

const STYLE: &str = "\
text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; font-size: 12px; fill: #1f2937 }
.page { fill: #ffffff }
.title { font-size: 20px; font-weight: 600 }
.panel { font-size: 14px; font-weight: 600 }
.note { font-size: 11px; fill: #6b7280 }
.ours { font-weight: 600 }
.grid { stroke: #e5e7eb; stroke-width: 1 }
.axis { stroke: #9ca3af; stroke-width: 1 }
.rexec { fill: #2563eb } .rexec-tcp { fill: #7c3aed } .other { fill: #94a3b8 }
.second { opacity: .5 }
.lost { fill: #b91c1c }
@media (prefers-color-scheme: dark) {
  text { fill: #e5e7eb } .page { fill: #0f172a } .note { fill: #9ca3af } .grid { stroke: #273449 } .axis { stroke: #64748b }
  .rexec { fill: #60a5fa } .rexec-tcp { fill: #a78bfa } .other { fill: #64748b } .lost { fill: #f87171 }
}
";

/// Draws a run.
pub(crate) fn draw(report: &Report) -> String {
    let panels = panels(report);
    let rows: Vec<_> = panels.chunks(2).collect();
    let height = HEAD + rows.iter().map(|row| row_height(row)).sum::<f64>() + MARGIN / 2.0;
    let mut svg = Svg::new(height);
    svg.text((MARGIN, 40.0), "title", "start", "Rexec beside its peers, in one run on one machine");
    svg.text((MARGIN, 60.0), "note", "start", &origin(report));
    let mut top = HEAD;
    for row in rows {
        for (column, panel) in row.iter().enumerate() {
            draw_panel(&mut svg, panel, (MARGIN + column as f64 * (PANEL + GAP), top));
        }
        top += row_height(row);
    }
    svg.finish()
}

fn row_height(row: &[Panel]) -> f64 {
    let longest = row.iter().map(|panel| panel.groups.len()).max().unwrap_or_default();
    PANEL_HEAD + longest as f64 * GROUP + AXIS + AIR
}

fn draw_panel(svg: &mut Svg, panel: &Panel, (left, top): (f64, f64)) {
    svg.text((left, top + 16.0), "panel", "start", &panel.title);
    svg.text((left, top + 33.0), "note", "start", panel.note);
    let ruler = Ruler::of(panel);
    let (zero, first) = (left + NAMES, top + PANEL_HEAD);
    let bottom = first + panel.groups.len() as f64 * GROUP;
    for tick in ruler.ticks() {
        let x = zero + ruler.length(tick);
        svg.line("grid", (x, first), (x, bottom));
        svg.text((x, bottom + 15.0), "note", "middle", &plain(tick));
    }
    svg.line("axis", (zero, first), (zero, bottom));
    for (number, group) in panel.groups.iter().enumerate() {
        draw_group(svg, group, &ruler, (zero, first + number as f64 * GROUP));
    }
}

fn draw_group(svg: &mut Svg, group: &Group, ruler: &Ruler, (zero, top): (f64, f64)) {
    let weight = if group.peer.is_rexec() { "ours" } else { "theirs" };
    svg.text((zero - 8.0, top + 17.0), weight, "end", group.peer.name());
    let Some((figure, second)) = group.figures else {
        svg.text((zero + 8.0, top + 17.0), "lost", "start", "session lost");
        return;
    };
    let thin = second.map_or(0.0, |_| BARS.1);
    let begin = top + (GROUP - BARS.0 - thin) / 2.0;
    let colour = colour(group.peer);
    let mut longest = ruler.length(figure);
    svg.bar(colour, (zero, begin), (longest, BARS.0));
    let mut text = short(figure);
    if let Some(second) = second {
        let length = ruler.length(second);
        svg.bar(&format!("{colour} second"), (zero, begin + BARS.0), (length, BARS.1));
        longest = longest.max(length);
        let _ = write!(text, " / {}", short(second));
    }
    svg.text((zero + longest + 6.0, top + 17.0), weight, "start", &text);
}

fn colour(peer: PeerKind) -> &'static str {
    match peer {
        PeerKind::Rexec => "rexec",
        PeerKind::RexecTcp => "rexec-tcp",
        PeerKind::Ssh | PeerKind::SshShared | PeerKind::SshReverse | PeerKind::Rathole | PeerKind::Mosh => {
            "other"
        }
    }
}

/// Figures as lengths.
#[derive(Debug)]
struct Ruler {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Ruler {
    fn of(panel: &Panel) -> Self {
        let all = panel.groups.iter().filter_map(|group| group.figures);
        let all: Vec<f64> = all.flat_map(|(first, second)| [Some(first), second]).flatten().collect();
        let largest = all.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let smallest = all.iter().copied().filter(|figure| *figure > 0.0).fold(largest, f64::min);
        match panel.scale {
            Scale::Linear => Self { scale: panel.scale, from: 0.0, to: largest },
            // A bar that begins where its figure is would not be seen.
            Scale::Logarithmic => {
                let from = 10f64.powf((smallest / 1.5).log10().floor());
                Self { scale: panel.scale, from, to: largest.max(from * 10.0) }
            }
        }
    }

    fn length(&self, figure: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => figure / self.to,
            Scale::Logarithmic => (figure / self.from).log10() / (self.to / self.from).log10(),
        };
        part.clamp(0.0, 1.0) * PLOT
    }

    /// Decades, or some four round figures.
    fn ticks(&self) -> Vec<f64> {
        let every = match self.scale {
            Scale::Logarithmic => {
                let decades = (self.to / self.from).log10().floor() as i32;
                return (0..=decades).map(|decade| self.from * 10f64.powi(decade)).collect();
            }
            Scale::Linear => round_step(self.to / 4.0),
        };
        (0..=(self.to / every).floor() as u32).map(|tick| f64::from(tick) * every).collect()
    }
}

/// 1, 2 or 5 and zeros, not below what is asked.
fn round_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|step| step * decade).into_iter().find(|step| *step >= least).unwrap_or(10.0 * decade)
}

/// Without digits that say nothing.
fn plain(figure: f64) -> String {
    let text = format!("{figure:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A drawing under way.
struct Svg {
    text: String,
}

impl Svg {
    fn new(height: f64) -> Self {
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             role=\"img\" aria-label=\"Rexec beside its peers\">\n<style>\n{STYLE}</style>\n"
        );
        let _ = writeln!(text, "<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>");
        Self { text }
    }

    fn text(&mut self, (x, y): (f64, f64), class: &str, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.text,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = writeln!(
            self.text,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let _ = writeln!(
            self.text,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        );
    }

    fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::sample;

    #[test]
    fn a_run_is_drawn_whole() {
        let svg = draw(&sample());
        let count = |part: &str| svg.matches(part).count();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(count("<text "), count("</text>"));
        assert_eq!(count(">session lost<"), 2, "of rexec once, of ssh -R always");
        let first = r#"<text class="ours" x="174.0" y="139.0" text-anchor="end">rexec</text>"#;
        assert!(svg.contains(first), "{svg}");
    }

    #[test]
    fn a_decade_is_as_long_as_the_next() {
        let ruler = Ruler { scale: Scale::Logarithmic, from: 0.1, to: 100.0 };
        let lengths = [0.1, 1.0, 10.0, 100.0].map(|figure| ruler.length(figure) / PLOT * 3.0);
        for (length, decades) in lengths.into_iter().zip([0.0, 1.0, 2.0, 3.0]) {
            assert!((length - decades).abs() < 1e-9, "{length} instead of {decades}");
        }
        assert_eq!(ruler.ticks().into_iter().map(plain).collect::<Vec<_>>(), ["0.1", "1", "10", "100"]);
    }

    #[test]
    fn figures_on_a_linear_scale_begin_at_zero() {
        let ruler = Ruler { scale: Scale::Linear, from: 0.0, to: 90.0 };
        assert_eq!(ruler.ticks(), [0.0, 50.0]);
        assert_eq!((ruler.length(0.0), ruler.length(90.0), ruler.length(1_000.0)), (0.0, PLOT, PLOT));
    }
}
