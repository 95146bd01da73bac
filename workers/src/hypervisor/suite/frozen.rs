//! What a reader sees stays as it was: writers are kept out, a running volume is refused, a snapshot is of its instant.

use super::{Fixture, MIB, good, measure, noise, open_reader, read_whole, refused, whole};
use longshore_schema::fault::{Class, code};

pub(super) async fn a_reader_keeps_writers_out<F: Fixture>(pool: &F) {
    pool.make("frozen", MIB as u64, &[(0, noise(15, MIB))]).await;
    let reader = good(open_reader(pool, "frozen", None).await);
    let another = good(open_reader(pool, "frozen", None).await);
    good(reader.close().await);
    assert!(!pool.change("frozen", 0, b"changed").await, "a volume that is read was changed");
    assert!(read_whole(&*another).await == noise(15, MIB));
    good(another.close().await);
    assert!(pool.change("frozen", 0, b"changed").await, "a reader that was closed holds a lock");
    assert_eq!(&whole(pool, "frozen", None).await[..7], b"changed");
}

pub(super) async fn a_volume_that_is_written_is_in_use<F: Fixture>(pool: &F) {
    pool.make("running", MIB as u64, &[]).await;
    let open = pool.open("running").await;
    refused(open_reader(pool, "running", None).await, code::VOLUME_IN_USE, Class::Transient);
    refused(measure(pool, "running", None).await, code::VOLUME_IN_USE, Class::Transient);
    drop(open);
    good(measure(pool, "running", None).await);
}

pub(super) async fn a_snapshot_is_read_as_it_was<F: Fixture>(pool: &F) {
    let mut now = noise(16, MIB);
    pool.make("lively", MIB as u64, &[(0, now.clone())]).await;
    let mut past = vec![];
    for (n, name) in ["first", "second, with=odd name", "1"].into_iter().enumerate() {
        if !pool.snapshot("lively", name).await {
            return refused(open_reader(pool, "lively", Some(name)).await, code::VOLUME_MISSING, Class::Permanent);
        }
        past.push((name, now.clone()));
        let change = noise(17 + n as u64, 100_000);
        assert!(pool.change("lively", n as u64 * 300_000, &change).await);
        now[n * 300_000..][..100_000].copy_from_slice(&change);
    }
    for (name, then) in past {
        assert!(whole(pool, "lively", Some(name)).await == then, "snapshot {name}");
        assert_eq!(good(measure(pool, "lively", Some(name)).await).virtual_size, MIB as u64);
    }
    assert!(whole(pool, "lively", None).await == now);
}
