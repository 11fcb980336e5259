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
