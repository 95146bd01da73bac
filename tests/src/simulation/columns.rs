//! Of which type a column of a row is. sea-orm asks a mock for exactly that, and takes all else for NULL; SQLite
//! knows only integers, texts and blobs.

use longshore_schema::tables;
use rusqlite::types::ValueRef;
use sea_orm::{ColumnTrait, ColumnType, EntityTrait, Iterable, Value};
use std::sync::LazyLock;

/// Types that the tables have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    BigInt,
    Bool,
    Bytes,
    Double,
    Int,
    Json,
    SmallInt,
    Text,
    Uuid,
}

struct Table {
    name: String,
    columns: Vec<(String, Kind)>,
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    vec![
        table(tables::anchor::Entity),
        table(tables::claim::Entity),
        table(tables::history::Entity),
        table(tables::hold::Entity),
        table(tables::message_seen::Entity),
        table(tables::operation::Entity),
        table(tables::outbox::Entity),
        table(tables::pack::Entity),
        table(tables::pack_use::Entity),
        table(tables::place::Entity),
        table(tables::queue::Entity),
        table(tables::remains::Entity),
        table(tables::reservation::Entity),
        table(tables::site::Entity),
        table(tables::step::Entity),
        table(tables::tenant_user::Entity),
        table(tables::worker::Entity),
        table(tables::zone::Entity),
    ]
});

fn table<E: EntityTrait>(entity: E) -> Table {
    let columns = E::Column::iter().map(|it| {
        let def = it.def();
        let kind = match def.get_column_type() {
            ColumnType::BigInteger => Kind::BigInt,
            ColumnType::Boolean => Kind::Bool,
            ColumnType::Binary(_) | ColumnType::VarBinary(_) | ColumnType::Blob => Kind::Bytes,
            ColumnType::Double => Kind::Double,
            ColumnType::Integer => Kind::Int,
            ColumnType::Json | ColumnType::JsonBinary => Kind::Json,
            ColumnType::SmallInteger => Kind::SmallInt,
            ColumnType::String(_) | ColumnType::Text => Kind::Text,
            ColumnType::Uuid => Kind::Uuid,
            other => panic!("a column of {} is {other:?}", entity.table_name()),
        };
        (sea_orm::IdenStatic::as_str(&it).to_owned(), kind)
    });
    Table { name: entity.table_name().to_owned(), columns: columns.collect() }
}

/// Names and types of a statement's columns: those of the first table in it that has them all. `None`: it is
/// computed, and is what SQLite says.
pub(super) fn of(sql: &str, names: &[&str]) -> Vec<(String, Option<Kind>)> {
    let words: Vec<&str> = sql.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_')).collect();
    let kind = |table: &Table, name: &str| table.columns.iter().find(|it| it.0 == name).map(|it| it.1);
    let has_all = |table: &&Table| names.iter().all(|name| kind(table, name).is_some());
    let at = |table: &Table| words.iter().position(|it| *it == table.name);
    let from = TABLES.iter().filter(has_all).filter_map(|it| Some((at(it)?, it))).min_by_key(|it| it.0);
    names.iter().map(|name| ((*name).to_owned(), from.and_then(|it| kind(it.1, name)))).collect()
}

/// A value of that type; `None` if it isn't one.
pub(super) fn read(kind: Option<Kind>, value: ValueRef<'_>) -> Option<Value> {
    let null = value == ValueRef::Null;
    let integer = || value.as_i64().ok();
    let text = || value.as_str().ok();
    let read = match kind {
        None => match value {
            ValueRef::Null => Value::BigInt(None),
            ValueRef::Integer(it) => Value::BigInt(Some(it)),
            ValueRef::Real(it) => Value::Double(Some(it)),
            ValueRef::Text(_) => Value::String(Some(text()?.to_owned())),
            ValueRef::Blob(it) => Value::Bytes(Some(it.to_owned())),
        },
        Some(Kind::BigInt) => Value::BigInt(if null { None } else { Some(integer()?) }),
        Some(Kind::Bool) => Value::Bool(if null { None } else { Some(integer()? != 0) }),
        Some(Kind::Bytes) => Value::Bytes(if null { None } else { Some(value.as_blob().ok()?.to_owned()) }),
        Some(Kind::Double) => Value::Double(match value {
            ValueRef::Null => None,
            ValueRef::Integer(it) => Some(it as f64),
            _ => Some(value.as_f64().ok()?),
        }),
        Some(Kind::Int) => Value::Int(if null { None } else { Some(integer()?.try_into().ok()?) }),
        Some(Kind::Json) => Value::Json(if null { None } else { Some(serde_json::from_str(text()?).ok()?) }),
        Some(Kind::SmallInt) => Value::SmallInt(if null { None } else { Some(integer()?.try_into().ok()?) }),
        Some(Kind::Text) => Value::String(if null { None } else { Some(text()?.to_owned()) }),
        Some(Kind::Uuid) => Value::Uuid(if null { None } else { Some(uuid::Uuid::from_slice(value.as_blob().ok()?).ok()?) }),
    };
    Some(read)
}
