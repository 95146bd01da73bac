//! What every kind of hypervisor must do, whatever lies behind it. A kind brings a `Fixture`: a fresh pool, and
//! ways around our own code to make volumes, snapshot, change and open them, as a stranger would.

mod fixture;
mod frozen;

use super::{BlockRead, Draft};
use bytes::Bytes;
pub use fixture::Fixture;
use futures::{StreamExt, TryStreamExt, stream};
use longshore_schema::{
    fault::{Class, Fault, code},
    ids::OperationId,
    steps::volume::{Identity, Measured},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// The smallest unit in which any kind keeps a size.
const SECTOR: u64 = 512;
const MIB: usize = 1 << 20;

/// Runs everything, each on a pool of its own. Panics at the first thing that is wrong.
pub async fn run_all<F: Fixture>(make: impl Fn() -> F) {
    what_is_written_is_read_back(&make()).await;
    an_empty_volume_is_all_zeros(&make()).await;
    sizes_of_all_sorts_are_kept(&make()).await;
    a_large_sparse_volume_is_quick(&make()).await;
    zeroed_data_is_zero(&make()).await;
    a_writer_of_the_same_attempt_starts_afresh(&make()).await;
    writing_past_the_end_is_refused(&make()).await;
    publishing_twice_is_publishing_once(&make()).await;
    publishing_never_replaces_a_stranger(&make()).await;
    a_volume_of_ours_is_not_in_our_way(&make()).await;
    publishing_without_a_draft_is_refused(&make()).await;
    discarding_removes_all_attempts_and_nothing_else(&make()).await;
    removing_takes_only_what_is_ours(&make()).await;
    removing_without_a_record_goes_by_the_draft(&make()).await;
    what_is_in_use_is_not_removed(&make()).await;
    names_of_strangers_are_refused(&make()).await;
    what_is_missing_is_missing(&make()).await;
    many_reads_at_once_are_right(&make()).await;
    reading_past_the_end_is_refused(&make()).await;
    frozen::a_reader_keeps_writers_out(&make()).await;
    frozen::a_volume_that_is_written_is_in_use(&make()).await;
    frozen::a_snapshot_is_read_as_it_was(&make()).await;
}

/// All bytes and extents of a reader, checked against each other: what is called zero must be.
pub async fn read_whole(reader: &dyn BlockRead) -> Vec<u8> {
    let mut whole = Vec::new();
    let mut at = 0;
    while at < reader.size() {
        let bytes = (reader.size() - at).min(3 * MIB as u64 + 17);
        whole.extend_from_slice(&good(reader.read(at, bytes as u32).await));
        at += bytes;
    }
    let mut expected = 0;
    for extent in good(reader.extents(0, reader.size()).await) {
        assert!(extent.offset == expected && extent.bytes > 0, "extents are in order and without gaps: {extent:?} at {expected}");
        expected += extent.bytes;
        let data = &whole[extent.offset as usize..expected as usize];
        assert!(!extent.zero || data.iter().all(|it| *it == 0), "{extent:?} holds data");
    }
    assert_eq!(expected, reader.size(), "extents cover the whole");
    whole
}

fn good<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

#[track_caller]
fn refused<T>(result: Result<T, Fault>, code: &str, class: Class) {
    match result {
        Ok(_) => panic!("it was done, where {code} was expected"),
        Err(fault) => {
            assert!(fault.code == code && fault.class == class, "{fault} ({:?}) where {code} was expected", fault.class)
        }
    }
}

async fn open_reader<F: Fixture>(pool: &F, volume: &str, snapshot: Option<&str>) -> Result<Box<dyn BlockRead>, Fault> {
    pool.hypervisor().reader(volume, snapshot, Some(pool.format())).await
}

async fn measure<F: Fixture>(pool: &F, volume: &str, snapshot: Option<&str>) -> Result<Measured, Fault> {
    pool.hypervisor().measure(volume, snapshot, Some(pool.format())).await
}

fn draft(volume: &str) -> Draft {
    Draft { volume: volume.into(), operation: OperationId::new(), attempt: 1 }
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    StdRng::seed_from_u64(seed).fill(&mut data[..]);
    data
}

/// Writes and finishes a draft that holds these pieces.
async fn written<F: Fixture>(pool: &F, draft: &Draft, size: u64, pieces: &[(u64, Vec<u8>)]) {
    let writer = good(pool.hypervisor().writer(draft, size, pool.format()).await);
    for (offset, data) in pieces {
        good(writer.write(*offset, Bytes::copy_from_slice(data)).await);
    }
    good(writer.finish().await);
}

async fn published<F: Fixture>(pool: &F, draft: &Draft, size: u64, pieces: &[(u64, Vec<u8>)]) -> Identity {
    written(pool, draft, size, pieces).await;
    good(pool.hypervisor().publish(draft).await)
}

async fn whole<F: Fixture>(pool: &F, volume: &str, snapshot: Option<&str>) -> Vec<u8> {
    let reader = good(open_reader(pool, volume, snapshot).await);
    let bytes = read_whole(&*reader).await;
    good(reader.close().await);
    bytes
}

async fn what_is_written_is_read_back<F: Fixture>(pool: &F) {
    const SIZE: usize = 24 * MIB;
    let draft = draft("copy");
    let mut random = StdRng::seed_from_u64(1);
    let mut model = vec![0; SIZE];
    let writer = good(pool.hypervisor().writer(&draft, SIZE as u64, pool.format()).await);
    // Distinct ranges, many at once, in no order: data, zeros said, zeros left out.
    let mut pieces = vec![];
    let mut at = 0;
    while at < SIZE {
        let bytes = random.random_range(1..MIB).min(SIZE - at);
        match random.random_range(0..3) {
            0 => pieces.push((at, bytes, None)),
            1 => {
                let data = noise(at as u64, bytes);
                model[at..at + bytes].copy_from_slice(&data);
                pieces.push((at, bytes, Some(Bytes::from(data))));
            }
            _ => (),
        }
        at += bytes;
    }
    pieces.sort_by_key(|(at, ..)| at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let writes = stream::iter(pieces).map(|(at, bytes, data)| {
        let writer = &writer;
        async move {
            match data {
                Some(data) => writer.write(at as u64, data).await,
                None => writer.zero(at as u64, bytes as u64).await,
            }
        }
    });
    good(writes.buffer_unordered(32).try_collect::<Vec<()>>().await);
    good(writer.finish().await);
    assert!(!pool.names().await.contains(&"copy".to_owned()), "it has its name before it is published");
    good(pool.hypervisor().publish(&draft).await);
    assert!(whole(pool, "copy", None).await == model, "our reader sees what was written");
    assert!(pool.content("copy").await == model, "a stranger sees what was written");
    let measured = good(measure(pool, "copy", None).await);
    assert_eq!((measured.virtual_size, measured.format), (SIZE as u64, pool.format()));
    let data = model.iter().filter(|it| **it != 0).count() as u64;
    assert!((data..=SIZE as u64).contains(&measured.allocated), "{measured:?} is an upper bound of {data}");
    good(pool.hypervisor().discard(draft.operation).await);
    assert_eq!(pool.names().await, ["copy"]);
    assert!(whole(pool, "copy", None).await == model, "discarding drafts leaves the volume");
}

async fn an_empty_volume_is_all_zeros<F: Fixture>(pool: &F) {
    published(pool, &draft("empty"), 8 * MIB as u64, &[]).await;
    assert!(whole(pool, "empty", None).await == vec![0; 8 * MIB]);
    let measured = good(measure(pool, "empty", None).await);
    assert_eq!((measured.virtual_size, measured.allocated), (8 * MIB as u64, 0));
}

async fn sizes_of_all_sorts_are_kept<F: Fixture>(pool: &F) {
    for size in [0, 1, 511, 512, 513, 65_535, 65_536, 1_000_001, 3 * MIB as u64 + SECTOR] {
        let (ours, theirs) = (format!("ours-{size}"), format!("theirs-{size}"));
        let seen = size.next_multiple_of(SECTOR) as usize;
        let mut model = noise(size, size as usize);
        let pieces = [(0, model.clone())];
        let pieces = if size == 0 { &[][..] } else { &pieces[..] };
        published(pool, &draft(&ours), size, pieces).await;
        pool.make(&theirs, size, pieces).await;
        model.resize(seen, 0);
        for volume in [ours, theirs] {
            let measured = good(measure(pool, &volume, None).await);
            assert_eq!(measured.virtual_size, seen as u64, "{volume}");
            assert!(whole(pool, &volume, None).await == model, "{volume}");
        }
    }
}

async fn a_large_sparse_volume_is_quick<F: Fixture>(pool: &F) {
    const SIZE: u64 = 1 << 40;
    let last = noise(3, 4096);
    let draft = draft("large");
    let writer = good(pool.hypervisor().writer(&draft, SIZE, pool.format()).await);
    good(writer.zero(0, SIZE).await);
    good(writer.write(SIZE - 4096, Bytes::from(last.clone())).await);
    good(writer.finish().await);
    good(pool.hypervisor().publish(&draft).await);
    let measured = good(measure(pool, "large", None).await);
    assert_eq!(measured.virtual_size, SIZE);
    assert!((4096..=4 * MIB as u64).contains(&measured.allocated), "zeros stay unallocated: {measured:?}");
    let reader = good(open_reader(pool, "large", None).await);
    let extents = good(reader.extents(0, SIZE).await);
    assert!(extents.len() < 1000 && extents.iter().any(|it| it.zero), "{} extents", extents.len());
    assert_eq!(good(reader.read(SIZE - 4096, 4096).await), last);
    good(reader.close().await);
}

async fn zeroed_data_is_zero<F: Fixture>(pool: &F) {
    let draft = draft("zeroed");
    let writer = good(pool.hypervisor().writer(&draft, MIB as u64, pool.format()).await);
    let mut model = noise(4, MIB);
    good(writer.write(0, Bytes::from(model.clone())).await);
    good(writer.zero(100_001, 500_003).await);
    good(writer.zero(700_000, 0).await);
    model[100_001..600_004].fill(0);
    good(writer.finish().await);
    good(pool.hypervisor().publish(&draft).await);
    assert!(whole(pool, "zeroed", None).await == model);
}

async fn a_writer_of_the_same_attempt_starts_afresh<F: Fixture>(pool: &F) {
    let draft = draft("again");
    written(pool, &draft, 2 * MIB as u64, &[(0, noise(5, MIB))]).await;
    let abandoned = good(pool.hypervisor().writer(&draft, 2 * MIB as u64, pool.format()).await);
    good(abandoned.write(MIB as u64, Bytes::from(noise(6, 5000))).await);
    drop(abandoned);
    published(pool, &draft, MIB as u64, &[(7, noise(7, 9))]).await;
    let mut model = vec![0; MIB];
    model[7..16].copy_from_slice(&noise(7, 9));
    assert!(whole(pool, "again", None).await == model, "nothing of the earlier tries is left");
}

async fn writing_past_the_end_is_refused<F: Fixture>(pool: &F) {
    let draft = draft("small");
    let writer = good(pool.hypervisor().writer(&draft, 4096, pool.format()).await);
    refused(writer.write(4095, Bytes::from_static(b"ab")).await, code::VOLUME_WRITE_FAILED, Class::Permanent);
    refused(writer.write(u64::MAX, Bytes::from_static(b"ab")).await, code::VOLUME_WRITE_FAILED, Class::Permanent);
    refused(writer.zero(1, 4096).await, code::VOLUME_WRITE_FAILED, Class::Permanent);
    good(writer.write(4094, Bytes::from_static(b"ab")).await);
    good(writer.finish().await);
}

async fn publishing_twice_is_publishing_once<F: Fixture>(pool: &F) {
    let draft = draft("twice");
    let first = published(pool, &draft, 4096, &[(0, noise(8, 10))]).await;
    let second = good(pool.hypervisor().publish(&draft).await);
    assert_eq!(first, second);
    good(pool.hypervisor().discard(draft.operation).await);
    assert_eq!(pool.names().await, ["twice"]);
}

async fn publishing_never_replaces_a_stranger<F: Fixture>(pool: &F) {
    let theirs = noise(9, MIB);
    pool.make("taken", MIB as u64, &[(0, theirs.clone())]).await;
    let (one, other) = (draft("taken"), draft("taken"));
    good(pool.hypervisor().check_free(&draft("free")).await);
    for draft in [&one, &other] {
        refused(pool.hypervisor().check_free(draft).await, code::VOLUME_EXISTS, Class::Permanent);
        written(pool, draft, 4096, &[]).await;
        refused(pool.hypervisor().publish(draft).await, code::VOLUME_EXISTS, Class::Permanent);
        good(pool.hypervisor().remove("taken", draft.operation, None).await);
        good(pool.hypervisor().discard(draft.operation).await);
    }
    assert_eq!(pool.names().await, ["taken"]);
    assert!(pool.content("taken").await == theirs, "the stranger's volume is as it was");
}

/// A step that is done again finds its own volume, which isn't in its way.
async fn a_volume_of_ours_is_not_in_our_way<F: Fixture>(pool: &F) {
    let (ours, other) = (draft("ours"), draft("ours"));
    published(pool, &ours, MIB as u64, &[]).await;
    good(pool.hypervisor().check_free(&Draft { attempt: 2, ..ours.clone() }).await);
    refused(pool.hypervisor().check_free(&other).await, code::VOLUME_EXISTS, Class::Permanent);
}

async fn publishing_without_a_draft_is_refused<F: Fixture>(pool: &F) {
    refused(pool.hypervisor().publish(&draft("nothing")).await, code::VOLUME_MISSING, Class::Permanent);
    assert!(pool.names().await.is_empty());
}

async fn discarding_removes_all_attempts_and_nothing_else<F: Fixture>(pool: &F) {
    let (ours, other) = (draft("ours"), draft("other"));
    for attempt in 1..=12 {
        let draft = Draft { attempt, ..ours.clone() };
        drop(good(pool.hypervisor().writer(&draft, 4096, pool.format()).await));
    }
    written(pool, &other, 4096, &[]).await;
    good(pool.hypervisor().discard(ours.operation).await);
    good(pool.hypervisor().discard(ours.operation).await);
    assert_eq!(pool.names().await.len(), 1);
    good(pool.hypervisor().publish(&other).await);
}

async fn removing_takes_only_what_is_ours<F: Fixture>(pool: &F) {
    let ours = draft("ours");
    let identity = published(pool, &ours, 4096, &[]).await;
    good(pool.hypervisor().discard(ours.operation).await);
    pool.make("theirs", 4096, &[]).await;
    good(pool.hypervisor().remove("theirs", ours.operation, Some(&identity)).await);
    good(pool.hypervisor().remove("theirs", ours.operation, None).await);
    // Without a draft there is nothing to know it by.
    good(pool.hypervisor().remove("ours", ours.operation, None).await);
    assert_eq!(pool.names().await, ["ours", "theirs"]);
    for _ in 0..2 {
        good(pool.hypervisor().remove("ours", ours.operation, Some(&identity)).await);
        assert_eq!(pool.names().await, ["theirs"]);
    }
    // A later volume of the same name is somebody else's.
    pool.make("ours", 4096, &[]).await;
    let elsewhere = Identity { id: format!("{}0", identity.id), born_ns: identity.born_ns };
    good(pool.hypervisor().remove("ours", ours.operation, Some(&elsewhere)).await);
    assert_eq!(pool.names().await, ["ours", "theirs"]);
}

async fn removing_without_a_record_goes_by_the_draft<F: Fixture>(pool: &F) {
    let ours = draft("ours");
    published(pool, &ours, 4096, &[]).await;
    good(pool.hypervisor().remove("ours", OperationId::new(), None).await);
    assert!(pool.names().await.contains(&"ours".to_owned()), "another operation took it away");
    good(pool.hypervisor().remove("ours", ours.operation, None).await);
    good(pool.hypervisor().remove("ours", ours.operation, None).await);
    good(pool.hypervisor().discard(ours.operation).await);
    assert!(pool.names().await.is_empty());
}

async fn what_is_in_use_is_not_removed<F: Fixture>(pool: &F) {
    let ours = draft("ours");
    let identity = published(pool, &ours, MIB as u64, &[(0, noise(10, 100))]).await;
    let open = pool.open("ours").await;
    refused(pool.hypervisor().remove("ours", ours.operation, Some(&identity)).await, code::VOLUME_IN_USE, Class::Transient);
    drop(open);
    let reader = good(open_reader(pool, "ours", None).await);
    refused(pool.hypervisor().remove("ours", ours.operation, Some(&identity)).await, code::VOLUME_IN_USE, Class::Transient);
    assert_eq!(&good(reader.read(0, 100).await)[..], noise(10, 100));
    good(reader.close().await);
    good(pool.hypervisor().remove("ours", ours.operation, Some(&identity)).await);
    good(pool.hypervisor().discard(ours.operation).await);
    assert!(pool.names().await.is_empty());
}

async fn names_of_strangers_are_refused<F: Fixture>(pool: &F) {
    pool.make("volume", 4096, &[]).await;
    let long = "x".repeat(5000);
    for name in
        ["", ".", "..", "/", "../volume", "./volume", "a/b", "/etc/passwd", ".hidden", "nul\0", "line\nfeed", "\u{9b}1m", &long]
    {
        let it = pool.hypervisor();
        let malformed = (code::COMMAND_MALFORMED, Class::Permanent);
        refused(it.measure(name, None, None).await, malformed.0, malformed.1);
        refused(it.reader(name, None, None).await, malformed.0, malformed.1);
        refused(it.writer(&draft(name), 4096, pool.format()).await, malformed.0, malformed.1);
        refused(it.publish(&draft(name)).await, malformed.0, malformed.1);
        refused(it.remove(name, OperationId::new(), None).await, malformed.0, malformed.1);
    }
    for snapshot in ["", "nul\0", "line\nfeed", &long] {
        refused(open_reader(pool, "volume", Some(snapshot)).await, code::COMMAND_MALFORMED, Class::Permanent);
    }
    assert_eq!(pool.names().await, ["volume"]);
    // Odd, and allowed: nothing of it means anything to a tool.
    for name in ["-rf", "a,b=c", "json:{}", "nbd:x", "two words", "$(x)`y`;", "ünï", "%s\\n".trim_end_matches("\\n")] {
        let draft = draft(name);
        published(pool, &draft, 4096, &[(0, noise(11, 4096))]).await;
        assert!(whole(pool, name, None).await == noise(11, 4096), "{name}");
        good(pool.hypervisor().remove(name, draft.operation, None).await);
        good(pool.hypervisor().discard(draft.operation).await);
    }
    assert_eq!(pool.names().await, ["volume"]);
}

async fn what_is_missing_is_missing<F: Fixture>(pool: &F) {
    good(pool.hypervisor().ping().await);
    refused(measure(pool, "nothing", None).await, code::VOLUME_MISSING, Class::Permanent);
    refused(open_reader(pool, "nothing", Some("at-all")).await, code::VOLUME_MISSING, Class::Permanent);
    pool.make("volume", 4096, &[]).await;
    refused(measure(pool, "volume", Some("nothing")).await, code::VOLUME_MISSING, Class::Permanent);
    refused(open_reader(pool, "volume", Some("nothing,snapshot.id=1")).await, code::VOLUME_MISSING, Class::Permanent);
    good(pool.hypervisor().remove("nothing", OperationId::new(), None).await);
}

async fn many_reads_at_once_are_right<F: Fixture>(pool: &F) {
    const SIZE: usize = 16 * MIB;
    let model = noise(12, SIZE);
    pool.make("busy", SIZE as u64, &[(0, model.clone())]).await;
    let reader = good(open_reader(pool, "busy", None).await);
    let mut random = StdRng::seed_from_u64(13);
    let ranges: Vec<_> = (0..500)
        .map(|_| {
            let at = random.random_range(0..SIZE);
            (at, random.random_range(0..300_000).min(SIZE - at))
        })
        .collect();
    let reads = stream::iter(ranges).map(async |(at, bytes)| Ok((at, bytes, reader.read(at as u64, bytes as u32).await?)));
    let reads = reads.buffer_unordered(100).try_for_each(async |(at, bytes, data): (usize, usize, Bytes)| {
        assert!(data == model[at..at + bytes], "{bytes} bytes at {at}");
        Ok::<(), Fault>(())
    });
    good(reads.await);
    good(reader.close().await);
}

async fn reading_past_the_end_is_refused<F: Fixture>(pool: &F) {
    pool.make("short", 4096, &[(0, noise(14, 4096))]).await;
    let reader = good(open_reader(pool, "short", None).await);
    for (offset, bytes) in [(4096, 1), (0, 4097), (u64::MAX, 1), (0, u32::MAX)] {
        refused(reader.read(offset, bytes).await, code::VOLUME_READ_FAILED, Class::Permanent);
    }
    assert_eq!(good(reader.read(4095, 1).await), noise(14, 4096)[4095..]);
    assert_eq!(good(reader.extents(4000, u64::MAX).await).iter().map(|it| it.bytes).sum::<u64>(), 96);
    good(reader.close().await);
}
