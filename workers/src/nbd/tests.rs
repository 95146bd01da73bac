//! A peer that says exactly what a test tells it, over a stream in memory: what the client does with
//! malformed, hostile and merely unusual replies. The real servers are in the hypervisor's tests.

use super::{protocol::*, *};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const SIZE: u64 = 1 << 20;
const CONTEXT: u32 = 7;
const FLAGS: u16 = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_WRITE_ZEROES;

/// Kinds and bodies.
type Chunks = Vec<(u16, Vec<u8>)>;

struct Peer(DuplexStream);

/// What the peer announces.
#[derive(Clone, Copy)]
struct Offer {
    structured: bool,
    minimum: u32,
    maximum: u32,
    size: u64,
    flags: u16,
}

const PLAIN: Offer = Offer { structured: true, minimum: 1, maximum: 32 << 20, size: SIZE, flags: FLAGS };

impl Peer {
    async fn reply(&mut self, option: u32, kind: u32, body: &[u8]) {
        let mut message = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
        for number in [option, kind, body.len() as u32] {
            message.extend_from_slice(&number.to_be_bytes());
        }
        message.extend_from_slice(body);
        self.0.write_all(&message).await.unwrap();
    }

    async fn option(&mut self) -> (u32, Vec<u8>) {
        assert_eq!(self.0.read_u64().await.unwrap(), IHAVEOPT);
        let option = self.0.read_u32().await.unwrap();
        let mut body = vec![0; self.0.read_u32().await.unwrap() as usize];
        self.0.read_exact(&mut body).await.unwrap();
        (option, body)
    }

    async fn greet(&mut self) {
        self.0.write_all(b"NBDMAGICIHAVEOPT").await.unwrap();
        self.0.write_u16(FIXED_NEWSTYLE | NO_ZEROES).await.unwrap();
        assert_eq!(self.0.read_u32().await.unwrap(), 3);
    }

    async fn negotiate(&mut self, offer: Offer) {
        self.greet().await;
        assert_eq!(self.option().await.0, OPT_STRUCTURED_REPLY);
        self.reply(OPT_STRUCTURED_REPLY, if offer.structured { REP_ACK } else { REP_ERR_UNSUP }, &[]).await;
        if offer.structured {
            assert_eq!(self.option().await.0, OPT_SET_META_CONTEXT);
            let body = [&CONTEXT.to_be_bytes()[..], b"base:allocation"].concat();
            self.reply(OPT_SET_META_CONTEXT, REP_META_CONTEXT, &body).await;
            self.reply(OPT_SET_META_CONTEXT, REP_ACK, &[]).await;
        }
        assert_eq!(self.option().await.0, OPT_GO);
        self.reply(OPT_GO, REP_INFO, &[&[0, 0][..], &offer.size.to_be_bytes(), &offer.flags.to_be_bytes()].concat()).await;
        let sizes = [offer.minimum, offer.minimum.max(4096), offer.maximum].map(u32::to_be_bytes).concat();
        self.reply(OPT_GO, REP_INFO, &[&[0, 3][..], &sizes].concat()).await;
        self.reply(OPT_GO, REP_ACK, &[]).await;
    }

    /// The next request's command, cookie, offset and length.
    async fn request(&mut self) -> (u16, u64, u64, u32) {
        assert_eq!(self.0.read_u32().await.unwrap(), REQUEST_MAGIC);
        let _flags = self.0.read_u16().await.unwrap();
        let command = self.0.read_u16().await.unwrap();
        let cookie = self.0.read_u64().await.unwrap();
        (command, cookie, self.0.read_u64().await.unwrap(), self.0.read_u32().await.unwrap())
    }

    async fn chunk(&mut self, flags: u16, kind: u16, cookie: u64, body: &[u8]) {
        let mut message = STRUCTURED_REPLY_MAGIC.to_be_bytes().to_vec();
        message.extend_from_slice(&flags.to_be_bytes());
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&cookie.to_be_bytes());
        message.extend_from_slice(&(body.len() as u32).to_be_bytes());
        message.extend_from_slice(body);
        // The client may have hung up already.
        let _ = self.0.write_all(&message).await;
    }

    async fn simple(&mut self, errno: u32, cookie: u64, data: &[u8]) {
        let message = [&SIMPLE_REPLY_MAGIC.to_be_bytes()[..], &errno.to_be_bytes(), &cookie.to_be_bytes(), data].concat();
        let _ = self.0.write_all(&message).await;
    }
}

async fn connected(offer: Offer) -> (Client, Peer) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let mut peer = Peer(theirs);
    let (client, ()) = tokio::join!(Client::connect(ours, "export"), peer.negotiate(offer));
    (client.unwrap(), peer)
}

fn at(offset: u64, data: &[u8]) -> Vec<u8> {
    [&offset.to_be_bytes()[..], data].concat()
}

fn hole(offset: u64, bytes: u32) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &bytes.to_be_bytes()].concat()
}

fn statuses(context: u32, runs: &[(u32, u32)]) -> Vec<u8> {
    let mut body = context.to_be_bytes().to_vec();
    for (bytes, state) in runs {
        body.extend_from_slice(&bytes.to_be_bytes());
        body.extend_from_slice(&state.to_be_bytes());
    }
    body
}

fn error(errno: u32, said_length: u16, text: &str) -> Vec<u8> {
    [&errno.to_be_bytes()[..], &said_length.to_be_bytes(), text.as_bytes()].concat()
}

/// Answers one read of 8 bytes at 100 with these chunks; the last one is sent as the end.
async fn read_with(chunks: &[(u16, Vec<u8>)]) -> (Result<Bytes, NbdError>, Client) {
    let (client, mut peer) = connected(PLAIN).await;
    let peer = async {
        let (command, cookie, offset, length) = peer.request().await;
        assert_eq!((command, offset, length), (0, 100, 8));
        for (n, (kind, body)) in chunks.iter().enumerate() {
            peer.chunk(u16::from(n + 1 == chunks.len()), *kind, cookie, body).await;
        }
        peer
    };
    let (answer, _peer) = tokio::join!(client.read(100, 8), peer);
    (answer, client)
}

#[tokio::test]
async fn a_read_is_put_together_from_chunks_in_any_order() {
    let chunks = [
        (CHUNK_OFFSET_DATA, at(106, b"gh")),
        (CHUNK_OFFSET_HOLE, hole(103, 3)),
        (CHUNK_OFFSET_DATA, at(100, b"abc")),
        (CHUNK_NONE, vec![]),
    ];
    assert_eq!(read_with(&chunks).await.0.unwrap(), Bytes::from_static(b"abc\0\0\0gh"));
}

#[tokio::test]
async fn a_reply_that_breaks_the_protocol_ends_the_connection() {
    let cases: Vec<(&str, Chunks)> = vec![
        ("lacks the end", vec![(CHUNK_OFFSET_DATA, at(100, b"abcdefg"))]),
        ("lacks the middle", vec![(CHUNK_OFFSET_DATA, at(100, b"abc")), (CHUNK_OFFSET_DATA, at(104, b"efgh"))]),
        ("nothing at all", vec![(CHUNK_NONE, vec![])]),
        ("overlaps", vec![(CHUNK_OFFSET_DATA, at(100, b"abcde")), (CHUNK_OFFSET_HOLE, hole(104, 4))]),
        ("twice the same", vec![(CHUNK_OFFSET_HOLE, hole(100, 8)), (CHUNK_OFFSET_DATA, at(100, b"abcdefgh"))]),
        ("before the range", vec![(CHUNK_OFFSET_DATA, at(99, b"abcdefgh"))]),
        ("past the range", vec![(CHUNK_OFFSET_DATA, at(101, b"abcdefgh"))]),
        ("offset near the end of numbers", vec![(CHUNK_OFFSET_HOLE, hole(u64::MAX - 2, 8))]),
        ("a hole of the whole 32 bits", vec![(CHUNK_OFFSET_HOLE, hole(100, u32::MAX))]),
        ("an empty hole", vec![(CHUNK_OFFSET_HOLE, hole(100, 0))]),
        ("empty data", vec![(CHUNK_OFFSET_DATA, at(100, b""))]),
        ("data without an offset", vec![(CHUNK_OFFSET_DATA, vec![0; 7])]),
        ("a hole of the wrong length", vec![(CHUNK_OFFSET_HOLE, vec![0; 11])]),
        ("a status for a read", vec![(CHUNK_BLOCK_STATUS, statuses(CONTEXT, &[(8, 0)]))]),
        ("an unknown chunk", vec![(3, vec![])]),
        ("nothing with a body", vec![(CHUNK_NONE, vec![1])]),
        ("nothing that is not the end", vec![(CHUNK_NONE, vec![]), (CHUNK_NONE, vec![])]),
        ("an error without a number", vec![(CHUNK_ERROR + 1, error(0, 0, ""))]),
        ("an error longer than its chunk", vec![(CHUNK_ERROR + 1, error(5, 10, "short"))]),
        ("an error too short", vec![(CHUNK_ERROR + 1, vec![0; 5])]),
        ("an error too long", vec![(CHUNK_ERROR + 1, vec![1; 5000])]),
        ("errors without end", (0..70).map(|_| (CHUNK_ERROR + 1, error(5, 0, ""))).collect()),
    ];
    for (name, chunks) in cases {
        let (answer, client) = read_with(&chunks).await;
        assert!(matches!(answer, Err(NbdError::Protocol(_))), "{name}: {answer:?}");
        let after = client.read(0, 1).await;
        assert!(matches!(after, Err(NbdError::Protocol(_))), "{name}: the connection goes on: {after:?}");
    }
}

#[tokio::test]
async fn a_read_error_fails_that_read_and_no_other() {
    let chunks = [
        (CHUNK_OFFSET_DATA, at(100, b"ab")),
        (CHUNK_ERROR + 2, [error(5, 6, "broken"), 102u64.to_be_bytes().to_vec()].concat()),
        (CHUNK_NONE, vec![]),
    ];
    let (client, mut peer) = connected(PLAIN).await;
    let serve = async {
        let (_, first, ..) = peer.request().await;
        let (_, second, ..) = peer.request().await;
        for (n, (kind, body)) in chunks.iter().enumerate() {
            peer.chunk(u16::from(n == 2), *kind, first, body).await;
        }
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, second, &at(5, b"z")).await;
    };
    let (failed, good, ()) = tokio::join!(biased; client.read(100, 8), client.read(5, 1), serve);
    assert_eq!(failed.unwrap_err(), NbdError::Server { errno: Errno::Io, message: "broken".into() });
    assert_eq!(&good.unwrap()[..], b"z");
}

#[tokio::test]
async fn replies_may_come_in_any_order_and_mixed() {
    let (client, mut peer) = connected(PLAIN).await;
    let serve = async {
        let (a, b, c) = (peer.request().await, peer.request().await, peer.request().await);
        assert_eq!((a.2, b.2, c.2), (0, 10, 20));
        peer.chunk(0, CHUNK_OFFSET_DATA, a.1, &at(0, b"a")).await;
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, c.1, &at(20, b"cC")).await;
        peer.chunk(0, CHUNK_OFFSET_HOLE, b.1, &hole(10, 2)).await;
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, a.1, &at(1, b"A")).await;
        peer.chunk(REPLY_DONE, CHUNK_NONE, b.1, &[]).await;
    };
    let (a, b, c, ()) = tokio::join!(biased; client.read(0, 2), client.read(10, 2), client.read(20, 2), serve);
    assert_eq!((&a.unwrap()[..], &b.unwrap()[..], &c.unwrap()[..]), (&b"aA"[..], &b"\0\0"[..], &b"cC"[..]));
}

#[tokio::test]
async fn a_cookie_that_is_not_under_way_ends_everything() {
    let (client, mut peer) = connected(PLAIN).await;
    let serve = async {
        let (_, first, ..) = peer.request().await;
        peer.request().await;
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, first, &at(0, b"a")).await;
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, first, &at(0, b"a")).await;
    };
    let (a, b, ()) = tokio::join!(biased; client.read(0, 1), client.read(1, 1), serve);
    assert_eq!(&a.unwrap()[..], b"a");
    assert!(matches!(b, Err(NbdError::Protocol(_))), "{b:?}");
}

#[tokio::test]
async fn a_simple_reply_to_a_read_is_a_breach_where_structured_ones_were_agreed_on() {
    let (client, mut peer) = connected(PLAIN).await;
    let serve = async {
        let (_, cookie, ..) = peer.request().await;
        peer.simple(0, cookie, b"a").await;
    };
    let (a, ()) = tokio::join!(client.read(0, 1), serve);
    assert!(matches!(a, Err(NbdError::Protocol(_))), "{a:?}");
}

#[tokio::test]
async fn a_read_that_is_too_long_for_one_chunk_is_asked_for_in_several() {
    let (client, mut peer) = connected(Offer { flags: FLAGS | SEND_DF, ..PLAIN }).await;
    let serve = async {
        assert_eq!(peer.0.read_u32().await.unwrap(), REQUEST_MAGIC);
        assert_eq!(peer.0.read_u16().await.unwrap(), FLAG_DF);
        assert_eq!(peer.0.read_u16().await.unwrap(), 0);
        let cookie = peer.0.read_u64().await.unwrap();
        assert_eq!((peer.0.read_u64().await.unwrap(), peer.0.read_u32().await.unwrap()), (0, 4));
        peer.chunk(REPLY_DONE, CHUNK_ERROR + 1, cookie, &error(75, 0, "")).await;
        assert_eq!(peer.0.read_u32().await.unwrap(), REQUEST_MAGIC);
        assert_eq!(peer.0.read_u16().await.unwrap(), 0);
        assert_eq!(peer.0.read_u16().await.unwrap(), 0);
        let cookie = peer.0.read_u64().await.unwrap();
        assert_eq!((peer.0.read_u64().await.unwrap(), peer.0.read_u32().await.unwrap()), (0, 4));
        peer.chunk(0, CHUNK_OFFSET_DATA, cookie, &at(0, b"ab")).await;
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_HOLE, cookie, &hole(2, 2)).await;
    };
    let (read, ()) = tokio::join!(client.read(0, 4), serve);
    assert_eq!(&read.unwrap()[..], b"ab\0\0");
}

#[tokio::test]
async fn a_server_that_broke_the_protocol_sees_the_end() {
    let (client, mut peer) = connected(PLAIN).await;
    let serve = async {
        peer.request().await;
        peer.0.write_all(&[0; 4]).await.unwrap();
        assert_eq!(peer.0.read(&mut [0]).await.unwrap(), 0);
    };
    let (read, ()) = tokio::join!(client.read(0, 4), serve);
    assert!(matches!(read, Err(NbdError::Protocol(_))), "{read:?}");
}

#[tokio::test]
async fn a_server_without_structured_replies_is_read_by_simple_ones() {
    let (client, mut peer) = connected(Offer { structured: false, ..PLAIN }).await;
    let serve = async {
        let (_, cookie, ..) = peer.request().await;
        peer.simple(0, cookie, b"abcd").await;
        let (_, cookie, ..) = peer.request().await;
        peer.simple(28, cookie, &[]).await;
    };
    let ask = async {
        assert_eq!(&client.read(0, 4).await.unwrap()[..], b"abcd");
        let full = client.write(0, Bytes::from_static(b"x"), false).await;
        assert!(matches!(full, Err(NbdError::Server { errno: Errno::NoSpace, .. })), "{full:?}");
        assert!(matches!(client.block_status(0, 1).await, Err(NbdError::Unsendable(_))));
    };
    tokio::join!(ask, serve);
}

#[tokio::test]
async fn a_lost_connection_fails_all_that_wait_and_all_that_come() {
    let (client, mut peer) = connected(PLAIN).await;
    let serve = async {
        let (_, cookie, ..) = peer.request().await;
        peer.request().await;
        // Half a chunk, then silence for ever.
        let mut message = STRUCTURED_REPLY_MAGIC.to_be_bytes().to_vec();
        message.extend_from_slice(&[0, 1, 0, 1]);
        message.extend_from_slice(&cookie.to_be_bytes());
        message.extend_from_slice(&16u32.to_be_bytes());
        message.extend_from_slice(&at(0, b"abc"));
        peer.0.write_all(&message).await.unwrap();
        drop(peer);
    };
    let (a, b, ()) = tokio::join!(biased; client.read(0, 8), client.flush(), serve);
    assert!(matches!(a, Err(NbdError::Lost(_))), "{a:?}");
    assert!(matches!(b, Err(NbdError::Lost(_))), "{b:?}");
    assert!(matches!(client.read(0, 8).await, Err(NbdError::Lost(_))));
}

#[tokio::test]
async fn status_replies_are_clamped_and_asked_again_until_all_is_covered() {
    let (client, mut peer) = connected(PLAIN).await;
    let serve = async {
        let (command, cookie, offset, length) = peer.request().await;
        assert_eq!((command, offset, length), (7, 1000, 500));
        peer.chunk(REPLY_DONE, CHUNK_BLOCK_STATUS, cookie, &statuses(CONTEXT, &[(100, 0), (50, 3), (7, 3)])).await;
        let (_, cookie, offset, length) = peer.request().await;
        assert_eq!((offset, length), (1157, 343));
        peer.chunk(REPLY_DONE, CHUNK_BLOCK_STATUS, cookie, &statuses(CONTEXT, &[(3, 3), (u32::MAX, 1), (9, 2)])).await;
    };
    let (runs, ()) = tokio::join!(client.block_status(1000, 500), serve);
    let run = |offset, bytes, hole, zero| Run { offset, bytes, hole, zero };
    assert_eq!(runs.unwrap(), [run(1000, 100, false, false), run(1100, 60, true, true), run(1160, 340, true, false)]);
}

#[tokio::test]
async fn a_status_reply_that_breaks_the_protocol_ends_the_connection() {
    let cases: Vec<(&str, Chunks)> = vec![
        ("no status", vec![(CHUNK_NONE, vec![])]),
        ("another context", vec![(CHUNK_BLOCK_STATUS, statuses(CONTEXT + 1, &[(8, 0)]))]),
        ("no bytes", vec![(CHUNK_BLOCK_STATUS, statuses(CONTEXT, &[(0, 0)]))]),
        ("no descriptors", vec![(CHUNK_BLOCK_STATUS, statuses(CONTEXT, &[]))]),
        ("half a descriptor", vec![(CHUNK_BLOCK_STATUS, vec![0; 16])]),
        ("twice", vec![(CHUNK_BLOCK_STATUS, statuses(CONTEXT, &[(4, 0)])), (CHUNK_BLOCK_STATUS, statuses(CONTEXT, &[(8, 0)]))]),
        ("data", vec![(CHUNK_OFFSET_DATA, at(0, b"x"))]),
    ];
    for (name, chunks) in cases {
        let (client, mut peer) = connected(PLAIN).await;
        let serve = async {
            let (_, cookie, ..) = peer.request().await;
            for (n, (kind, body)) in chunks.iter().enumerate() {
                peer.chunk(u16::from(n + 1 == chunks.len()), *kind, cookie, body).await;
            }
        };
        let (runs, ()) = tokio::join!(client.block_status(0, 8), serve);
        assert!(matches!(runs, Err(NbdError::Protocol(_))), "{name}: {runs:?}");
    }
}

#[tokio::test]
async fn a_status_chunk_of_absurd_length_is_refused_before_it_is_read() {
    let (client, mut peer) = connected(PLAIN).await;
    let serve = async {
        let (_, cookie, ..) = peer.request().await;
        let mut message = STRUCTURED_REPLY_MAGIC.to_be_bytes().to_vec();
        message.extend_from_slice(&[0, 1, 0, CHUNK_BLOCK_STATUS as u8]);
        message.extend_from_slice(&cookie.to_be_bytes());
        message.extend_from_slice(&0xffff_fffcu32.to_be_bytes());
        peer.0.write_all(&message).await.unwrap();
        peer
    };
    let (runs, _peer) = tokio::join!(client.block_status(0, 8), serve);
    assert!(matches!(runs, Err(NbdError::Protocol(_))), "{runs:?}");
}

#[tokio::test]
async fn unaligned_reads_are_widened_to_the_servers_blocks_and_unaligned_writes_refused() {
    let (client, mut peer) = connected(Offer { minimum: 512, ..PLAIN }).await;
    let serve = async {
        let (_, cookie, offset, length) = peer.request().await;
        assert_eq!((offset, length), (512, 1024));
        let data: Vec<u8> = (0..1024u32).map(|it| it as u8).collect();
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, cookie, &at(512, &data)).await;
        let (_, cookie, offset, length) = peer.request().await;
        assert_eq!((offset, length), (512, 512));
        peer.chunk(REPLY_DONE, CHUNK_BLOCK_STATUS, cookie, &statuses(CONTEXT, &[(512, 3)])).await;
    };
    let ask = async {
        assert_eq!(&client.read(1000, 30).await.unwrap()[..3], &[232, 233, 234]);
        assert_eq!(client.block_status(700, 2).await.unwrap(), [Run { offset: 700, bytes: 2, hole: true, zero: true }]);
        assert!(matches!(client.write(100, Bytes::from_static(b"x"), false).await, Err(NbdError::Unsendable(_))));
    };
    tokio::join!(ask, serve);
}

#[tokio::test]
async fn a_status_that_never_gets_ahead_is_a_breach() {
    let (client, mut peer) = connected(Offer { minimum: 512, ..PLAIN }).await;
    let serve = async {
        let (_, cookie, ..) = peer.request().await;
        peer.chunk(REPLY_DONE, CHUNK_BLOCK_STATUS, cookie, &statuses(CONTEXT, &[(100, 0)])).await;
    };
    let (runs, ()) = tokio::join!(client.block_status(700, 2), serve);
    assert!(matches!(runs, Err(NbdError::Protocol(_))), "{runs:?}");
}

#[tokio::test]
async fn what_is_outside_of_the_export_is_never_sent() {
    let (client, _peer) = connected(Offer { maximum: 4096, ..PLAIN }).await;
    for (offset, bytes) in [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 2), (0, 4097)] {
        assert!(matches!(client.read(offset, bytes).await, Err(NbdError::Unsendable(_))), "{offset} {bytes}");
        let data = Bytes::from(vec![0; bytes as usize]);
        assert!(matches!(client.write(offset, data, false).await, Err(NbdError::Unsendable(_))), "{offset} {bytes}");
    }
    assert!(matches!(client.write_zeroes(SIZE - 1, 2, true).await, Err(NbdError::Unsendable(_))));
    assert!(matches!(client.block_status(SIZE - 1, 2).await, Err(NbdError::Unsendable(_))));
    assert!(client.read(SIZE, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dropped_caller_leaves_the_connection_whole() {
    let (client, mut peer) = connected(PLAIN).await;
    {
        let mut forgotten = Box::pin(client.read(0, 4));
        assert!(futures::poll!(&mut forgotten).is_pending());
    }
    let serve = async {
        let (_, first, ..) = peer.request().await;
        let (_, second, ..) = peer.request().await;
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, first, &at(0, b"gone")).await;
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, second, &at(4, b"here")).await;
    };
    let (second, ()) = tokio::join!(client.read(4, 4), serve);
    assert_eq!(&second.unwrap()[..], b"here");
}

#[tokio::test]
async fn no_more_than_the_limit_are_under_way_even_if_their_callers_leave() {
    let (client, mut peer) = connected(PLAIN).await;
    for offset in 0..20 {
        let mut forgotten = Box::pin(client.read(offset, 1));
        assert!(futures::poll!(&mut forgotten).is_pending());
        tokio::task::yield_now().await;
    }
    let mut cookies = vec![];
    for _ in 0..16 {
        cookies.push(peer.request().await.1);
    }
    let mut next = Box::pin(client.read(99, 1));
    assert!(futures::poll!(&mut next).is_pending());
    peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, cookies[0], &at(0, b"x")).await;
    let serve = async {
        let (_, cookie, offset, _) = peer.request().await;
        assert_eq!(offset, 99, "the four that were dropped before they got a slot were never sent");
        peer.chunk(REPLY_DONE, CHUNK_OFFSET_DATA, cookie, &at(99, b"y")).await;
    };
    let (answer, ()) = tokio::join!(next, serve);
    assert_eq!(&answer.unwrap()[..], b"y");
}

#[tokio::test]
async fn a_handshake_that_breaks_the_protocol_is_refused() {
    async fn refused(what: &str, script: impl AsyncFnOnce(&mut Peer)) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut peer = Peer(theirs);
        let (client, ()) = tokio::join!(Client::connect(ours, "x"), script(&mut peer));
        assert!(matches!(client, Err(NbdError::Protocol(_))), "{what}: {client:?}");
    }
    refused("another protocol", async |peer| peer.0.write_all(b"SSH-2.0-OpenSSH_9.2p").await.unwrap()).await;
    refused("oldstyle", async |peer| peer.0.write_all(b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53").await.unwrap()).await;
    refused("not fixed", async |peer| peer.0.write_all(b"NBDMAGICIHAVEOPT\0\0").await.unwrap()).await;
    refused("a reply to another option", async |peer| {
        peer.greet().await;
        peer.option().await;
        peer.reply(OPT_GO, REP_ACK, &[]).await;
    })
    .await;
    refused("an option reply of absurd length", async |peer| {
        peer.greet().await;
        peer.option().await;
        let message = [&OPTION_REPLY_MAGIC.to_be_bytes()[..], &[0, 0, 0, 8, 0, 0, 0, 1, 255, 255, 255, 255]].concat();
        peer.0.write_all(&message).await.unwrap();
    })
    .await;
    refused("replies without end", async |peer| {
        peer.greet().await;
        peer.option().await;
        for _ in 0..70 {
            peer.reply(OPT_STRUCTURED_REPLY, REP_INFO, &[]).await;
        }
    })
    .await;
    for (what, offer) in [
        ("a size past the signed numbers", Offer { size: 1 << 63, ..PLAIN }),
        ("a minimum that is no power of two", Offer { minimum: 3, ..PLAIN }),
        ("no minimum", Offer { minimum: 0, ..PLAIN }),
        ("a huge minimum", Offer { minimum: 1 << 20, ..PLAIN }),
        ("a maximum under the minimum", Offer { minimum: 4096, maximum: 512, ..PLAIN }),
    ] {
        refused(what, async |peer| peer.negotiate(offer).await).await;
    }
}

#[tokio::test]
async fn a_refused_export_says_why() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let mut peer = Peer(theirs);
    let script = async {
        peer.greet().await;
        peer.option().await;
        peer.reply(OPT_STRUCTURED_REPLY, REP_ERROR + 5, b"first\nTLS").await;
    };
    let (client, ()) = tokio::join!(Client::connect(ours, "x"), script);
    let expected = NbdError::Refused { option: OPT_STRUCTURED_REPLY, code: REP_ERROR + 5, message: "first TLS".into() };
    assert_eq!(client.unwrap_err(), expected);
}
