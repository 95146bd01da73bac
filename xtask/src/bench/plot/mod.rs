//! What the measurements draw, as SVG: rows of bars, and a line over two axes. What a reader of `docs/performance.md` sees
//! first.

pub mod data;
pub mod engine;
pub mod growth;

use crate::project::root;
use anyhow::{Context, Result};
use std::{fmt::Write, fs};

/// Of all drawings.
const WIDTH: f64 = 720.0;
/// From one bar to the next.
const BAR: f64 = 16.0;
/// Of the longest bar.
const LONGEST: f64 = 430.0;

/// Longshore.
pub const OURS: &str = "#0b6e99";
/// What it is compared with first.
pub const OTHER: &str = "#c2703d";
/// All else.
pub const GREY: &str = "#8a8a8a";

/// How a bar looks.
#[derive(Debug, Clone, Copy)]
pub enum Look {
    /// Measured in this run.
    Filled(&'static str),
    /// Known from elsewhere.
    Dashed,
}

/// A drawing that grows downwards.
#[derive(Debug)]
pub struct Drawing {
    title: String,
    body: String,
    y: f64,
    /// Where names of bars begin, and where bars do.
    columns: (f64, f64),
}

/// A line over two axes.
#[derive(Debug)]
pub struct Line {
    /// Written at its side.
    pub name: String,
    /// As SVG has it.
    pub colour: &'static str,
    /// From 0 to 1, across and upwards.
    pub points: Vec<(f64, f64)>,
}

impl Drawing {
    /// An empty one; names of bars begin at the first column, bars at the second.
    pub fn new(title: impl Into<String>, columns: (f64, f64)) -> Drawing {
        Drawing { title: title.into(), body: String::new(), y: 40.0, columns }
    }

    /// Words at the left, in the row of the next bar.
    pub fn group(&mut self, name: &str) {
        let y = self.y + BAR - 4.0;
        self.put(&format!("<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{name}</text>"));
    }

    /// A bar: `part` of the longest, from 0 to 1, and what stands at its end.
    pub fn bar(&mut self, name: &str, part: f64, says: &str, look: Look) {
        let (label, bars) = self.columns;
        let longest = LONGEST.min(WIDTH - bars - 110.0);
        let (width, y, text, height) = (part * longest, self.y, self.y + BAR - 4.0, BAR - 3.0);
        let style = match look {
            Look::Filled(colour) => format!("fill=\"{colour}\""),
            Look::Dashed => format!("fill=\"none\" stroke=\"{GREY}\" stroke-dasharray=\"4 3\""),
        };
        self.put(&format!(
            "<text x=\"{label}\" y=\"{text}\">{name}</text>\
             <rect x=\"{bars}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" {style}/>\
             <text x=\"{:.1}\" y=\"{text}\">{says}</text>",
            bars + 6.0 + width,
        ));
        self.y += BAR;
    }

    /// A line of words.
    pub fn words(&mut self, words: &str) {
        let y = self.y + BAR - 4.0;
        self.put(&format!("<text x=\"8\" y=\"{y}\" fill=\"#555555\">{words}</text>"));
        self.y += BAR;
    }

    /// Room below what is there.
    pub fn gap(&mut self) {
        self.y += 10.0;
    }

    /// Axes, with their lengths in words, and lines from 0 to 1 over them, each with its name and colour.
    pub fn lines(&mut self, across: (&str, &str), upwards: &str, lines: &[Line]) {
        const HEIGHT: f64 = 200.0;
        let (left, length, top) = (self.columns.1, WIDTH - self.columns.1 - 130.0, self.y + 6.0);
        let bottom = top + HEIGHT;
        self.put(&format!("<path d=\"M{left} {top} V{bottom} H{:.1}\" fill=\"none\" stroke=\"#333333\"/>", left + length));
        self.put(&format!("<text x=\"8\" y=\"{:.1}\">{upwards}</text>", top + 10.0));
        let (zero, end) = across;
        self.put(&format!("<text x=\"{left}\" y=\"{:.1}\">{zero}</text>", bottom + 14.0));
        self.put(&format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{end}</text>", left + length, bottom + 14.0));
        for (number, Line { name, colour, points }) in lines.iter().enumerate() {
            let points: Vec<String> =
                points.iter().map(|(x, y)| format!("{:.1},{:.1}", left + x * length, bottom - y * HEIGHT)).collect();
            self.put(&format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                points.join(" ")
            ));
            let y = top + 10.0 + number as f64 * BAR;
            self.put(&format!("<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{name}</text>", left + length + 8.0));
        }
        self.y = bottom + 24.0;
    }

    /// The drawing as a file's text.
    pub fn svg(self) -> String {
        let Drawing { title, body, y, .. } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"#ffffff\"/>\n\
             <text x=\"8\" y=\"22\" font-size=\"14\">{title}</text>\n{body}</svg>\n"
        )
    }

    /// Writes it to `docs/performance/NAME.svg`.
    pub fn write(self, name: &str) -> Result<()> {
        let folder = root().join("docs/performance");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, self.svg()).with_context(|| format!("write {}", path.display()))
    }

    fn put(&mut self, element: &str) {
        // Writing to a String can't fail.
        let _ = writeln!(self.body, "{element}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_lines_are_drawn_within_the_picture() {
        let mut drawing = Drawing::new("Title", (8.0, 215.0));
        drawing.group("group");
        drawing.bar("one", 1.0, "9 s", Look::Filled(OURS));
        drawing.bar("half", 0.5, "4 s", Look::Dashed);
        drawing.lines(
            ("0 s", "1 s"),
            "100 %",
            &[Line { name: "ours".into(), colour: OURS, points: vec![(0.0, 0.0), (1.0, 1.0)] }],
        );
        let svg = drawing.svg();
        assert!(svg.contains("width=\"395.0\"") && svg.contains("width=\"197.5\"") && svg.contains("stroke-dasharray"), "{svg}");
        assert!(svg.contains("points=\"215.0,278.0 590.0,78.0\""), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
