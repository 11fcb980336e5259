//! The tester is tested: each of these bugs must turn the power-cut tests red. They live in the shim (a sync that is not
//! done), in the child (a batch split in two) or in the record (an answer before its sync), never in the engine.

use std::mem::discriminant;
use std::time::Instant;

use crate::model::{Demand, Wrong};
use crate::power::{Recorded, Tally, Work, cut_power, judge_kept};
use crate::recorder::{Event, Orders};
use crate::summary;

const CUTS: u64 = 60;

fn work() -> Work {
    Work { seed: 7, batches: 250, ..Work::SYNC }
}

fn with_lie(lie: &'static str) -> Tally {
    let recorded = Recorded::fresh(work(), &Orders { lie: Some(lie), ..Orders::default() });
    cut_power(&recorded, CUTS, Demand::Everything)
}

fn is_red(bug: &str, tally: &Tally, began: Instant) {
    let (wrong, lost, refused) = (tally.wrong.len(), tally.lost(), tally.refused());
    let found = format!("{wrong} red: {lost} lost, {refused} refused");
    summary::row(format!("planted: {bug}"), format!("{} power cuts", tally.cuts), found, "found", began);
    assert!(wrong > 0, "nobody noticed: {bug}");
    for red in tally.wrong.iter().take(3) {
        // What was kept shows the same again, as often as one likes.
        let again = judge_kept(&red.kept).expect_err("it was red");
        assert_eq!(discriminant(&again), discriminant(&red.wrong), "{again:?}");
        red.forget();
    }
}

#[test]
fn a_log_that_is_not_synced_is_noticed() {
    let began = Instant::now();
    is_red("log not synced", &with_lie("log"), began);
}

#[test]
fn sorted_files_that_are_not_synced_are_noticed() {
    let began = Instant::now();
    is_red("sorted files not synced", &with_lie("sst"), began);
}

#[test]
fn a_manifest_that_is_not_synced_is_noticed() {
    let began = Instant::now();
    is_red("MANIFEST not synced", &with_lie("manifest"), began);
}

#[test]
fn directories_that_are_not_synced_are_noticed() {
    let began = Instant::now();
    is_red("directories not synced", &with_lie("dir"), began);
}

#[test]
fn a_current_file_that_is_not_synced_is_noticed() {
    let began = Instant::now();
    is_red("CURRENT not synced", &with_lie("current"), began);
}

/// The other way round: the durable mark may lag as far as it likes. (Its making is synced, at the first opening.)
#[test]
fn a_durable_mark_that_is_not_synced_harms_nothing() {
    let tally = with_lie("durable");
    assert!(tally.wrong.is_empty(), "{:?}", tally.wrong[0]);
}

#[test]
fn answers_that_do_not_wait_for_the_sync_are_noticed() {
    let began = Instant::now();
    let recorded = Recorded::fresh(Work { durability: "buffered", ..work() }, &Orders::default());
    is_red("answers before the sync", &cut_power(&recorded, CUTS, Demand::Everything), began);
}

/// Moves each entry that `moves` picks some places towards the beginning of the record.
fn earlier(recorded: &mut Recorded, places: usize, moves: impl Fn(&Event) -> bool) {
    for at in places..recorded.events.len() {
        if moves(&recorded.events[at]) {
            recorded.events[at - places..=at].rotate_right(1);
        }
    }
}

#[test]
fn a_feed_that_shows_commits_before_they_are_durable_is_noticed() {
    let began = Instant::now();
    let mut recorded = Recorded::fresh(work(), &Orders::default());
    // Only what the feed shows: the writers' answers stay where they are.
    earlier(&mut recorded, 6, |event| matches!(event, Event::Said(said) if said.starts_with("saw")));
    let tally = cut_power(&recorded, 4 * CUTS, Demand::Everything);
    let shown = |wrong: &Wrong| matches!(wrong, Wrong::Lost(what) if what.contains("was shown"));
    assert!(tally.wrong.iter().all(|red| shown(&red.wrong)), "{:?}", tally.wrong[0]);
    is_red("the feed is early", &tally, began);
}

#[test]
fn a_single_early_answer_is_noticed() {
    let began = Instant::now();
    let mut recorded = Recorded::fresh(work(), &Orders::default());
    earlier(&mut recorded, 60, |event| matches!(event, Event::Said(said) if said.starts_with("made")));
    is_red("making a collection is answered early", &cut_power(&recorded, 12 * CUTS, Demand::Everything), began);
}

#[test]
fn a_durable_mark_that_is_ahead_of_the_log_is_noticed() {
    let began = Instant::now();
    let mut recorded = Recorded::fresh(work(), &Orders::default());
    let mut marks = None;
    for at in 0..recorded.events.len() {
        match &recorded.events[at] {
            Event::Open { fd, path, .. } if path.file_name().is_some_and(|name| name == "DURABLE.new") => {
                marks = Some(*fd);
            }
            Event::Open { fd, path, .. } if path.file_name().is_some_and(|name| name == "DURABLE") => marks = Some(*fd),
            Event::Write { fd, at: 0.., .. } if Some(*fd) == marks && at > 400 => {
                recorded.events[at - 4..=at].rotate_right(1);
            }
            _ => {}
        }
    }
    let tally = cut_power(&recorded, 4 * CUTS, Demand::Everything);
    assert!(tally.refused() > 0, "{tally:?}");
    is_red("the mark is ahead", &tally, began);
}

#[test]
fn a_batch_split_in_two_is_noticed() {
    let began = Instant::now();
    let recorded = Recorded::fresh(work(), &Orders { bug: Some("split"), ..Orders::default() });
    let tally = cut_power(&recorded, CUTS, Demand::Everything);
    assert!(tally.wrong.iter().any(|red| matches!(&red.wrong, Wrong::Untrue(what) if what.contains("ends before"))));
    is_red("batches split in two", &tally, began);
}
