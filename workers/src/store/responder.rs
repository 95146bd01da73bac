//! Answers HTTP requests as a test says: for what real services can't be made to do when a test wants it.

use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) line: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is(&self, method: &str) -> bool {
        self.line.starts_with(&format!("{method} "))
    }
}

/// What is sent back; then the connection is closed. Nothing at all is sent for an empty one.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let has_length = headers.iter().any(|(name, _)| *name == "content-length");
    let mut text = format!("HTTP/1.1 {status} Said\r\nconnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !has_length {
        text += &format!("content-length: {}\r\n", body.len());
    }
    format!("{text}\r\n{body}")
}

pub(super) struct Responder {
    pub(super) endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Responder {
    /// `script` makes the answer from the number of the request, counted from 0, and the request.
    pub(super) async fn start(script: impl Fn(usize, &Seen) -> String + Send + Sync + 'static) -> Responder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(vec![]));
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                loop {
                    let (mut connection, _) = listener.accept().await.unwrap();
                    let Some(request) = read(&mut connection).await else { continue };
                    let reply = {
                        let mut seen = seen.lock().unwrap();
                        let reply = script(seen.len(), &request);
                        seen.push(request);
                        reply
                    };
                    let _ = connection.write_all(reply.as_bytes()).await;
                    let _ = connection.shutdown().await;
                }
            }
        });
        Responder { endpoint, seen, task }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(connection: &mut TcpStream) -> Option<Seen> {
    let mut bytes = vec![];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break end;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        if connection.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { line, headers, body })
}
