//! Images that were cut short, dirty ones, and snapshots that share a name: nothing is read as what it isn't.

use super::{super::super::suite::Fixture, *};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// What a reader of the volume sees, or why there is none.
async fn read(pool: &Pool, volume: &str, snapshot: Option<&str>) -> Result<Vec<u8>, Fault> {
    pool.kvm.measure(volume, snapshot, Some(pool.format)).await?;
    let reader = pool.kvm.reader(volume, snapshot, Some(pool.format)).await?;
    let mut bytes = vec![];
    while (bytes.len() as u64) < reader.size() {
        let part = (reader.size() - bytes.len() as u64).min(1 << 20) as u32;
        bytes.extend_from_slice(&reader.read(bytes.len() as u64, part).await?);
    }
    reader.close().await?;
    Ok(bytes)
}

fn cut(pool: &Pool, volume: &str, length: u64) {
    std::fs::File::options().write(true).open(pool.path(volume)).unwrap().set_len(length).unwrap();
}

fn length(pool: &Pool, volume: &str) -> u64 {
    std::fs::metadata(pool.path(volume)).unwrap().len()
}

/// Written by QEMU, in two pieces, with a size that no cluster divides.
fn made(pool: &Pool, options: &str, compressed: bool) -> Vec<u8> {
    let mut data = vec![0; 700_416];
    let mut random = StdRng::seed_from_u64(3);
    random.fill_bytes(&mut data[..200_704]);
    random.fill_bytes(&mut data[600_064..]);
    let raw = pool.folder.path().join("raw");
    std::fs::write(&raw, &data).unwrap();
    let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", options];
    arguments.extend(compressed.then_some("-c"));
    run("qemu-img", &[&arguments[..], &[raw.to_str().unwrap(), &pool.text("whole")]].concat());
    data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_image_is_refused_or_reads_as_the_whole_one() {
    let pool = pool(Format::Qcow2);
    for (options, compressed) in [
        ("cluster_size=64k", false),
        ("cluster_size=512", false),
        ("cluster_size=2M", false),
        ("compat=0.10", false),
        ("extended_l2=on", false),
        ("preallocation=metadata", false),
        ("cluster_size=64k", true),
    ] {
        let data = made(&pool, options, compressed);
        assert!(read(&pool, "whole", None).await.unwrap() == data, "{options}");
        let whole = length(&pool, "whole");
        let (mut refused, mut cuts) = (0, vec![whole - 1, whole - 512, whole / 2, whole / 3, whole / 5, 200_000, 4096]);
        cuts.extend((1..8).map(|n| whole * n / 8));
        for at in cuts {
            std::fs::copy(pool.path("whole"), pool.path("volume")).unwrap();
            cut(&pool, "volume", at);
            match read(&pool, "volume", None).await {
                Ok(bytes) => assert!(bytes == data, "{options}: cut at {at} of {whole}, other bytes were read"),
                Err(fault) => {
                    let cut_off = [code::IMAGE_TRUNCATED, code::IMAGE_INVALID].contains(&&*fault.code);
                    assert!(cut_off && fault.class == Class::Permanent, "{options}: cut at {at} of {whole}: {fault}");
                    refused += usize::from(fault.code == code::IMAGE_TRUNCATED);
                }
            }
        }
        // The others cut so much off that it is told as something else, or nothing that a guest sees.
        assert!(refused >= 3, "{options}: {refused} cuts were told as such");
    }
}

#[tokio::test]
async fn what_lies_before_the_cut_can_still_be_read() {
    let pool = pool(Format::Qcow2);
    pool.make("volume", 1 << 20, &[(0, vec![1; 1 << 17])]).await;
    assert!(pool.snapshot("volume", "old").await);
    assert!(pool.change("volume", 0, &[2; 1 << 17]).await);
    let old = read(&pool, "volume", Some("old")).await.unwrap();
    assert!(old[..1 << 17] == [1; 1 << 17]);
    // What was written last is last in the file.
    cut(&pool, "volume", length(&pool, "volume") - 1);
    let said = refused(pool.kvm.measure("volume", None, Some(pool.format)).await, code::IMAGE_TRUNCATED, Class::Permanent);
    assert!(said.starts_with("volume was cut short"), "{said}");
    assert!(read(&pool, "volume", Some("old")).await.unwrap() == old);
}

#[tokio::test]
async fn a_snapshot_whose_own_clusters_are_cut_off_is_refused_alone() {
    let pool = pool(Format::Qcow2);
    pool.make("volume", 1 << 20, &[(0, vec![1; 1 << 17])]).await;
    assert!(pool.snapshot("volume", "first").await);
    assert!(pool.change("volume", 0, &[2; 1 << 17]).await);
    assert!(pool.snapshot("volume", "second").await);
    // Back to the beginning of the file; what the second one has stays at its end.
    run("qemu-img", &["snapshot", "-a", "first", &pool.text("volume")]);
    let whole = length(&pool, "volume");
    let (present, second) = (read(&pool, "volume", None).await.unwrap(), read(&pool, "volume", Some("second")).await.unwrap());
    assert!(present[..1 << 17] == [1; 1 << 17] && second[..1 << 17] == [2; 1 << 17]);
    // The second's L1 table is said to lie behind the end.
    let mut file = std::fs::read(pool.path("volume")).unwrap();
    let handle = std::fs::File::open(pool.path("volume")).unwrap();
    let header = super::super::qcow2::read(&handle, &file[..65536], whole).unwrap();
    let l1 = header.snapshots[1].map.l1_offset.to_be_bytes();
    let table = super::super::qcow2::u64_at(&file, 64) as usize;
    let at = table + file[table..].windows(8).position(|it| it == l1).unwrap();
    file[at..at + 8].copy_from_slice(&whole.next_multiple_of(65536).to_be_bytes());
    std::fs::write(pool.path("volume"), &file).unwrap();
    refused(pool.kvm.measure("volume", Some("second"), Some(pool.format)).await, code::IMAGE_TRUNCATED, Class::Permanent);
    assert!(read(&pool, "volume", None).await.unwrap() == present);
    assert!(read(&pool, "volume", Some("first")).await.unwrap() == present);
}

#[tokio::test]
async fn a_cut_file_below_the_volume_is_told_by_its_name() {
    let pool = pool(Format::Qcow2);
    pool.make("base", 1 << 20, &[(0, vec![1; 1 << 17])]).await;
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", &pool.text("top"), "1M"]);
    read(&pool, "top", None).await.unwrap();
    cut(&pool, "base", length(&pool, "base") - 65536);
    let said = refused(pool.kvm.reader("top", None, Some(pool.format)).await, code::IMAGE_TRUNCATED, Class::Permanent);
    assert!(said.starts_with("base was cut short"), "{said}");
}

#[tokio::test]
async fn an_image_that_is_dirty_after_a_crash_reads_as_it_is() {
    let pool = pool(Format::Qcow2);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", &pool.text("volume"), "1M"]);
    let mut crash = Command::new("qemu-io");
    crash.args(["-c", "write -q -P 7 0 128k", "-c", "flush", "-c", "abort"]).arg(pool.text("volume"));
    let crashed = crash.output().unwrap();
    assert!(!crashed.status.success());
    assert_eq!(std::fs::read(pool.path("volume")).unwrap()[79] & 1, 1, "it is marked as dirty");
    let bytes = read(&pool, "volume", None).await.unwrap();
    assert!(bytes[..128 << 10] == [7; 128 << 10] && bytes[128 << 10..].iter().all(|it| *it == 0));
}

#[tokio::test]
async fn of_snapshots_with_one_name_none_is_taken_by_chance_and_an_id_selects() {
    let pool = pool(Format::Qcow2);
    pool.make("volume", 1 << 20, &[(0, vec![1; 4096])]).await;
    assert!(pool.snapshot("volume", "same").await);
    assert!(pool.change("volume", 0, &[2; 4096]).await);
    assert!(pool.snapshot("volume", "same").await && pool.snapshot("volume", "1").await);
    let said =
        refused(pool.kvm.measure("volume", Some("same"), Some(pool.format)).await, code::SNAPSHOT_AMBIGUOUS, Class::Permanent);
    assert!(said.contains("snapshot.id=1, snapshot.id=2"), "{said}");
    refused(pool.kvm.reader("volume", Some("same"), Some(pool.format)).await, code::SNAPSHOT_AMBIGUOUS, Class::Permanent);
    for (asked, byte) in [("snapshot.id=1", 1), ("snapshot.id=2", 2), ("1", 2)] {
        let bytes = read(&pool, "volume", Some(asked)).await.unwrap();
        assert!(bytes[..4096] == [byte; 4096], "{asked}");
    }
    for asked in ["2", "snapshot.id=", "snapshot.id=9", "snapshot.id=same"] {
        refused(pool.kvm.measure("volume", Some(asked), Some(pool.format)).await, code::VOLUME_MISSING, Class::Permanent);
    }
    // A name that looks like another one's id.
    assert!(pool.snapshot("volume", "snapshot.id=1").await);
    refused(
        pool.kvm.measure("volume", Some("snapshot.id=1"), Some(pool.format)).await,
        code::SNAPSHOT_AMBIGUOUS,
        Class::Permanent,
    );
}
