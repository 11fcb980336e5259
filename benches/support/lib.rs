//! What the benchmarks share: the documents they write, the two stores they compare, the closed loop that measures, and
//! what the operating system says of the process, and the table that comes of it. Owns no workload: each benchmark has its own.

mod documents;
mod driver;
mod figures;
mod process;
mod stores;

pub use documents::{Bodies, Random, key, shuffled};
pub use driver::{Load, Measured, Workload, run};
pub use figures::{Figures, Goal, Line, Results, median, summary, table};
pub use process::{Others, device_bytes, directory_bytes, machine, resident_bytes, settle};
pub use stores::{Pair, Sizes, load_ours, load_raw, ours_options, raw_options};

#[cfg(test)]
mod tests {
    /// `make bench-peers` builds with `--locked`, and nothing else builds that package: a dependency that the engine got
    /// stopped it.
    #[test]
    fn the_lock_file_of_the_peers_knows_what_the_engine_needs() {
        let manifest = include_str!("../../engine/Cargo.toml");
        let lock = include_str!("../peers/Cargo.lock");
        let needs = manifest.split_once("[dependencies]\n").expect("its dependencies").1;
        let needs = needs.lines().take_while(|line| !line.starts_with('['));
        let package =
            lock.split("[[package]]\n").find(|package| package.starts_with("name = \"etagdb\"\n")).expect("it");
        for need in needs.filter_map(|line| line.split_once('.').map(|(name, _)| name)) {
            let is_there = package.contains(&format!("\"{need}\"")) || package.contains(&format!("\"{need} "));
            assert!(is_there, "{need} is not in benches/peers/Cargo.lock: cargo update --workspace there");
        }
    }
}
