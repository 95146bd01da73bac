//! The books: what each place's row says is reserved, used and promised, beside the sums of the rows that it stands for.
//! The ledger keeps them equal in every commit; here somebody else adds them up.

use anyhow::Context;
use sea_orm::{ConnectionTrait, FromQueryResult, Statement};
use serde::Serialize;
use std::fmt;

/// Every place with its row's totals and the sums. One statement, so that all of it is of one moment; every table is
/// read once, however many places there are.
pub const SUMS: &str = "\
    WITH held AS MATERIALIZED (SELECT place_id, CAST(sum(bytes_reserved) AS BIGINT) AS reserved, \
    CAST(sum(bytes_used) AS BIGINT) AS used, CAST(sum(physical) AS BIGINT) AS physical FROM reservation GROUP BY place_id), \
    packed AS MATERIALIZED (SELECT place_id, CAST(sum(bytes) AS BIGINT) AS bytes FROM pack GROUP BY place_id), \
    remaining AS MATERIALIZED (SELECT place_id, CAST(sum(bytes) AS BIGINT) AS bytes FROM remains GROUP BY place_id) \
    SELECT p.name, p.role, p.reserved, p.used, p.promised, coalesce(h.reserved, 0) AS sum_reserved, \
    coalesce(h.used, 0) + coalesce(k.bytes, 0) + coalesce(m.bytes, 0) AS sum_used, coalesce(h.physical, 0) AS sum_promised \
    FROM place p LEFT JOIN held h ON h.place_id = p.id LEFT JOIN packed k ON k.place_id = p.id \
    LEFT JOIN remaining m ON m.place_id = p.id";

/// A place's totals, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromQueryResult)]
pub struct Books {
    /// The place.
    pub name: String,
    /// `pool store staging`.
    pub role: String,
    /// Booked and not yet used, as its row says.
    pub reserved: i64,
    /// Used, as its row says.
    pub used: i64,
    /// Granted and not yet in a measurement, as its row says.
    pub promised: i64,
    /// All reservations' bytes that aren't used.
    pub sum_reserved: i64,
    /// All objects, packs and remains.
    pub sum_used: i64,
    /// All reservations' bytes that aren't measured.
    pub sum_promised: i64,
}

impl Books {
    /// Whether the row's totals are the sums.
    pub fn agree(&self) -> bool {
        (self.reserved, self.used, self.promised) == (self.sum_reserved, self.sum_used, self.sum_promised)
    }
}

/// What doesn't agree, in words.
impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = [
            ("reserved", self.reserved, self.sum_reserved),
            ("used", self.used, self.sum_used),
            ("promised", self.promised, self.sum_promised),
        ];
        let wrong = totals.iter().filter(|(_, row, sum)| row != sum);
        let wrong: Vec<_> = wrong.map(|(what, row, sum)| format!("{what} is {row} B and its rows make {sum} B")).collect();
        write!(f, "{} {}: {}", self.role, self.name, if wrong.is_empty() { "agrees".to_owned() } else { wrong.join(", ") })
    }
}

/// The books of all places, by name. It reads every reservation and pack.
pub async fn read(db: &impl ConnectionTrait) -> anyhow::Result<Vec<Books>> {
    let statement = Statement::from_string(db.get_database_backend(), format!("{SUMS} ORDER BY p.name"));
    Books::find_by_statement(statement).all(db).await.context("read the books")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_with_both_numbers() {
        let mut books = Books {
            name: "main".into(),
            role: "store".into(),
            reserved: 1,
            used: 2,
            promised: 3,
            sum_reserved: 1,
            sum_used: 2,
            sum_promised: 3,
        };
        assert!(books.agree());
        books.used = 5;
        assert!(!books.agree());
        assert_eq!(books.to_string(), "store main: used is 5 B and its rows make 2 B");
    }
}
