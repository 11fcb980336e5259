//! The official Rust SDK, unmodified and with its default transport (HTTP/2 with prior knowledge, binary JSON bodies),
//! against a running server: what it must be answered.
//!
//! usage: `sdk-rust ENDPOINT [KEY]` (or the environment: `COSMOS_ENDPOINT`, `COSMOS_KEY`)
//!        `sdk-rust ENDPOINT KEY conformance` prints the cells of CONFORMANCE.md instead
//!        `sdk-rust ENDPOINT KEY storm CLIENTS DOCUMENTS` is one part of the storm
//!
//! Every check makes its own items, so that one failure explains one thing. The program prints one line a check and a
//! summary, and exits 1 unless every check passed. The JavaScript and Python programs beside it make the same checks
//! under the same names, except where an SDK does not offer the operation (here bulk).

mod checks;
mod conformance;
mod feeds;
mod patches;
mod policies;
mod scene;
mod storm;

use std::process::ExitCode;

use scene::{Outcome, Scene};

const EMULATOR_KEY: &str = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";

/// How many checks passed and failed so far.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    /// Prints one check's line and counts it.
    fn record(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Ok(()) => {
                println!("ok {name}");
                self.passed += 1;
            }
            Err(reason) => {
                println!("FAILED {name}: {}", reason.replace('\n', " | "));
                self.failed += 1;
            }
        }
    }
}

/// Runs the named checks of a module one after another.
macro_rules! run {
    ($tally:expr, $scene:expr, $module:ident: $($name:ident),+ $(,)?) => {
        $($tally.record(stringify!($name), $module::$name($scene).await);)+
    };
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(endpoint) = arguments.next().or_else(|| std::env::var("COSMOS_ENDPOINT").ok()) else {
        eprintln!("usage: sdk-rust ENDPOINT [KEY]");
        return ExitCode::from(2);
    };
    let key = arguments.next().or_else(|| std::env::var("COSMOS_KEY").ok()).unwrap_or_else(|| EMULATOR_KEY.to_owned());

    let mode = arguments.next();
    if mode.as_deref() == Some("storm") {
        let mut number = || -> Option<u64> { arguments.next().and_then(|text| text.parse().ok()) };
        let (Some(clients), Some(documents)) = (number(), number()) else {
            eprintln!("usage: sdk-rust ENDPOINT KEY storm CLIENTS DOCUMENTS");
            return ExitCode::from(2);
        };
        return ended(storm::run(&endpoint, &key, clients as usize, documents).await);
    }

    let mut tally = Tally::default();
    match Scene::open(&endpoint, &key).await {
        Ok(scene) if mode.as_deref() == Some("conformance") => return ended(conformance::print(&scene).await),
        Ok(scene) => {
            run!(
                tally,
                &scene,
                checks: create_answers_201_and_an_etag,
                create_of_an_existing_item_is_409,
                read_with_the_current_etag_is_304,
                replace_with_the_current_etag_is_200,
                replace_with_a_stale_etag_is_412,
                a_write_of_the_same_body_changes_the_etag,
                upsert_with_the_current_etag_is_200,
                upsert_with_a_stale_etag_is_412,
                upsert_without_a_condition_is_last_write_wins,
                upsert_of_an_absent_item_ignores_the_etag,
                delete_with_a_stale_etag_is_412_and_with_the_current_one_204,
                an_etag_does_not_outlive_its_document,
                missing_items_are_404_with_or_without_an_etag,
                one_etag_admits_one_of_two_writers,
                racing_increments_lose_no_update,
                item_ids_may_hold_any_text,
                hierarchical_partition_keys,
                null_missing_and_text_partition_keys_differ,
                pages_hold_every_item_once,
                queries_take_parameters,
                queries_merge_partition_key_ranges,
                a_batch_is_applied_whole,
                a_failed_batch_writes_nothing,
                a_write_returns_the_document_when_asked,
                a_wrong_key_is_401,
            );
            run!(
                tally,
                &scene,
                patches: a_patch_obeys_the_etag,
                a_patch_that_cannot_be_applied_changes_nothing,
                racing_patches_lose_no_update,
            );
            run!(
                tally,
                &scene,
                feeds: the_change_feed_tells_each_changed_item_once,
                all_versions_and_deletes_are_told,
            );
            run!(tally, &scene, policies: unique_keys_are_kept, items_live_as_long_as_they_are_told);
            if let Err(reason) = scene.close().await {
                tally.record("clean-up", Err(reason));
            }
        }
        Err(reason) => tally.record("set-up", Err(reason)),
    }
    println!("sdk rust: {} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the process ends with when it was not asked for the checks.
fn ended(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}
