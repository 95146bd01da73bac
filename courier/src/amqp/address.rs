//! Where the broker is, and one attempt to connect to it. Nothing that is shown or logged holds the credentials.

use super::ANSWER_LIMIT;
use lapin::{Connection, ConnectionProperties, uri::AMQPUri};
use std::fmt;

/// Seconds between heartbeats, if the address asks for none: a broker that fell silent is noticed after two.
const HEARTBEAT: u16 = 10;

/// A broker's address with our name for the connection.
#[derive(Clone)]
pub(super) struct Address {
    uri: AMQPUri,
    name: String,
}

impl Address {
    /// Reads an `amqp://` or `amqps://` URL. The error doesn't repeat it: it may hold a password.
    pub(super) fn parse(url: &str, name: &str) -> anyhow::Result<Address> {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        anyhow::ensure!(matches!(scheme, Some("amqp" | "amqps")), "the broker's address must start with amqp:// or amqps://");
        // The parser takes an IPv6 address for no host at all, and would go to localhost.
        let host = url.rsplit_once('@').map_or(url, |(_, host)| host);
        anyhow::ensure!(!host.contains('['), "the broker's address must name its host, or give its IPv4 address");
        let mut uri: AMQPUri = url.parse().map_err(|_hides_the_password: String| {
            anyhow::anyhow!("the broker's address isn't a URL like amqp://user:password@host:5672/vhost")
        })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(Address { uri, name: name.into() })
    }

    /// Connects once.
    pub(super) async fn connect(&self, side: &str) -> anyhow::Result<Connection> {
        let properties = ConnectionProperties::default().with_connection_name(format!("{} ({side})", self.name).into());
        let connecting = Connection::connect_uri(self.uri.clone(), properties);
        match tokio::time::timeout(ANSWER_LIMIT, connecting).await {
            // Not as a source: its text holds its own source already.
            Ok(connected) => connected.map_err(|error| anyhow::anyhow!("connect to the broker at {self}: {error}")),
            Err(_) => anyhow::bail!("connect to the broker at {self}: no answer within {ANSWER_LIMIT:?}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority, vhost, .. } = &self.uri;
        write!(f, "{scheme}://{}:{} (vhost {vhost:?}, user {:?})", authority.host, authority.port, authority.userinfo.username)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_refused_without_repeating_it() {
        for wrong in [
            "http://u:hunter2@h/",
            "amqp:u:hunter2@h",
            "amqp://u:hunter2@h:99999/",
            "hunter2",
            "amqp://u:hunter2@[::1]/",
            "amqp://u:hunter2@h/?heartbeat=x",
            "amqp://u:hunter2@h/?auth_mechanism=hunter2",
        ] {
            let error = Address::parse(wrong, "test").expect_err(wrong);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        let address = Address::parse("amqps://cloud:hunter2@broker.example/%2f", "test").expect("a good address");
        assert_eq!(address.to_string(), r#"amqps://broker.example:5671 (vhost "/", user "cloud")"#);
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
