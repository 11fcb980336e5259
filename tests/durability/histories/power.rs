//! What clients saw before a power cut, and what is there after it.

use std::time::Instant;

use super::history::History;
use super::{first_seed, judge, refuse, seconds};
use crate::disk::{Disk, Image, Names, POLICIES, write_image};
use crate::power::threads;
use crate::random::Random;
use crate::recorder::{Event, Orders, memory_dir, record_program};
use crate::summary;

/// How many power cuts of each recorded life.
const CUTS: usize = 32;

/// What everybody was shown before the power went is there afterwards, in the order in which they saw it.
#[test]
fn what_clients_saw_before_a_power_cut_is_one_order_with_what_is_there_after_it() {
    let (began, first) = (Instant::now(), first_seed(0x706f_7765));
    let (mut seed, mut cuts, mut operations) = (first, 0, 0);
    while seed == first || began.elapsed() < seconds() {
        let (made, asked) = cut(seed);
        cuts += made;
        operations += asked;
        seed += 1;
    }
    let test = format!("histories up to power cuts, seeds {first} to {}", seed - 1);
    summary::row(test, format!("{cuts} cuts"), format!("{operations} operations"), 0, began);
}

/// Records a life, and cuts its power in many places.
pub(super) fn cut(seed: u64) -> (usize, usize) {
    let root = memory_dir();
    let store = root.path().join("store").display().to_string();
    let program = env!("CARGO_BIN_EXE_history-child");
    // Life 0 is synced: what was shown must stay.
    let events =
        record_program(program, root.path(), &Orders::default(), &[&store, &seed.to_string(), "0", "150", "1"]);
    let mut random = Random::new(seed);
    let mut moments: Vec<(usize, u64)> =
        (0..CUTS).map(|_| (random.below(events.len() as u64 + 1) as usize, random.next())).collect();
    moments.sort_unstable();
    let threads = threads();
    let sums: Vec<usize> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (events, moments, root) = (&events, &moments, root.path());
                scope.spawn(move || {
                    let names = if thread % 2 == 0 { Names::Strict } else { Names::Ordered };
                    let mut disk = Disk::new(root, names, &Image::new());
                    let (mut heard, mut done, mut sum) = (History::default(), 0, 0);
                    for &(moment, choice) in moments.iter().skip(thread).step_by(threads) {
                        for event in &events[done..moment] {
                            disk.apply(event);
                            if let Event::Said(said) = event {
                                said.lines().for_each(|line| heard.hear_line(line));
                            }
                        }
                        done = moment;
                        let mut random = Random::new(choice);
                        let image = disk.cut(POLICIES[random.below(4) as usize], &mut random);
                        let mut history = heard.clone();
                        history.everybody_died();
                        let dir = memory_dir();
                        write_image(&image, dir.path());
                        if let Err(wrong) = history.conclude(&dir.path().join("store")) {
                            refuse(&format!("power {seed}"), &history, dir, &format!("moment {moment}: {wrong}"));
                        }
                        sum += history.size().0;
                        judge(&format!("power {seed}"), &history, dir);
                    }
                    sum
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    (moments.len(), sums.into_iter().sum())
}
