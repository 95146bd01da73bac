//! Plans of the questions' statements, as the product's own connections get them: for people, and what they read for a
//! test.

use super::questions::{self, explained};
use anyhow::{Context, Result};
use longshore_engine::database::Database;
use longshore_schema::ids::OperationId;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::Value;

/// What a plan of PostgreSQL read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The question and the statement.
    pub what: String,
    /// Tables that were read from their beginning to their end.
    pub scanned: Vec<String>,
    /// The most rows that one node of the plan read, those that it left out included.
    pub rows: f64,
}

/// The plan of every statement, as text, measured.
pub async fn plans(database: &Database, about: OperationId) -> Result<Vec<(String, String)>> {
    let mut plans = vec![];
    for (what, statement) in statements(database, about).await? {
        let sql = statement.sql.clone();
        let rows = database.read().query_all_raw(explained(statement, "ANALYZE, BUFFERS")).await.with_context(|| what.clone())?;
        let lines: Vec<String> = rows.iter().map(|it| it.try_get_by_index(0)).collect::<Result<_, _>>()?;
        plans.push((format!("{what}: {sql}"), lines.join("\n")));
    }
    Ok(plans)
}

/// What each statement reads on PostgreSQL.
pub async fn readings(database: &Database, about: OperationId) -> Result<Vec<Reading>> {
    let mut readings = vec![];
    for (what, statement) in statements(database, about).await? {
        let row = database.read().query_one_raw(explained(statement, "ANALYZE, FORMAT JSON")).await?.context("a plan")?;
        let plan: Value = row.try_get_by_index(0)?;
        let mut reading = Reading { what, scanned: vec![], rows: 0.0 };
        reading.add(&plan[0]["Plan"]);
        readings.push(reading);
    }
    Ok(readings)
}

/// How SQLite goes about each statement, a line for each table.
pub async fn sqlite_plans(database: &Database, about: OperationId) -> Result<Vec<(String, Vec<String>)>> {
    let mut plans = vec![];
    for (what, statement) in statements(database, about).await? {
        let rows = database.read().query_all_raw(explained(statement, "")).await?;
        let lines: Vec<String> = rows.iter().map(|it| it.try_get("", "detail")).collect::<Result<_, _>>()?;
        plans.push((what, lines));
    }
    Ok(plans)
}

async fn statements(database: &Database, about: OperationId) -> Result<Vec<(String, Statement)>> {
    let mut all = vec![];
    for (what, question) in questions::all() {
        let of = question.statements(database, about).await.with_context(|| what)?;
        all.extend(of.into_iter().map(|(part, statement)| (format!("{what}, {part}"), statement)));
    }
    Ok(all)
}

impl Reading {
    /// Adds a node and those below it.
    fn add(&mut self, node: &Value) {
        let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
        let left_out = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
        self.rows = self.rows.max((number("Actual Rows") + left_out) * number("Actual Loops").max(1.0));
        if node["Node Type"] == "Seq Scan" {
            self.scanned.push(node["Relation Name"].as_str().unwrap_or_default().to_owned());
        }
        node["Plans"].as_array().into_iter().flatten().for_each(|it| self.add(it));
    }
}
