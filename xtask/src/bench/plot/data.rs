//! A bar for each tool and job, in wall seconds.

use super::{Drawing, GREY, Look, OTHER, OURS};
use crate::bench::report::Report;

const JOBS: [&str; 4] = ["full", "incremental", "unchanged", "restore"];
const TOOLS: [(&str, &str); 4] = [("longshore", OURS), ("restic", OTHER), ("rclone", GREY), ("nbdcopy | rclone", "#b9b9b9")];

/// The picture.
pub fn drawing(report: &Report, title: &str) -> Drawing {
    let bars = |job| TOOLS.iter().filter_map(move |tool| Some((tool, report.cost(job, tool.0)?.wall_s)));
    let most = JOBS.iter().flat_map(|job| bars(job)).map(|(_, wall)| wall).fold(1.0, f64::max);
    let mut drawing = Drawing::new(title, (100.0, 215.0));
    for job in JOBS {
        for (number, ((tool, colour), wall)) in bars(job).enumerate() {
            if number == 0 {
                drawing.group(job);
            }
            drawing.bar(tool, wall / most, &format!("{wall:.1} s"), Look::Filled(colour));
        }
        drawing.gap();
    }
    drawing
}
