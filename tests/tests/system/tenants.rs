//! Several users of one broker, who act for several tenants: whose message it is, and whose operation.

use crate::rig::{Options, Parts, Rig, backup_body, make_volume, noise, restore_body};
use longshore_courier::{Courier, Properties, embedded::Mischief};
use longshore_schema::{fault::code, ids::OperationId, wire::Reply};
use longshore_tests::services::unique;
use serde_json::{Value, json};

/// Who asks.
struct Other<'r> {
    rig: &'r Rig,
    control: &'r dyn Courier,
    user: &'r str,
}

fn properties(message_id: &str, tenant: Option<&str>) -> Properties {
    let headers = tenant.map(|it| ("tenant".to_owned(), it.to_owned())).into_iter().collect();
    Properties { message_id: Some(message_id.into()), headers, ..Properties::default() }
}

impl Other<'_> {
    async fn submit(&self, kind: &str, body: Value, properties: Properties) -> Reply {
        let properties = Properties { user_id: Some(self.user.to_owned()), ..properties };
        let reply = self.rig.send_by(self.control, kind, body.to_string(), properties).await;
        serde_json::from_value(reply).unwrap()
    }
}

/// It was accepted, and becomes Ready as an operation of that tenant.
async fn ready(rig: &Rig, reply: Reply, tenant: &str) -> OperationId {
    let id = reply.operation.unwrap_or_else(|| panic!("{tenant}: {:?}", reply.fault));
    assert_eq!(rig.in_state(id, "ready").await.tenant, tenant);
    id
}

fn refused(reply: Reply) -> String {
    assert!(!reply.accepted && reply.operation.is_none(), "{reply:?}");
    reply.fault.unwrap().code
}

pub(crate) async fn one_message_id_of_two_users_or_of_two_tenants_is_several_commands(parts: Parts) -> Mischief {
    let user = unique("user");
    let users = format!(
        "[[user]]\nname = \"longshore\"\ntenants = [\"t1\", \"t2\"]\n[[user]]\nname = \"{user}\"\ntenants = [\"t2\", \"t1\"]\n"
    );
    let rig = Rig::with(Options { users, ..Options::new(parts) }).await;
    make_volume(&rig.volume("disk"), "raw", &noise(1, 1 << 20));
    let control = rig.connect_as(&user).await;
    let other = Other { rig: &rig, control: &*control, user: &user };
    let (kind, body) = ("backup-snapshot", backup_body("disk", None));

    // The same body, under the same id.
    let ours = ready(&rig, rig.submit_with(kind, body.clone(), properties("one", Some("t1"))).await, "t1").await;
    let theirs = ready(&rig, other.submit(kind, body.clone(), properties("one", Some("t1"))).await, "t1").await;
    let elsewhere = ready(&rig, other.submit(kind, body.clone(), properties("one", Some("t2"))).await, "t2").await;
    assert!(ours != theirs && theirs != elsewhere && ours != elsewhere, "{ours}, {theirs}, {elsewhere}");
    // Each gets its own answer again. A message that names no tenant is another one than that which names the user's first.
    let again = rig.submit_with(kind, body.clone(), properties("one", Some("t1"))).await;
    assert_eq!((again.duplicate, again.operation), (true, Some(ours)));
    let unnamed = ready(&rig, other.submit(kind, body.clone(), properties("one", None)).await, "t2").await;
    for (tenant, wanted) in [(Some("t1"), theirs), (Some("t2"), elsewhere), (None, unnamed)] {
        let again = other.submit(kind, body.clone(), properties("one", tenant)).await;
        assert_eq!((again.duplicate, again.operation), (true, Some(wanted)), "{tenant:?}");
    }
    let another = other.submit(kind, backup_body("other", None), properties("one", Some("t2"))).await;
    assert_eq!(refused(another), code::COMMAND_ID_REUSED);
    let nobodys = other.submit(kind, body, properties("two", Some("t3"))).await;
    assert_eq!(refused(nobodys), code::COMMAND_NOT_ALLOWED);

    // An operation of another tenant is unknown, to requests and as an object; to another user of the same one it isn't.
    let named = json!({"operation": elsewhere});
    for request in ["cancel", "destroy"] {
        let reply = rig.submit_with(request, named.clone(), properties(&unique("message"), Some("t1"))).await;
        assert_eq!(refused(reply), code::OPERATION_UNKNOWN, "{request}");
    }
    let restore = restore_body(elsewhere, "new", "raw");
    let reply = rig.submit_with("create-volume", restore.clone(), properties(&unique("message"), Some("t1"))).await;
    assert_eq!(refused(reply), code::OPERATION_UNKNOWN);
    ready(&rig, rig.submit_with("create-volume", restore, properties(&unique("message"), Some("t2"))).await, "t2").await;
    let reply = rig.submit_with("destroy", named, properties(&unique("message"), Some("t2"))).await;
    assert!(reply.accepted, "{:?}", reply.fault);
    rig.in_state(elsewhere, "destroyed").await;
    control.close().await;
    rig.assert_clean().await;
    rig.end().await
}
