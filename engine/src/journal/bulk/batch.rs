//! Rows for one statement, column by column for PostgreSQL and row by row for SQLite: each a form of its own, so that no
//! batch meets the other database's statement.
//!
//! PostgreSQL gets one array for each column, as text (<https://www.postgresql.org/docs/15/arrays.html#ARRAYS-IO>), since a
//! driver's arrays have no place for NULL. It reads them in a quarter of the time that it takes for JSON. SQLite gets a value for
//! each `?` of `VALUES (?, …), …`.

use super::columns::{Column, Kind};
use sea_orm::Value;
use std::fmt::Write;
use uuid::Uuid;

/// Rows of one shape, in a database's form.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Batch<F> {
    columns: &'static [Column],
    rows: usize,
    /// The column that is next.
    next: usize,
    cells: F,
}

/// How a database takes cells.
pub(in crate::journal) trait Form {
    /// None yet, of so many columns.
    fn empty(columns: usize) -> Self;

    /// The next cell, which is in that column: as text in an array, or as a value.
    fn push(&mut self, column: usize, array: impl FnOnce(&mut String), value: impl FnOnce() -> Value);
}

/// PostgreSQL's: an array for each column, without its last brace.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Arrays(Vec<String>);

impl Form for Arrays {
    fn empty(columns: usize) -> Arrays {
        Arrays(vec!["{".to_owned(); columns])
    }

    fn push(&mut self, column: usize, array: impl FnOnce(&mut String), _: impl FnOnce() -> Value) {
        let cells = &mut self.0[column];
        // No cell is without a character.
        if cells.len() > 1 {
            cells.push(',');
        }
        array(cells);
    }
}

/// SQLite's: a value for each cell, row by row.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Values(Vec<Value>);

impl Form for Values {
    fn empty(_: usize) -> Values {
        Values(vec![])
    }

    fn push(&mut self, _: usize, _: impl FnOnce(&mut String), value: impl FnOnce() -> Value) {
        self.0.push(value());
    }
}

impl<F: Form> Batch<F> {
    /// Without rows.
    pub(super) fn new(columns: &'static [Column]) -> Batch<F> {
        Batch { columns, rows: 0, next: 0, cells: F::empty(columns.len()) }
    }

    /// How many rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// An id.
    pub(super) fn id(&mut self, id: Uuid) -> &mut Batch<F> {
        self.cell(Kind::Id, |array| _ = write!(array, "{}", id.simple()), || Value::from(id))
    }

    /// A number.
    pub(super) fn int(&mut self, number: impl Into<i64>) -> &mut Batch<F> {
        self.int_if_any(Some(number.into()))
    }

    /// A number, or none.
    pub(super) fn int_if_any(&mut self, number: Option<i64>) -> &mut Batch<F> {
        let array = |array: &mut String| match number {
            Some(number) => _ = write!(array, "{number}"),
            None => array.push_str("NULL"),
        };
        self.cell(Kind::Int, array, || Value::from(number))
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, flag: bool) -> &mut Batch<F> {
        self.cell(Kind::Bool, |array| array.push(if flag { 't' } else { 'f' }), || Value::from(flag))
    }

    /// A text.
    pub(super) fn text(&mut self, text: &str) -> &mut Batch<F> {
        self.cell(Kind::Text, |array| quote(array, text), || Value::from(text))
    }

    /// A text, or none.
    pub(super) fn text_if_any(&mut self, text: Option<&str>) -> &mut Batch<F> {
        let array = |array: &mut String| match text {
            Some(text) => quote(array, text),
            None => array.push_str("NULL"),
        };
        self.cell(Kind::Text, array, || Value::from(text.map(str::to_owned)))
    }

    /// Bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Batch<F> {
        let array = |array: &mut String| {
            array.push_str("\"\\\\x");
            bytes.iter().for_each(|it| _ = write!(array, "{it:02x}"));
            array.push('"');
        };
        self.cell(Kind::Bytes, array, || Value::from(bytes.to_vec()))
    }

    /// JSON, as its text: its `null` is something else than none.
    pub(super) fn json(&mut self, value: Option<&serde_json::Value>) -> &mut Batch<F> {
        let text = value.map(serde_json::Value::to_string);
        let array = |array: &mut String| match &text {
            Some(text) => quote(array, text),
            None => array.push_str("NULL"),
        };
        self.cell(Kind::Json, array, || Value::from(text.clone()))
    }

    fn cell(&mut self, kind: Kind, array: impl FnOnce(&mut String), value: impl FnOnce() -> Value) -> &mut Batch<F> {
        debug_assert_eq!(self.columns[self.next].1, kind, "column {}", self.columns[self.next].0);
        self.cells.push(self.next, array, value);
        self.next += 1;
        if self.next == self.columns.len() {
            self.next = 0;
            self.rows += 1;
        }
        self
    }
}

impl Batch<Arrays> {
    /// The parameters of PostgreSQL's statement: an array for each column.
    pub(super) fn arrays(self) -> Vec<Value> {
        let close = |mut array: String| {
            array.push('}');
            Value::from(array)
        };
        self.cells.0.into_iter().map(close).collect()
    }
}

impl Batch<Values> {
    /// The parameters of SQLite's statements, each for as many rows as the first number says, of which the last are empty
    /// where there are no more.
    pub(super) fn chunks(self) -> Vec<(usize, Vec<Value>)> {
        let mut values = self.cells.0;
        let mut chunks = vec![];
        while !values.is_empty() {
            let rest = values.split_off(values.len().min(LARGEST * self.columns.len()));
            let rows = (values.len() / self.columns.len()).next_power_of_two();
            values.resize(rows * self.columns.len(), Value::String(None));
            chunks.push((rows, std::mem::replace(&mut values, rest)));
        }
        chunks
    }
}

/// The most rows in one statement of SQLite: a power of two. Each power up to it is prepared once for a table.
pub(super) const LARGEST: usize = 64;

fn quote(array: &mut String, text: &str) {
    array.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\\']) {
        array.push_str(&rest[..at]);
        array.push('\\');
        array.push_str(&rest[at..=at]);
        rest = &rest[at + 1..];
    }
    array.push_str(rest);
    array.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: &[Column] =
        &[("id", Kind::Id), ("n", Kind::Int), ("word", Kind::Text), ("body", Kind::Json), ("sum", Kind::Bytes)];

    fn filled<F: Form>(rows: usize) -> Batch<F> {
        let mut batch = Batch::<F>::new(SHAPE);
        for n in 0..rows {
            let word = (n % 2 == 0).then_some("a \"b\" \\ {c},\u{e4}");
            let body = serde_json::json!({"a": "\"\\"});
            batch.id(Uuid::nil()).int_if_any((n > 0).then_some(n as i64)).text_if_any(word).json(Some(&body)).bytes(&[0, 255]);
        }
        batch
    }

    #[test]
    fn postgres_gets_an_array_for_each_column() {
        let nil = "0".repeat(32);
        let body = r#""{\"a\":\"\\\"\\\\\"}""#;
        let wanted = [
            format!("{{{nil},{nil}}}"),
            "{NULL,1}".into(),
            "{\"a \\\"b\\\" \\\\ {c},\u{e4}\",NULL}".into(),
            format!("{{{body},{body}}}"),
            r#"{"\\x00ff","\\x00ff"}"#.into(),
        ];
        assert_eq!(filled::<Arrays>(2).arrays(), wanted.map(Value::from));
        assert_eq!(filled::<Arrays>(0).arrays(), vec![Value::from("{}"); 5]);
    }

    #[test]
    fn sqlite_gets_powers_of_two_with_empty_rows_at_the_end() {
        let sizes = |rows| filled::<Values>(rows).chunks().into_iter().map(|it| (it.0, it.1.len())).collect::<Vec<_>>();
        assert_eq!(sizes(0), []);
        assert_eq!(sizes(1), [(1, 5)]);
        assert_eq!(sizes(5), [(8, 40)]);
        assert_eq!(sizes(64), [(64, 320)]);
        assert_eq!(sizes(131), [(64, 320), (64, 320), (4, 20)]);
        let (_, values) = filled::<Values>(3).chunks().remove(0);
        assert!(values[15..].iter().all(|it| *it == Value::String(None)) && values[10] == Value::from(Uuid::nil()));
    }
}
