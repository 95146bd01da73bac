//! Damage anywhere is found, and wrong bytes are never given out.

use super::{
    disk::Disk,
    rig::{Rig, base},
};
use crate::datapath::{
    counts::check_counts,
    format::{aborted_key, ready_key},
};
use longshore_schema::{
    fault::{Class, Fault, code},
    ids::{OperationId, PackId},
    steps::object::Copied,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Two backups with raw, packed and sparse extents, zeros, pages of two levels and pages taken over.
async fn example(rig: &Rig) -> (Disk, OperationId, Copied) {
    let mut disk = Disk::of_size(150 * 65_536);
    disk.change(0, 0, 400_000, 1);
    disk.change(1, 500_000, 300_000, 1);
    for sector in (900_000..1_000_000).step_by(1024) {
        disk.change(0, sector, 512, sector as u64);
    }
    disk.change(0, 140 * 65_536, 300_000, 2);
    let (first, copied) = rig.backup(&disk, None).await;
    disk.change(0, 600_000, 10_000, 3);
    let (object, copied) = rig.backup(&disk, base(first, &copied)).await;
    (disk, object, copied)
}

fn is_damage(fault: &Fault) -> bool {
    [code::OBJECT_CORRUPT, code::OBJECT_MISSING].contains(&fault.code.as_str()) && fault.class == Class::Permanent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_anywhere_is_found_and_wrong_bytes_are_never_given_out() {
    let rig = Rig::new(64).await;
    let (disk, object, copied) = example(&rig).await;
    let root = crate::datapath::manifest::load_root(&rig.store, object, &copied.root).await.unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut keys: Vec<String> = root.packs.iter().map(|pack| pack.id.key()).collect();
    assert_eq!(keys.len(), 4);
    keys.push(format!("objects/{object}/1.manifest"));
    let (mut refused, mut harmless) = (0, 0);
    for key in keys {
        let path = rig.path(&key);
        let good = std::fs::read(&path).unwrap();
        // Everywhere, and more often in the last bytes, where footers and roots have their structure.
        for number in 0..80 {
            let from = if number % 2 == 0 { 0 } else { good.len().saturating_sub(400) };
            let at = random.random_range(from..good.len());
            let mut bad = good.clone();
            bad[at] ^= 1 << random.random_range(0..8);
            std::fs::write(&path, bad).unwrap();
            match rig.restore(object, &copied.root).await {
                Ok(bytes) => assert!(bytes == disk.bytes, "wrong bytes after a flip at {at} of {key}"),
                Err(fault) => assert!(is_damage(&fault), "{fault}"),
            }
            match rig.verify(object, &copied.root).await {
                Err(fault) => {
                    assert!(is_damage(&fault), "{fault}");
                    refused += 1;
                }
                Ok(_) => harmless += 1,
            }
        }
        std::fs::write(&path, good).unwrap();
    }
    // A frame that was the base's alone by now isn't this object's, and a few bits of zstd's headers say nothing.
    assert!(refused > 300 && harmless < 100, "{refused} {harmless}");
    rig.verify(object, &copied.root).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_or_missing_part_is_found_by_restore_and_verify_and_before_a_commit() {
    let rig = Rig::new(64).await;
    let (_, object, copied) = example(&rig).await;
    let root = crate::datapath::manifest::load_root(&rig.store, object, &copied.root).await.unwrap();
    let mut keys: Vec<String> = root.packs.iter().map(|pack| pack.id.key()).collect();
    keys.push(format!("objects/{object}/1.manifest"));
    rig.store.delete(&format!("objects/{object}/ready")).await.unwrap();
    for key in keys {
        let own = PackId::of_key(&key).is_none_or(|pack| pack.operation == object);
        let path = rig.path(&key);
        let good = std::fs::read(&path).unwrap();
        for kept in [0, 1, good.len() / 2, good.len() - 1] {
            std::fs::write(&path, &good[..kept]).unwrap();
            assert!(is_damage(&rig.verify(object, &copied.root).await.unwrap_err()), "{kept} of {key}");
            if own {
                assert!(is_damage(&rig.commit(object, &copied.root).await.unwrap_err()), "{kept} of {key}");
            }
        }
        std::fs::remove_file(&path).unwrap();
        let fault = rig.verify(object, &copied.root).await.unwrap_err();
        assert_eq!(fault.code, code::OBJECT_MISSING);
        assert!(fault.message.contains(&key), "{fault}");
        assert_eq!(rig.restore(object, &copied.root).await.unwrap_err().code, code::OBJECT_MISSING);
        if own {
            assert_eq!(rig.commit(object, &copied.root).await.unwrap_err().code, code::OBJECT_MISSING);
        }
        std::fs::write(&path, good).unwrap();
    }
    assert!(rig.store.head(&format!("objects/{object}/ready")).await.unwrap().is_none());
    rig.commit(object, &copied.root).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_with_another_ones_bytes_is_found() {
    let rig = Rig::new(64).await;
    let (_, object, copied) = example(&rig).await;
    let root = crate::datapath::manifest::load_root(&rig.store, object, &copied.root).await.unwrap();
    let paths: Vec<_> = root.packs.iter().map(|pack| rig.path(&pack.id.key())).collect();
    let (first, second) = (std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[2]).unwrap());
    std::fs::write(&paths[0], second).unwrap();
    std::fs::write(&paths[2], first).unwrap();
    assert!(is_damage(&rig.verify(object, &copied.root).await.unwrap_err()));
    assert!(is_damage(&rig.restore(object, &copied.root).await.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_counts_only_as_its_markers_say() {
    let rig = Rig::new(64).await;
    let disk = Disk::random(1 << 20, 1);
    let (object, copied) = rig.backup(&disk, None).await;
    let (other, others) = rig.backup(&disk, None).await;
    let code = async || check_counts(&rig.store, object, &copied.root).await.err().map(|it| it.code);
    let (corrupt, missing) = (Some(code::OBJECT_CORRUPT.to_owned()), Some(code::OBJECT_MISSING.to_owned()));
    assert_eq!(code().await, None);
    assert_eq!(check_counts(&rig.store, object, &others.root).await.unwrap_err().code, code::OBJECT_CORRUPT);
    let (ready, aborted) = (rig.path(&ready_key(object)), rig.path(&aborted_key(object)));
    let good = std::fs::read(&ready).unwrap();
    for wrong in [&b""[..], b"{}", b"ready", &std::fs::read(rig.path(&ready_key(other))).unwrap()] {
        std::fs::write(&ready, wrong).unwrap();
        assert_eq!(code().await, corrupt, "{wrong:?}");
    }
    std::fs::write(&ready, &good).unwrap();
    std::fs::write(&aborted, b"").unwrap();
    assert_eq!(code().await, corrupt);
    // It isn't taken as a base either.
    let full = rig.copy(&disk, OperationId::new(), 1, base(object, &copied)).await.unwrap();
    assert!(full.reused == 0 && full.because.as_ref().is_some_and(|it| it.contains("aborted")), "{full:?}");
    std::fs::remove_file(&aborted).unwrap();
    std::fs::remove_file(&ready).unwrap();
    assert_eq!(code().await, missing);
    let full = rig.copy(&disk, OperationId::new(), 1, base(object, &copied)).await.unwrap();
    assert!(full.reused == 0 && full.because.as_ref().is_some_and(|it| it.contains("isn't there")), "{full:?}");
}
