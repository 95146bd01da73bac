//! Chains, sizes that changed, and daemons that die.

use super::{super::super::suite, super::super::suite::Fixture, *};
use bytes::Bytes;

/// What a reader of the volume sees.
async fn whole(pool: &Pool, volume: &str, snapshot: Option<&str>) -> Vec<u8> {
    let reader = pool.kvm.reader(volume, snapshot, Some(pool.format)).await.unwrap();
    let bytes = suite::read_whole(&*reader).await;
    reader.close().await.unwrap();
    bytes
}

fn filled(parts: &[(u8, usize)]) -> Vec<u8> {
    parts.iter().flat_map(|(byte, count)| std::iter::repeat_n(*byte, *count)).collect()
}

const KIB: usize = 1 << 10;

/// `raw-base` <- `middle` <- `top`, each with a part of its own; named relatively, and by the whole path.
async fn chain(pool: &Pool) -> Vec<u8> {
    std::fs::write(pool.path("raw-base"), filled(&[(1, 300 * KIB)])).unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "raw-base", "-F", "raw", &pool.text("middle"), "400k"]);
    assert!(pool.io("middle", "write -q -P 2 100k 100k"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &pool.text("middle"), "-F", "qcow2", &pool.text("top"), "500k"]);
    assert!(pool.io("top", "write -q -P 3 150k 10k"));
    filled(&[(1, 100 * KIB), (2, 50 * KIB), (3, 10 * KIB), (2, 40 * KIB), (1, 100 * KIB), (0, 200 * KIB)])
}

#[tokio::test]
async fn a_volume_with_backing_files_reads_as_the_whole() {
    let pool = pool(Format::Qcow2);
    let expected = chain(&pool).await;
    assert!(whole(&pool, "top", None).await == expected);
    assert!(pool.snapshot("top", "then").await);
    assert!(pool.io("top", "write -q -P 4 0 500k"));
    assert!(whole(&pool, "top", Some("then")).await == expected);
    assert_eq!(pool.kvm.measure("top", None, Some(pool.format)).await.unwrap().allocated, 500 * KIB as u64);
}

#[tokio::test]
async fn nothing_in_a_chain_is_written_while_it_is_read() {
    let pool = pool(Format::Qcow2);
    chain(&pool).await;
    let raw_base = |command: &str| {
        let done = Command::new("qemu-io").args(["-f", "raw", "-c", command, &pool.text("raw-base")]).output().unwrap();
        done.status.success()
    };
    for snapshot in [None, Some("then")] {
        if snapshot.is_some() {
            assert!(pool.snapshot("top", "then").await);
        }
        let reader = pool.kvm.reader("top", snapshot, Some(pool.format)).await.unwrap();
        for member in ["top", "middle"] {
            assert!(!pool.io(member, "write -q 0 512"), "{member} was written while {snapshot:?} is read");
        }
        assert!(!raw_base("write -q 0 512"), "the base was written while {snapshot:?} is read");
        reader.close().await.unwrap();
    }
    assert!(raw_base("write -q 0 512"));
}

#[tokio::test]
async fn a_chain_whose_base_is_open_is_in_use() {
    let pool = pool(Format::Qcow2);
    chain(&pool).await;
    let open = pool.open("middle").await;
    refused(pool.kvm.reader("top", None, Some(pool.format)).await, code::VOLUME_IN_USE, Class::Transient);
    drop(open);
    pool.kvm.measure("top", None, Some(pool.format)).await.unwrap();
}

#[tokio::test]
async fn a_volume_below_another_is_not_removed() {
    let pool = pool(Format::Qcow2);
    let draft = Draft { volume: "base".into(), operation: OperationId::new(), attempt: 1 };
    pool.kvm.writer(&draft, 1 << 20, Format::Qcow2).await.unwrap().finish().await.unwrap();
    let identity = pool.kvm.publish(&draft).await.unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", &pool.text("top")]);
    let said = refused(pool.kvm.remove("base", draft.operation, Some(&identity)).await, code::VOLUME_IN_USE, Class::Transient);
    assert!(said.contains("top"), "{said}");
    std::fs::remove_file(pool.path("top")).unwrap();
    pool.kvm.remove("base", draft.operation, Some(&identity)).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_keeps_the_size_it_had() {
    let pool = pool(Format::Qcow2);
    pool.make("volume", 10 << 20, &[(9 << 20, vec![7; 1 << 20])]).await;
    assert!(pool.snapshot("volume", "large").await);
    run("qemu-img", &["resize", "-q", "--shrink", &pool.text("volume"), "1M"]);
    assert!(pool.snapshot("volume", "small").await);
    run("qemu-img", &["resize", "-q", &pool.text("volume"), "20M"]);
    assert!(pool.io("volume", "write -q -P 9 0 20M"));
    assert!(whole(&pool, "volume", Some("large")).await == filled(&[(0, 9 << 20), (7, 1 << 20)]));
    assert!(whole(&pool, "volume", Some("small")).await == vec![0; 1 << 20]);
    assert!(whole(&pool, "volume", None).await == vec![9; 20 << 20]);
}

#[tokio::test]
async fn images_of_all_versions_and_cluster_sizes_are_read() {
    for options in
        ["compat=0.10", "cluster_size=512", "cluster_size=2M", "extended_l2=on", "compression_type=zstd", "lazy_refcounts=on"]
    {
        let pool = pool(Format::Qcow2);
        run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &pool.text("volume"), "3M"]);
        assert!(pool.io("volume", "write -q -P 5 1M 1M"));
        assert!(pool.snapshot("volume", "then").await, "{options}");
        assert!(pool.io("volume", "write -q -P 6 0 3M"));
        assert!(whole(&pool, "volume", Some("then")).await == filled(&[(0, 1 << 20), (5, 1 << 20), (0, 1 << 20)]), "{options}");
        assert!(whole(&pool, "volume", None).await == vec![6; 3 << 20], "{options}");
    }
}

#[tokio::test]
async fn bitmaps_of_backups_are_no_obstacle() {
    let pool = pool(Format::Qcow2);
    pool.make("volume", 3 << 20, &[(0, vec![1; 1 << 20])]).await;
    run("qemu-img", &["bitmap", "--add", &pool.text("volume"), "since-monday"]);
    assert!(pool.snapshot("volume", "then").await);
    assert!(pool.io("volume", "write -q -P 2 0 3M"));
    assert!(whole(&pool, "volume", Some("then")).await == filled(&[(1, 1 << 20), (0, 2 << 20)]));
    assert!(whole(&pool, "volume", None).await == vec![2; 3 << 20]);
    run("qemu-img", &["check", "-q", &pool.text("volume")]);
}

#[tokio::test]
async fn a_volume_that_vanishes_is_read_to_the_end_and_then_missing() {
    let pool = pool(Format::Qcow2);
    pool.make("volume", 1 << 20, &[(0, vec![8; 1 << 20])]).await;
    let reader = pool.kvm.reader("volume", None, Some(pool.format)).await.unwrap();
    std::fs::remove_file(pool.path("volume")).unwrap();
    assert!(suite::read_whole(&*reader).await == vec![8; 1 << 20]);
    reader.close().await.unwrap();
    refused(pool.kvm.reader("volume", None, Some(pool.format)).await, code::VOLUME_MISSING, Class::Permanent);
}

#[tokio::test]
async fn a_file_that_is_changed_around_the_locks_is_told_of_at_the_end() {
    let pool = pool(Format::Qcow2);
    pool.make("volume", 8 << 20, &[(0, vec![8; 8 << 20])]).await;
    let reader = pool.kvm.reader("volume", None, Some(pool.format)).await.unwrap();
    std::fs::File::options().write(true).open(pool.path("volume")).unwrap().set_len(1 << 20).unwrap();
    // QEMU reads zeros past the end of its file, without a word.
    assert!(reader.read(0, 8 << 20).await.is_ok());
    refused(reader.close().await, code::VOLUME_READ_FAILED, Class::Transient);
}

#[tokio::test]
async fn a_reader_that_is_dropped_gives_back_its_lock() {
    let pool = pool(Format::Raw);
    pool.make("volume", 1 << 20, &[]).await;
    drop(pool.kvm.reader("volume", None, Some(pool.format)).await.unwrap());
    while !pool.io("volume", "write -q 0 512") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_draft_that_was_discarded_under_its_writer_is_never_finished() {
    for format in [Format::Qcow2, Format::Raw] {
        let pool = pool(format);
        let draft = Draft { volume: "volume".into(), operation: OperationId::new(), attempt: 3 };
        let writer = pool.kvm.writer(&draft, 1 << 20, format).await.unwrap();
        pool.kvm.discard(draft.operation).await.unwrap();
        writer.write(0, Bytes::from_static(b"late")).await.unwrap();
        assert!(writer.finish().await.is_err());
        assert!(pool.names().await.is_empty());
    }
}

#[tokio::test]
async fn an_attempt_takes_the_room_of_those_before_it_and_never_of_later_ones() {
    let pool = pool(Format::Raw);
    let operation = OperationId::new();
    let draft = |attempt| Draft { volume: "volume".into(), operation, attempt };
    for (attempt, left) in [(1, vec![1]), (3, vec![3]), (2, vec![2, 3])] {
        drop(pool.kvm.writer(&draft(attempt), 1 << 20, Format::Raw).await.unwrap());
        let mut names = pool.names().await;
        names.sort();
        assert_eq!(names, left.iter().map(|it| name::draft(operation, *it)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_pool_that_is_not_there_is_unreachable() {
    let kvm = Kvm::new("/nonexistent/pool".into());
    let (unreachable, transient) = (code::POOL_UNREACHABLE, Class::Transient);
    refused(kvm.ping().await, unreachable, transient);
    refused(kvm.measure("volume", None, None).await, unreachable, transient);
    refused(kvm.discard(OperationId::new()).await, unreachable, transient);
    refused(kvm.remove("volume", OperationId::new(), None).await, unreachable, transient);
    let draft = Draft { volume: "volume".into(), operation: OperationId::new(), attempt: 1 };
    refused(kvm.writer(&draft, 512, Format::Raw).await, unreachable, transient);
    refused(kvm.publish(&draft).await, unreachable, transient);
}

#[tokio::test]
async fn a_pool_whose_path_is_odd_works() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a,b=c \"d\" json:{} ü");
    std::fs::create_dir(&directory).unwrap();
    let kvm = Kvm::new(directory.clone());
    for (n, format) in [Format::Qcow2, Format::Raw].into_iter().enumerate() {
        let draft = Draft { volume: format!("volume-{n}"), operation: OperationId::new(), attempt: 1 };
        let writer = kvm.writer(&draft, 4096, format).await.unwrap();
        writer.write(0, Bytes::from_static(b"here")).await.unwrap();
        writer.finish().await.unwrap();
        let identity = kvm.publish(&draft).await.unwrap();
        let reader = kvm.reader(&draft.volume, None, Some(format)).await.unwrap();
        assert_eq!(&reader.read(0, 5).await.unwrap()[..], b"here\0");
        reader.close().await.unwrap();
        kvm.remove(&draft.volume, draft.operation, Some(&identity)).await.unwrap();
        kvm.discard(draft.operation).await.unwrap();
    }
    assert!(names(&directory).is_empty());
}
