//! A proxy before an S3 server that does to requests what networks and overloaded stores do: it answers in the
//! server's place, cuts, loses, shortens, damages or holds back. It counts the bytes that it passes on. It passes `Host`
//! on as it came, which is what the client has signed, so the server believes the signatures. One request for each
//! connection.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A head that is longer is not HTTP's.
const LONGEST_HEAD: usize = 64 << 10;

/// The proxy. It ends with this.
#[derive(Debug)]
pub struct Proxy {
    /// Its address, to be used as the store's endpoint.
    pub endpoint: String,
    script: Arc<Script>,
    accepting: JoinHandle<()>,
}

/// What is done to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mischief {
    /// Answered in the server's place, which never hears of it: a status and S3's name for it.
    Answer(u16, &'static str),
    /// Half of its body is passed on, then both connections end.
    CutRequest,
    /// The server does it, and the connection ends instead of the answer.
    LoseAnswer,
    /// Half of the answer's body is sent, then the connection ends.
    CutAnswer,
    /// Half of the answer's body is sent, and announced as if it were all.
    ShortAnswer,
    /// One bit in the middle of the answer's body is another.
    FlipAnswer,
    /// Taken whole, and passed on when the proxy is told to behave; the client needn't be there any more.
    Hold,
    /// The same, unless the client is gone by then: what was on its way is lost with it.
    HoldForClient,
}

/// Which requests it is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Of this method; empty: of any.
    pub method: &'static str,
    /// With this in their path.
    pub part: &'static str,
    /// After so many that are let through.
    pub skip: usize,
    /// So many times.
    pub times: usize,
    /// Once it was done, it is done to everything.
    pub spreads: bool,
    /// What.
    pub what: Mischief,
}

#[derive(Debug)]
struct Script {
    server: SocketAddr,
    rules: Mutex<Vec<Rule>>,
    /// How often something was done.
    done: AtomicUsize,
    /// Method, path and bytes of every request that was passed on whole.
    passed: Mutex<Vec<(String, String, usize)>>,
    /// Changes when the proxy is told to behave.
    behaves: watch::Sender<()>,
}

impl Rule {
    /// For every request with this method and this in its path, until told otherwise.
    pub fn always(method: &'static str, part: &'static str, what: Mischief) -> Rule {
        Rule { method, part, skip: 0, times: usize::MAX, spreads: false, what }
    }
}

impl Proxy {
    /// Starts one before the server at `http://ADDRESS:PORT`. It behaves until it is told otherwise.
    pub async fn start(server: &str) -> Proxy {
        let server = server.strip_prefix("http://").and_then(|it| it.parse().ok()).expect("a server at http://ADDRESS:PORT");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound port"));
        let script = Arc::new(Script {
            server,
            rules: Mutex::default(),
            done: AtomicUsize::new(0),
            passed: Mutex::default(),
            behaves: watch::channel(()).0,
        });
        let shared = script.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let script = shared.clone();
                // A connection that breaks is what a client or a server does; the tests look at what comes of it.
                tokio::spawn(async move { drop(script.serve(client).await) });
            }
        });
        Proxy { endpoint, script, accepting }
    }

    /// Adds a rule. The first that fits decides.
    pub fn play(&self, rule: Rule) {
        locked(&self.script.rules).push(rule);
    }

    /// Forgets all rules, and passes on what was held.
    pub fn behave(&self) {
        locked(&self.script.rules).clear();
        self.script.behaves.send_replace(());
    }

    /// How often something was done to a request.
    pub fn done(&self) -> usize {
        self.script.done.load(SeqCst)
    }

    /// The bytes of all requests with this method and this in their path that were passed on to the server.
    pub fn passed(&self, method: &str, part: &str) -> usize {
        let passed = locked(&self.script.passed);
        passed.iter().filter(|it| it.0 == method && it.1.contains(part)).map(|it| it.2).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Script {
    /// What is to be done to this request.
    fn decide(&self, request: &Message) -> Option<Mischief> {
        let mut rules = locked(&self.rules);
        let (method, path) = request.target()?;
        for rule in rules.iter_mut() {
            if !(rule.method.is_empty() || rule.method == method) || !path.contains(rule.part) || rule.times == 0 {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                return None;
            }
            rule.times = rule.times.saturating_sub(1);
            if rule.spreads {
                (rule.method, rule.part) = ("", "");
            }
            self.done.fetch_add(1, SeqCst);
            return Some(rule.what);
        }
        None
    }

    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut told = self.behaves.subscribe();
        let Some(request) = Message::read(&mut client, Body::Announced).await? else { return Ok(()) };
        match self.decide(&request) {
            None => client.write_all(&self.ask(&request).await?.bytes()).await,
            Some(Mischief::Answer(status, code)) => client.write_all(refusal(status, code).as_bytes()).await,
            Some(Mischief::CutRequest) => {
                let mut server = TcpStream::connect(self.server).await?;
                server.write_all(request.head.as_bytes()).await?;
                server.write_all(&request.body[..request.body.len() / 2]).await
            }
            Some(Mischief::LoseAnswer) => self.ask(&request).await.map(drop),
            Some(Mischief::CutAnswer) => {
                let mut answer = self.ask(&request).await?;
                answer.body.truncate(answer.body.len() / 2);
                client.write_all(&answer.bytes()).await
            }
            Some(Mischief::ShortAnswer) => {
                let answer = self.ask(&request).await?;
                client.write_all(&answer.shortened().bytes()).await
            }
            Some(Mischief::FlipAnswer) => {
                let mut answer = self.ask(&request).await?;
                let middle = answer.body.len() / 2;
                answer.body.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
                client.write_all(&answer.bytes()).await
            }
            Some(Mischief::Hold) => {
                if told.changed().await.is_err() {
                    return Ok(());
                }
                let answer = self.ask(&request).await?;
                client.write_all(&answer.bytes()).await
            }
            Some(Mischief::HoldForClient) => {
                tokio::select! {
                    biased;
                    // It has asked, and says no more until it is answered.
                    _ = client.read_u8() => return Ok(()),
                    told = told.changed() => if told.is_err() { return Ok(()) },
                }
                client.write_all(&self.ask(&request).await?.bytes()).await
            }
        }
    }

    /// The server's answer, whole.
    async fn ask(&self, request: &Message) -> io::Result<Message> {
        if let Some((method, path)) = request.target() {
            locked(&self.passed).push((method.to_owned(), path.to_owned(), request.body.len()));
        }
        let mut server = TcpStream::connect(self.server).await?;
        server.write_all(&request.bytes()).await?;
        let answer = Message::read(&mut server, Body::UntilTheEnd).await?;
        answer.ok_or_else(|| io::Error::other("the server gave no answer"))
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// As its head says.
    Announced,
    /// As long as the connection.
    UntilTheEnd,
}

/// A request or an answer, whose connection ends after it.
#[derive(Debug)]
struct Message {
    /// With its empty line.
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// Reads one; none if the connection ends before.
    async fn read(stream: &mut TcpStream, extent: Body) -> io::Result<Option<Message>> {
        let mut read = vec![];
        let end = loop {
            if let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
                break end + 4;
            }
            if read.len() > LONGEST_HEAD || stream.read_buf(&mut read).await? == 0 {
                return Ok(None);
            }
        };
        let mut body = read.split_off(end);
        let head = String::from_utf8(read).map_err(io::Error::other)?;
        match extent {
            Body::UntilTheEnd => drop(stream.read_to_end(&mut body).await?),
            Body::Announced => {
                if field(&head, "expect").is_some() {
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
                let length: usize = field(&head, "content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
                let have = body.len().min(length);
                body.resize(length, 0);
                stream.read_exact(&mut body[have..]).await?;
            }
        }
        let lines = head.trim_end().split("\r\n").filter(|line| !names(line, "connection") && !names(line, "expect"));
        let head = lines.chain(["Connection: close", "\r\n"]).collect::<Vec<_>>().join("\r\n");
        Ok(Some(Message { head, body }))
    }

    /// Half of it, which says that it is all.
    fn shortened(mut self) -> Message {
        self.body.truncate(self.body.len() / 2);
        let length = format!("Content-Length: {}", self.body.len());
        let lines = self.head.split("\r\n").map(|line| if names(line, "content-length") { &length } else { line });
        let head = lines.collect::<Vec<_>>().join("\r\n");
        Message { head, body: self.body }
    }

    /// A request's method and path.
    fn target(&self) -> Option<(&str, &str)> {
        let (method, rest) = self.head.split_once(' ')?;
        Some((method, rest.split(' ').next()?))
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }
}

fn names(line: &str, field: &str) -> bool {
    line.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case(field))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split("\r\n").find(|line| names(line, name))?.split_once(':').map(|(_, value)| value.trim())
}

fn refusal(status: u16, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test asked</Message></Error>");
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(head: &str, body: &[u8]) -> Message {
        Message { head: head.into(), body: body.into() }
    }

    #[test]
    fn a_shortened_answer_announces_what_it_has() {
        let short = message("HTTP/1.1 206 x\r\ncontent-length: 4\r\nETag: a\r\n\r\n", b"abcd").shortened();
        assert_eq!(short.bytes(), b"HTTP/1.1 206 x\r\nContent-Length: 2\r\nETag: a\r\n\r\nab");
    }

    #[tokio::test]
    async fn rules_count_and_spread() {
        let proxy = Proxy::start("http://127.0.0.1:1").await;
        let (put, get) = (message("PUT /b/packs/1 HTTP/1.1", b""), message("GET /b/ready HTTP/1.1", b""));
        proxy.play(Rule { skip: 1, times: 2, ..Rule::always("PUT", "/packs/", Mischief::Hold) });
        let said: Vec<_> = [&put, &get, &put, &put, &put].map(|it| proxy.script.decide(it).is_some()).into();
        assert_eq!(said, [false, false, true, true, false]);
        proxy.behave();
        proxy.play(Rule { spreads: true, ..Rule::always("PUT", "/packs/", Mischief::Hold) });
        let said: Vec<_> = [&get, &put, &get].map(|it| proxy.script.decide(it).is_some()).into();
        assert_eq!((said, proxy.done()), (vec![false, true, true], 4));
    }
}
