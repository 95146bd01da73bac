//! The statements that copy rows of templates: of each table, which columns a copy has of its own.

use super::generate::Rows;
use longshore_schema::tables::{history, message_seen, operation, pack, pack_use, reservation, step};
use sea_orm::{IdenStatic, Iterable};

/// A table, and what its copies don't take over: columns, each with an expression over `o`, the template's operation,
/// and `t`, its row.
pub(super) struct Table {
    pub(super) name: &'static str,
    columns: Vec<&'static str>,
    own: Vec<(&'static str, &'static str)>,
    joined_on: &'static str,
    slim: &'static str,
}

/// Numbers to ids, times and digests: the same in every statement, so that rows of one operation find each other.
pub(super) fn functions(first: i64, step: i64) -> String {
    let function =
        |head: &str, body: &str| format!("CREATE FUNCTION growth.{head} LANGUAGE sql IMMUTABLE AS $$ SELECT {body} $$;");
    [
        function("moment(n bigint) RETURNS bigint", &format!("{first} + n * {step}")),
        // A UUIDv7: 48 bits of milliseconds, version, variant, and what tells it from others.
        function(
            "id(n bigint) RETURNS uuid",
            "(lpad(to_hex(growth.moment(n) / 1000), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' \
             || substr(md5(n::text), 4, 15))::uuid",
        ),
        function("digest(n bigint, seq bigint) RETURNS bytea", "sha256(decode(lpad(to_hex(n * 1000 + seq), 16, '0'), 'hex'))"),
        function("tenant(n bigint) RETURNS text", "CASE WHEN n % 2 = 0 THEN 't0' ELSE 't' || (1 + n / 2 % 199) END"),
        function("person(n bigint) RETURNS text", "'u' || n % 500"),
    ]
    .concat()
}

/// Everything that the product keeps of an operation that is over.
pub(super) fn tables() -> [Table; 7] {
    [
        Table {
            own: vec![
                ("id", "growth.id(n)"),
                ("zone", "'z' || n % 5"),
                ("tenant", "growth.tenant(n)"),
                ("user_name", "growth.person(n)"),
                ("subject", "left(t.subject, 0) || 'fast/volume' || n % 100000"),
                ("deadline", "t.deadline - o.created_at + growth.moment(n)"),
                ("holders", "0"),
                ("needs_attention", "false"),
                ("digest", "growth.digest(n, t.version)"),
                ("created_at", "growth.moment(n)"),
                ("updated_at", "t.updated_at - o.created_at + growth.moment(n)"),
                ("last_used_at", "t.last_used_at - o.created_at + growth.moment(n)"),
            ],
            ..Table::of(operation::Entity, "t.id = o.id")
        },
        Table {
            own: vec![("operation_id", "growth.id(n)"), ("due_at", "NULL::bigint"), ("start_before", "NULL::bigint")],
            slim: "t.seq < 2",
            ..Table::of(step::Entity, "t.operation_id = o.id")
        },
        Table {
            own: vec![
                ("operation_id", "growth.id(n)"),
                ("at", "t.at - o.created_at + growth.moment(n)"),
                ("event", "replace(t.event, o.id::text, growth.id(n)::text)"),
                ("actor", "CASE WHEN t.actor LIKE 'user:%' THEN 'user:' || growth.person(n) ELSE t.actor END"),
                ("digest", "growth.digest(n, t.seq)"),
            ],
            slim: "t.seq <= 4",
            ..Table::of(history::Entity, "t.operation_id = o.id")
        },
        Table {
            own: vec![
                ("tenant", "growth.tenant(n)"),
                ("user_name", "growth.person(n)"),
                ("message_id", "growth.id(n)::text"),
                ("digest", "growth.digest(n, 0)"),
                ("reply", "replace(t.reply::text, o.id::text, growth.id(n)::text)::jsonb"),
                ("at", "growth.moment(n)"),
            ],
            ..Table::of(message_seen::Entity, "t.message_id = o.id::text")
        },
        Table { own: vec![("operation_id", "growth.id(n)")], ..Table::of(reservation::Entity, "t.operation_id = o.id") },
        Table {
            own: vec![
                ("id", "replace(t.id, o.id::text, growth.id(n)::text)"),
                ("operation_id", "growth.id(n)"),
                ("uses", "1"),
                ("state", "'live'"),
                ("not_before", "NULL::bigint"),
            ],
            ..Table::of(pack::Entity, "t.operation_id = o.id")
        },
        Table {
            own: vec![("object_id", "growth.id(n)"), ("pack_id", "replace(t.pack_id, o.id::text, growth.id(n)::text)")],
            ..Table::of(pack_use::Entity, "t.object_id = o.id")
        },
    ]
}

impl Table {
    fn of<E: sea_orm::EntityTrait>(_: E, joined_on: &'static str) -> Table {
        let columns = E::Column::iter().map(|it| it.as_str()).collect();
        Table { name: E::default().table_name(), columns, own: vec![], joined_on, slim: "true" }
    }

    /// The statement that copies the rows of operations `first` to `last`.
    pub(super) fn copy(&self, rows: Rows, first: u64, last: u64) -> String {
        let value = |column: &&str| match self.own.iter().find(|it| it.0 == *column) {
            Some((_, own)) => (*own).to_owned(),
            None if rows == Rows::Slim && (self.name, *column) == ("operation", "plan") => "t.plan - 'steps'".to_owned(),
            None if rows == Rows::Slim && (self.name, *column) == ("operation", "version") => "least(t.version, 4)".to_owned(),
            None => format!("t.{column}"),
        };
        let values: Vec<String> = self.columns.iter().map(value).collect();
        let only = if rows == Rows::Slim { self.slim } else { "true" };
        // Every hundred has all slots, each hundred in another order than the one before: 37 and 100 have no common divisor.
        format!(
            "INSERT INTO public.{0} ({1}) SELECT {2} FROM generate_series({first}::bigint, {last}::bigint) AS n \
             JOIN growth.slot AS s ON s.slot = (n * 37 + n / 100) % 100 JOIN growth.operation AS o ON o.id = s.operation_id \
             JOIN growth.{0} AS t ON {3} WHERE {only}",
            self.name,
            self.columns.join(", "),
            values.join(", "),
            self.joined_on,
        )
    }
}
