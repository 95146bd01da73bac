//! Makes a failing schedule small: leaves out one command or fault after the other, as long as it still fails.

use super::{
    schedule::{Failure, Options, run},
    setup::Place,
};

/// The smallest options found with which the seed still fails, and how.
pub async fn shrink(place: &Place, seed: u64, options: &Options, failure: Failure) -> (Options, Failure) {
    let (mut smallest, mut found) = (options.clone(), failure);
    loop {
        let before = (smallest.without_commands.len(), smallest.without_faults.len());
        for which in (0..found.ran.commands).rev() {
            let mut fewer = smallest.clone();
            if fewer.without_commands.insert(which) {
                try_fewer(place, seed, fewer, &mut smallest, &mut found).await;
            }
        }
        for fault in (1..=found.ran.faults).rev() {
            let mut fewer = smallest.clone();
            if fewer.without_faults.insert(fault) {
                try_fewer(place, seed, fewer, &mut smallest, &mut found).await;
            }
        }
        if before == (smallest.without_commands.len(), smallest.without_faults.len()) {
            break;
        }
    }
    let traced = Options { trace: true, ..smallest.clone() };
    match run(place, seed, &traced).await {
        Err(failure) => (smallest, failure),
        Ok(_) => (smallest, found),
    }
}

async fn try_fewer(place: &Place, seed: u64, fewer: Options, smallest: &mut Options, found: &mut Failure) {
    if let Err(failure) = run(place, seed, &fewer).await {
        (*smallest, *found) = (fewer, failure);
    }
}
