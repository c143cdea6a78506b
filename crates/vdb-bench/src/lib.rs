//! vector_db_rs measured beside public libraries on a data set with ground truth.
//!
//! Every contender runs in a process of its own, one after the other, round after round, so that whatever else the
//! machine does hits all alike. Ours are runs of `vdb bench ann --json`, the others of `benchmarks/peers.py`; both print
//! a JSON object per search setting ([`protocol`]). What they said is kept as it was said ([`results`]), and all figures
//! of the table ([`table`]) and of the picture ([`plot`]) follow from that.
#![forbid(unsafe_code)]

pub mod args;
pub mod contenders;
pub mod install;
pub mod machine;
pub mod plot;
pub mod process;
pub mod protocol;
pub mod results;
pub mod table;
