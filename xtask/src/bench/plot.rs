//! A bar for each tool and job, as SVG, in wall seconds: what a reader of `docs/performance.md` sees first.

use super::report::Report;
use std::fmt::Write;

const JOBS: [&str; 4] = ["full", "incremental", "unchanged", "restore"];
const TOOLS: [(&str, &str); 4] =
    [("longshore", "#0b6e99"), ("restic", "#c2703d"), ("rclone", "#8a8a8a"), ("nbdcopy | rclone", "#b9b9b9")];
const WIDTH: f64 = 430.0;
const BAR: f64 = 16.0;

/// The picture.
pub fn svg(report: &Report, title: &str) -> String {
    let bars = |job| TOOLS.iter().filter_map(move |tool| Some((tool, report.cost(job, tool.0)?.wall_s)));
    let most = JOBS.iter().flat_map(|job| bars(job)).map(|(_, wall)| wall).fold(1.0, f64::max);
    let (mut body, mut y) = (String::new(), 40.0);
    for job in JOBS {
        for (number, ((tool, colour), wall)) in bars(job).enumerate() {
            let (width, text) = (wall / most * WIDTH, y + BAR - 4.0);
            if number == 0 {
                let _ = writeln!(body, "<text x=\"8\" y=\"{text}\" font-weight=\"bold\">{job}</text>");
            }
            let _ = writeln!(
                body,
                "<text x=\"100\" y=\"{text}\">{tool}</text><rect x=\"215\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{text}\">{wall:.1} s</text>",
                BAR - 3.0,
                221.0 + width,
            );
            y += BAR;
        }
        y += 10.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"720\" height=\"{y}\" fill=\"#ffffff\"/>\n<text x=\"8\" y=\"22\" font-size=\"14\">{title}</text>\n{body}</svg>\n"
    )
}
