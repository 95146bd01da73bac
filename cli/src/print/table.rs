//! Tables: no borders, so that a cell can be copied and a line can be cut. On a terminal they fit its width, by wrapping
//! texts between words; ids and numbers are never cut. Elsewhere each row is one line, however long.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use longshore_schema::text::printable;
use unicode_width::UnicodeWidthStr;

/// Words up to so long stay whole: an id has 36 characters.
const WORD: usize = 40;
/// Between two columns.
const GAP: usize = 2;
/// Before texts that stand below their row.
const INDENT: &str = "    ";

/// A table with a header; without one if it names no column.
pub(crate) fn new(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    // Colours around the blanks of a cell would keep those at a line's ends from being taken off.
    table.style_text_only();
    if !header.is_empty() {
        table.set_header(header.iter().map(|it| Cell::new(it.to_uppercase()).add_attribute(Attribute::Dim)));
    }
    table
}

/// A text, which may come from anywhere.
pub(crate) fn cell(text: impl ToString) -> Cell {
    Cell::new(printable(&text.to_string()))
}

/// A number, at the right.
pub(crate) fn right(text: impl ToString) -> Cell {
    cell(text).set_alignment(CellAlignment::Right)
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
    cell(text).fg(colour)
}

/// The table as text. The columns `texts`, counted from 0, are wrapped where a terminal is too narrow for all.
pub(crate) fn text(table: Table, texts: &[usize]) -> String {
    match table.width() {
        // Some terminals don't know how wide they are.
        Some(width) if width > 0 => fit(table, texts, width.into()),
        Some(_) | None => lines(&table).join("\n"),
    }
}

fn fit(mut table: Table, texts: &[usize], width: usize) -> String {
    let natural: Vec<usize> = table.column_max_content_widths().into_iter().map(usize::from).collect();
    let gaps = GAP * natural.len().saturating_sub(1);
    if natural.iter().sum::<usize>() + gaps <= width {
        return lines(&table).join("\n");
    }
    let whole: usize = natural.iter().enumerate().filter(|(n, _)| !texts.contains(n)).map(|(_, it)| it).sum();
    let least: Vec<usize> = texts.iter().map(|n| longest_word(&table, *n).min(WORD)).collect();
    let room = width.saturating_sub(whole + gaps);
    if least.iter().sum::<usize>() > room {
        return below(table, texts, width);
    }
    let wanted: Vec<usize> = texts.iter().map(|n| natural[*n]).collect();
    for (n, share) in texts.iter().zip(shares(room, least, &wanted)) {
        limit(&mut table, *n, share);
    }
    lines(&table).join("\n")
}

/// Each row without its texts, and they below it: on one line, or each on lines of its own.
fn below(mut table: Table, texts: &[usize], width: usize) -> String {
    for n in texts {
        table.column_mut(*n).map(|it| it.set_constraint(ColumnConstraint::Hidden));
    }
    let room = width.saturating_sub(INDENT.len()).max(1);
    let mut rows = lines(&table).into_iter();
    let mut told: Vec<String> = rows.by_ref().take(table.header().iter().count()).collect();
    for (line, row) in rows.zip(table.row_iter()) {
        told.push(line);
        let cells = row.cell_iter().enumerate().filter(|(n, _)| texts.contains(n)).map(|(_, it)| it.content());
        let mut cells: Vec<_> = cells.filter(|it| !it.is_empty()).collect();
        let together = cells.join(&" ".repeat(GAP));
        if !together.contains('\n') && together.width() <= room {
            cells = vec![together];
        }
        for text in cells.into_iter().filter(|it| !it.is_empty()) {
            let mut alone = new(&[]);
            alone.add_row([Cell::new(text)]);
            limit(&mut alone, 0, room);
            told.extend(lines(&alone).iter().map(|it| format!("{INDENT}{it}")));
        }
    }
    told.join("\n")
}

/// Shares of the room: nobody gets less than the least, or more than he wants; who has little gets more first.
fn shares(room: usize, least: Vec<usize>, wanted: &[usize]) -> Vec<usize> {
    let mut shares = least;
    for _ in shares.iter().sum()..room {
        let hungry = shares.iter_mut().zip(wanted).filter(|(share, wanted)| **share < **wanted);
        match hungry.min_by_key(|(share, _)| **share) {
            Some((share, _)) => *share += 1,
            None => break,
        }
    }
    shares
}

/// A column is at most so wide, without its gap.
fn limit(table: &mut Table, column: usize, width: usize) {
    let width = u16::try_from(width + GAP).unwrap_or(u16::MAX);
    table.column_mut(column).map(|it| it.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width))));
}

fn longest_word(table: &Table, column: usize) -> usize {
    let cells = table.column_cells_with_header_iter(column).flatten().map(Cell::content);
    cells.flat_map(|it| it.split_whitespace().map(UnicodeWidthStr::width).collect::<Vec<_>>()).max().unwrap_or(0)
}

/// Lines without the blanks at their ends.
fn lines(table: &Table) -> Vec<String> {
    table.lines().map(|it| it.trim_end().to_owned()).map(|it| it.strip_prefix(' ').map(str::to_owned).unwrap_or(it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01a20deb-2358-7087-9769-e28115a339c8";

    fn table(what: &str, doing: &str) -> Table {
        let mut table = new(&["id", "state", "what", "doing", "bytes"]);
        table.force_no_tty();
        table.add_row([cell(ID), state("ready", false), cell(what), cell(doing), right(12)]);
        table
    }

    #[test]
    fn a_table_is_plain_text_with_whole_lines_where_there_is_no_terminal() {
        let mut table = new(&["id", "state", "bytes"]);
        table.force_no_tty();
        table.add_row([cell("a"), state("ready", false), right(12)]);
        assert_eq!(text(table, &[]), "ID  STATE  BYTES\na   ready     12");
        let long = "word ".repeat(1000);
        let told = text(self::table(&long, ""), &[2, 3]);
        assert!(told.lines().count() == 2 && told.contains(long.trim_end()), "{told}");
    }

    #[test]
    fn on_a_terminal_it_is_no_wider_and_loses_nothing() {
        let wide = "映像".repeat(100);
        let names = ["x".repeat(200), wide, "a\x1b[2J\n\u{202e}b ".repeat(20), format!("{ID} -> fast/disk"), String::new()];
        for width in [60, 61, 80, 100, 132, 200, 1000] {
            for what in &names {
                for doing in ["", "waits: store main has 12 MiB left of 1 GiB; 40 MiB needed"] {
                    let told = fit(table(what, doing), &[2, 3], width);
                    assert!(told.lines().all(|it| it.width() <= width), "{width}\n{told}");
                    assert!(told.lines().any(|it| it.starts_with(ID)), "{width}\n{told}");
                    assert!(!told.chars().any(|it| it != '\n' && it.is_control()) && !told.contains('\u{202e}'), "{told}");
                    let letters = |text: &str| text.chars().filter(|it| !it.is_whitespace()).count();
                    let all = "IDSTATEWHATDOINGBYTES".len() + ID.len() + "ready12".len();
                    let below = if told.contains("WHAT") { 0 } else { "WHATDOING".len() };
                    assert_eq!(letters(&told), all - below + letters(&printable(what)) + letters(doing), "{width}\n{told}");
                }
            }
        }
    }

    #[test]
    fn an_id_in_a_text_is_never_split() {
        for width in 60..200 {
            let told = fit(table(&format!("{ID} -> {}", "y".repeat(200)), "object.copy 12 %"), &[2, 3], width);
            assert_eq!(told.matches(ID).count(), 2, "{width}\n{told}");
        }
    }

    #[test]
    fn what_is_left_goes_to_who_has_least() {
        assert_eq!(shares(10, vec![1, 4], &[100, 100]), [5, 5]);
        assert_eq!(shares(10, vec![1, 4], &[2, 100]), [2, 8]);
        assert_eq!(shares(10, vec![1, 1], &[2, 2]), [2, 2]);
    }
}
