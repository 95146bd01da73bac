//! Operations and their history, page by page.

use super::{
    App,
    parameters::{Asked, Parameters},
    refusal::Refusal,
};
use crate::audit::{self, Filter, OperationView};
use axum::{
    Json,
    extract::{Path, State},
};
use longshore_schema::{fault::code, ids::OperationId};
use serde_json::{Value, json};
use std::{str::FromStr, sync::Arc};

const STATES: &[&str] = &["allocated", "copying", "ready", "destroying", "destroyed", "failed"];

/// `{"operations": […], "next"}`, the newest first; `next` is the `after` of the page that follows, null on the last one.
pub(super) async fn list(State(app): State<Arc<App>>, asked: Asked) -> Result<Json<Value>, Refusal> {
    let asked = Parameters::read(asked, &["after", "kind", "limit", "state", "tenant", "zone"])?;
    let limit = asked.limit()?;
    let state = asked.text("state");
    if let Some(state) = state.as_deref().filter(|it| !STATES.contains(it)) {
        return Err(Refusal::malformed(format!("no state `{state}`; there are {}", STATES.join(", "))));
    }
    let filter = Filter {
        state,
        kind: asked.text("kind"),
        zone: asked.text("zone"),
        tenant: asked.text("tenant"),
        after: asked.parsed("after", "the id of an operation")?,
        limit: Some(limit),
    };
    let page = audit::list(app.database.read(), &filter).await?;
    let next = page.last().filter(|_| page.len() as u64 == limit).map(|it| it.id);
    Ok(Json(json!({"operations": page, "next": next})))
}

/// One operation.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Json<OperationView>, Refusal> {
    Parameters::read(asked, &[])?;
    let found = match OperationId::from_str(&id) {
        Ok(known) => audit::show(app.database.read(), known).await?,
        Err(_) => None,
    };
    found.map(Json).ok_or_else(|| unknown(&id))
}

/// `{"history": […], "next"}`, the oldest first; `next` is the `after` of the page that follows, null on the last one.
pub(super) async fn history(State(app): State<Arc<App>>, Path(id): Path<String>, asked: Asked) -> Result<Json<Value>, Refusal> {
    let asked = Parameters::read(asked, &["after", "limit"])?;
    let limit = asked.limit()?;
    let after = asked.parsed("after", "the number of an event")?.unwrap_or(0);
    let known = OperationId::from_str(&id).map_err(|_| unknown(&id))?;
    let page = audit::history(app.database.read(), known, after, limit).await?;
    // An operation has a first event from its first moment on.
    if page.is_empty() && audit::show(app.database.read(), known).await?.is_none() {
        return Err(unknown(&id));
    }
    let next = page.last().filter(|_| page.len() as u64 == limit).map(|it| it.seq);
    Ok(Json(json!({"history": page, "next": next})))
}

fn unknown(id: &str) -> Refusal {
    Refusal::not_found(code::OPERATION_UNKNOWN, format!("there is no operation {id}"))
}
