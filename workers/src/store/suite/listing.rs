//! Checks of listing.

use super::{Scratch, bytes};
use crate::store::PutMode;
use futures::{StreamExt, stream};

const MANY: usize = 1100;

pub(super) async fn prefixes(it: Scratch) {
    for (length, name) in ["p/a", "p/ab", "p/a-b", "p/b/c", "pa", "q/p/a"].iter().enumerate() {
        it.put(name, bytes(length, 1), PutMode::Create).await;
    }
    for (prefix, wanted) in [
        ("", vec!["p/a", "p/a-b", "p/ab", "p/b/c", "pa", "q/p/a"]),
        ("p", vec!["p/a", "p/a-b", "p/ab", "p/b/c", "pa"]),
        ("p/", vec!["p/a", "p/a-b", "p/ab", "p/b/c"]),
        ("p/a", vec!["p/a", "p/a-b", "p/ab"]),
        ("p/ab", vec!["p/ab"]),
        ("p/a/", vec![]),
        ("p/b", vec!["p/b/c"]),
        ("p/b/", vec!["p/b/c"]),
        ("p/b/c", vec!["p/b/c"]),
        ("p/b/c/", vec![]),
        ("z", vec![]),
        ("z/z/", vec![]),
    ] {
        let found = it.list(prefix).await.into_iter().map(|(key, _)| key);
        let wanted: Vec<_> = wanted.into_iter().map(|name| it.key(name)).collect();
        assert_eq!(found.collect::<Vec<_>>(), wanted, "{prefix:?}");
    }
    assert_eq!(it.list("q/").await, [(it.key("q/p/a"), 5)]);
}

pub(super) async fn pages(it: Scratch) {
    let puts = (0..MANY).map(|n| {
        let it = &it;
        async move { it.put(&name(n), bytes(n % 7, 1), PutMode::Create).await }
    });
    stream::iter(puts).buffer_unordered(32).for_each(|_| async {}).await;
    let mut wanted: Vec<_> = (0..MANY).map(|n| (it.key(&name(n)), n as u64 % 7)).collect();
    wanted.sort();
    for _ in 0..2 {
        assert!(it.list("").await == wanted, "every key, once, with its length");
        // Who stops listening early does no harm to the next.
        let prefix = it.key("");
        assert!(it.store.list(&prefix).next().await.expect("an entry").is_ok());
    }
}

fn name(n: usize) -> String {
    format!("d{}/{n}", n % 5)
}
