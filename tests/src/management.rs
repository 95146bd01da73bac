//! RabbitMQ's management interface: virtual hosts, users, permissions, and what is in a queue. HTTP/1.1 as far
//! as a local broker needs it: one request for each connection.

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One broker's interface, as its administrator.
#[derive(Debug, Clone)]
pub struct Management {
    server: String,
    user: String,
    authorization: String,
}

impl Management {
    /// The interface at `http://USER:PASSWORD@HOST:PORT`.
    pub fn at(url: &str) -> Management {
        let rest = url.strip_prefix("http://").expect("a management address begins with http://");
        let (login, server) = rest.split_once('@').expect("a management address names its user");
        let (user, _) = login.split_once(':').expect("a management address has a password");
        Management { server: server.into(), user: user.into(), authorization: BASE64_STANDARD.encode(login) }
    }

    /// Makes a virtual host where the administrator may do everything.
    pub async fn create_vhost(&self, vhost: &str) -> Result<()> {
        self.call("PUT", &format!("/api/vhosts/{vhost}"), Some(json!({}))).await?;
        self.permit(vhost, &self.user, [".*", ".*", ".*"]).await
    }

    /// Makes a user without any permission.
    pub async fn create_user(&self, user: &str, password: &str) -> Result<()> {
        let body = json!({"password": password, "tags": ""});
        self.call("PUT", &format!("/api/users/{user}"), Some(body)).await.map(drop)
    }

    /// What `user` may do in `vhost`: expressions over names for configure, write and read.
    pub async fn permit(&self, vhost: &str, user: &str, [configure, write, read]: [&str; 3]) -> Result<()> {
        let body = json!({"configure": configure, "write": write, "read": read});
        self.call("PUT", &format!("/api/permissions/{}/{user}", escape(vhost)), Some(body)).await.map(drop)
    }

    /// Closes every connection of a virtual host from the broker's side; how many there were.
    pub async fn close_connections(&self, vhost: &str) -> Result<usize> {
        let found = self.call("GET", &format!("/api/vhosts/{}/connections", escape(vhost)), None).await?;
        let connections = found.as_array().context("a list of connections")?;
        for connection in connections {
            let name = connection["name"].as_str().context("a connection's name")?;
            self.call("DELETE", &format!("/api/connections/{}", escape(name)), None).await?;
        }
        Ok(connections.len())
    }

    /// Calls any method of the interface. An answer without a body is null.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let body = body.map_or_else(String::new, |body| body.to_string());
        let mut stream = TcpStream::connect(&self.server).await.context("connect to the management interface")?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.server,
            self.authorization,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        let mut answer = vec![];
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8(answer)?;
        let (head, body) =
            answer.split_once("\r\n\r\n").with_context(|| format!("no HTTP answer to {method} {path}: {answer}"))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status.starts_with('2'), "{method} {path}: {head}\n{body}");
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            bail!("{method} {path}: a chunked answer");
        }
        if body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(body)?) }
    }
}

/// One part of a path.
fn escape(part: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    part.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_in_a_name_does_not_end_it() {
        assert_eq!(escape("/"), "%2F");
        assert_eq!(escape("127.0.0.1:5 -> é"), "127.0.0.1%3A5%20-%3E%20%C3%A9");
    }
}
