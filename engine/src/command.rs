//! Commands: idempotent by user and message id, planned from a reading of the world, or applied to an existing
//! operation. A command that is refused makes no operation; the refusal is remembered with its message id.

use crate::{
    database::Failed,
    journal::{
        rows::state_name,
        unit::{SeenKey, Standing, Unit},
    },
    machine::{Event, Operation, State},
    mutant::{self, Mutant},
    operation, request,
    world::Asked,
    world_read,
};
use longshore_schema::{
    fault::{Fault, code},
    ids::OperationId,
    tables::{claim, hold, message_seen, operation as operation_table, tenant_user},
    wire::{Reply, names},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, TryInsertResult, sea_query::Expr,
};
use serde_json::Value;

/// A command as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The routing key.
    pub kind: String,
    /// With the user and the tenant, as they are in the message, the idempotency key.
    pub message_id: String,
    /// The broker's user, checked by the broker; [`names::LOCAL_USER`] over the unix socket;
    /// [`names::ENGINE_USER`] for what the engine asks itself.
    pub user: String,
    /// The tenant that the user wants to act for.
    pub tenant: Option<String>,
    /// Where the reply goes.
    pub reply_to: Option<String>,
    /// Copied to the reply.
    pub correlation_id: Option<String>,
    /// 0 to 9.
    pub priority: u8,
    /// The body.
    pub body: Value,
}

/// Looks up together which commands of a batch were answered before.
pub async fn load(unit: &mut Unit<'_>, commands: &[&Command]) -> Result<(), Failed> {
    unit.look_up(commands.iter().map(|it| it.key()).collect()).await
}

impl Command {
    /// What tells messages apart: nothing that the site says, so that a message means the same whatever becomes of the site.
    fn key(&self) -> SeenKey {
        (self.tenant.clone().unwrap_or_default(), self.user.clone(), self.message_id.clone())
    }
}

/// Absorbs one command: the same message gets the same answer for ever. Only who may not ask is judged anew each time, as the
/// site may change.
pub async fn absorb(unit: &mut Unit<'_>, command: &Command) -> Result<Reply, Failed> {
    let digest = serde_json_canonicalizer::to_vec(&serde_json::json!([command.kind, command.body]))?;
    let digest = blake3::hash(&digest).as_bytes().to_vec();
    let tenant = match tenant_of(unit, command).await? {
        Ok(tenant) => tenant,
        Err(fault) => return Ok(answer(unit, command, refused(fault))),
    };
    let key = command.key();
    if let Some(seen) = unit.seen.get(&key).cloned().flatten() {
        if mutant::is(Mutant::DoCommandsAgain) {
            message_seen::Entity::delete_by_id(key.clone()).exec(unit.tx()).await?;
            unit.seen.insert(key, None);
            return Box::pin(absorb(unit, command)).await;
        }
        let reply = if seen.digest == digest || mutant::is(Mutant::IgnoreBodies) {
            Reply { duplicate: true, ..serde_json::from_value(seen.reply)? }
        } else {
            let why = format!("message id {} was used before with another body; use a new one", command.message_id);
            refused(Fault::permanent(code::COMMAND_ID_REUSED, why))
        };
        return Ok(answer(unit, command, reply));
    }
    let done = match request::find(&command.kind) {
        Some(request) => request::absorb(unit, request, command, &tenant).await?,
        None => accept(unit, command, &tenant).await?,
    };
    let reply = done.unwrap_or_else(refused);
    let (tenant, user_name, message_id) = key.clone();
    let seen =
        message_seen::Model { tenant, user_name, message_id, digest, reply: serde_json::to_value(&reply)?, at: unit.now().0 };
    unit.answered(key, seen);
    Ok(answer(unit, command, reply))
}

fn answer(unit: &mut Unit<'_>, command: &Command, reply: Reply) -> Reply {
    if let (Some(reply_to), Ok(body)) = (&command.reply_to, serde_json::to_value(&reply)) {
        unit.reply(reply_to, command.correlation_id.as_deref(), &body);
    }
    reply
}

/// A refusal.
pub fn refused(fault: Fault) -> Reply {
    Reply { accepted: false, operation: None, duplicate: false, state: None, waiting_for: None, fault: Some(fault) }
}

/// Without users in the site, everyone is the one tenant `default`.
async fn tenant_of(unit: &mut Unit<'_>, command: &Command) -> Result<Result<String, Fault>, Failed> {
    if command.user == names::ENGINE_USER {
        return Ok(Ok("default".into()));
    }
    let any = unit.has_users().await?;
    let local = command.user == names::LOCAL_USER;
    if !any || local {
        return Ok(Ok(command.tenant.clone().filter(|_| any || local).unwrap_or_else(|| "default".into())));
    }
    let users = tenant_user::Entity::find().filter(tenant_user::Column::UserName.eq(&command.user));
    let allowed = users.all(unit.tx()).await?;
    let found = match &command.tenant {
        Some(tenant) => allowed.iter().find(|it| it.tenant == *tenant),
        None => allowed.iter().find(|it| it.is_default),
    };
    Ok(found.map(|it| it.tenant.clone()).ok_or_else(|| not_allowed(command)))
}

fn not_allowed(command: &Command) -> Fault {
    let tenant = command.tenant.as_deref().unwrap_or("any tenant");
    let why = match command.user.as_str() {
        "" => {
            "the message has no user_id, and the site has users: set that property to the user that you logged in as".to_owned()
        }
        user => format!("user {user:?} may not act for {tenant}"),
    };
    Fault::permanent(code::COMMAND_NOT_ALLOWED, why)
}

/// Plans a new operation and lets it run until it waits for somebody.
async fn accept(unit: &mut Unit<'_>, command: &Command, tenant: &str) -> Result<Result<Reply, Fault>, Failed> {
    let id = OperationId::new();
    let asked = Asked { operation: id, tenant: tenant.to_owned(), at: unit.now() };
    let kind = match operation::find(&command.kind) {
        Ok(kind) => kind,
        Err(fault) => return Ok(Err(fault)),
    };
    let touches = match kind.touches(&command.body, tenant) {
        Ok(touches) => touches,
        Err(fault) => return Ok(Err(fault)),
    };
    let around = unit.surroundings().await?;
    let world = world_read::read(unit.tx(), around, touches).await?;
    let (plan, about) = match kind.plan(&command.body, &world, &asked) {
        Ok(planned) => planned,
        Err(fault) => return Ok(Err(fault)),
    };
    let now = unit.now().0;
    let deadline_s = Ord::min(about.deadline_s.unwrap_or(unit.config().deadline_s), 366 * 86_400);
    let row = operation_table::Model {
        id: id.0,
        kind: kind.name.to_owned(),
        zone: about.zone,
        tenant: tenant.to_owned(),
        user_name: Some(command.user.clone()),
        name: about.name,
        subject: about.subject,
        store: about.store,
        state: state_name(State::Allocated).to_owned(),
        end_state: None,
        waiting_for: None,
        waiting_place: None,
        waiting_bytes: 0,
        waiting_since: None,
        params: command.body.clone(),
        plan: serde_json::to_value(&plan)?,
        output: None,
        fault: None,
        priority: i16::from(Ord::min(command.priority, 9)),
        deadline: unit.now().plus_s(deadline_s).0,
        stop_requested: false,
        destroy_requested: false,
        needs_attention: false,
        holders: 0,
        version: 0,
        digest: vec![],
        created_at: now,
        updated_at: now,
        last_used_at: now,
    };
    if let Err(fault) = bind(unit, id, &plan.claims, &plan.uses).await? {
        return Ok(Err(fault));
    }
    unit.add(row, Operation::new(id, plan));
    if let Err(ignored) = unit.apply(id, Event::Accepted, &format!("user:{}", command.user)).await? {
        return Err(Failed::Internal(anyhow::anyhow!("a new operation: {ignored}")));
    }
    let loaded = unit.get(id).ok_or_else(|| Failed::Internal(anyhow::anyhow!("a new operation is lost")))?;
    if loaded.operation().state == State::Failed {
        // Nothing was done: the refusal is the answer, and there is no operation. What its end gave back stays so.
        let fault = loaded.operation().fault.clone();
        if !mutant::is(Mutant::KeepRefused) {
            unit.withdraw(id);
        }
        return Ok(Err(fault.unwrap_or_else(|| Fault::permanent(code::INTERNAL, "it failed at once"))));
    }
    Ok(Ok(Reply {
        accepted: true,
        operation: Some(id),
        duplicate: false,
        state: Some(state_name(loaded.operation().state).to_owned()),
        waiting_for: loaded.row().waiting_for.clone(),
        fault: None,
    }))
}

/// Takes claims and holds, all or nothing.
async fn bind(
    unit: &mut Unit<'_>,
    id: OperationId,
    claims: &[String],
    uses: &[OperationId],
) -> Result<Result<(), Fault>, Failed> {
    for resource in claims {
        let row = claim::ActiveModel { resource: Set(resource.clone()), operation_id: Set(id.0) };
        let inserted = claim::Entity::insert(row).on_conflict_do_nothing_on([claim::Column::Resource]);
        if !matches!(inserted.exec_without_returning(unit.tx()).await?, TryInsertResult::Inserted(1)) {
            if mutant::is(Mutant::RegrantClaims) {
                continue;
            }
            // A refusal is an answer, which is committed.
            claim::Entity::delete_many().filter(claim::Column::OperationId.eq(id.0)).exec(unit.tx()).await?;
            let owner = claim::Entity::find_by_id(resource.clone()).one(unit.tx()).await?;
            let owner = owner.map_or_else(|| "another operation".to_owned(), |it| format!("operation {}", it.operation_id));
            let what = resource.split_once(':').map_or(resource.as_str(), |(_, name)| name);
            return Ok(Err(Fault::transient(code::VOLUME_CLAIMED, format!("{owner} is at work on {what}")).retry_after(30)));
        }
    }
    for object in uses {
        let goes = || Failed::Conflict(format!("{object}, which is to be used, goes just now"));
        let standing = unit.standing(*object).await?;
        if standing == Some(Standing::Goes) && !mutant::is(Mutant::HoldWhatGoes) {
            return Err(goes());
        }
        let held = operation_table::Entity::update_many()
            .col_expr(operation_table::Column::Holders, Expr::col(operation_table::Column::Holders).add(1))
            .col_expr(operation_table::Column::LastUsedAt, Expr::val(unit.now().0))
            .filter(operation_table::Column::Id.eq(object.0));
        let held = match mutant::is(Mutant::HoldWhatGoes) || standing == Some(Standing::ReadyHere) {
            true => held,
            false => held
                .filter(operation_table::Column::State.eq("ready"))
                .filter(operation_table::Column::DestroyRequested.eq(false)),
        };
        if held.exec(unit.tx()).await?.rows_affected != 1 {
            // It was there when the plan was made: what is there now makes another plan, or says why there is none.
            return Err(goes());
        }
        unit.was_held(*object);
        let row = hold::Model { object_id: object.0, holder_id: id.0, kind: "use".into() };
        hold::Entity::insert(hold::ActiveModel::from(row).reset_all()).exec_without_returning(unit.tx()).await?;
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, database::Database, journal::memory::Memory};
    use futures::FutureExt;
    use longshore_schema::time::Timestamp;

    #[tokio::test]
    async fn what_went_since_it_was_planned_with_is_no_reason_to_refuse_but_to_plan_again() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&format!("sqlite://{}/longshore.db", folder.path().display())).await.unwrap();
        let bound = database.transact(|tx| {
            async move {
                let mut memory = Memory::default();
                let mut unit = Unit::new(tx, &mut memory, Config::default(), Timestamp(0));
                bind(&mut unit, OperationId::new(), &["anchor:fast/disk".to_owned()], &[OperationId::new()]).await
            }
            .boxed()
        });
        let bound = bound.await;
        assert!(matches!(bound, Err(Failed::Conflict(_))), "{bound:?}");
    }

    #[tokio::test]
    async fn a_message_without_a_user_is_told_so_where_the_site_has_users() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&format!("sqlite://{}/longshore.db", folder.path().display())).await.unwrap();
        let command = Command {
            kind: "destroy".into(),
            message_id: "m".into(),
            user: String::new(),
            tenant: None,
            reply_to: None,
            correlation_id: None,
            priority: 0,
            body: Value::Null,
        };
        let tenant = database.transact(|tx| {
            async move {
                let row = tenant_user::Model { user_name: "cloud1".into(), tenant: "red".into(), is_default: true };
                tenant_user::Entity::insert(tenant_user::ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
                let mut memory = Memory::default();
                let mut unit = Unit::new(tx, &mut memory, Config::default(), Timestamp(0));
                tenant_of(&mut unit, &command).await
            }
            .boxed()
        });
        let fault = tenant.await.unwrap().unwrap_err();
        assert!(fault.code == code::COMMAND_NOT_ALLOWED && fault.message.contains("user_id"), "{fault}");
    }
}
