//! Tables: no borders, so that a cell can be copied and a line can be cut; widths follow the terminal.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

/// A table with a header.
pub(crate) fn new(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|it| Cell::new(it.to_uppercase()).add_attribute(Attribute::Dim)));
    table
}

/// A number, at the right.
pub(crate) fn right(text: impl ToString) -> Cell {
    Cell::new(text.to_string()).set_alignment(CellAlignment::Right)
}

/// A state in its colour, where there are colours.
pub(crate) fn state(name: &str, needs_attention: bool) -> Cell {
    let colour = match name {
        _ if needs_attention => Color::Red,
        "ready" => Color::Green,
        "failed" => Color::Red,
        "allocated" | "copying" => Color::Cyan,
        "destroying" => Color::Yellow,
        _ => Color::DarkGrey,
    };
    let text = if needs_attention { format!("{name} (!)") } else { name.to_owned() };
    Cell::new(text).fg(colour)
}

/// The table without the blanks at its lines' ends.
pub(crate) fn text(table: &Table) -> String {
    table.trim_fmt().lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_plain_text_where_there_is_no_terminal() {
        let mut table = new(&["id", "state", "bytes"]);
        table.force_no_tty();
        table.add_row([Cell::new("a"), state("ready", false), right(12)]);
        assert_eq!(text(&table), "ID  STATE  BYTES\na   ready     12");
    }
}
