//! The commands of the program, one module each.

mod bench;
mod churn;
mod collection;
mod concurrent;
mod demo;
mod import;
mod info;
mod quantizers;
mod search;

use crate::args::{Args, Bench, Command, DemoArgs, IndexArgs, IndexName};
use std::io::Write;
use vector_db_rs::{Metric, VectorDB, VectorDBBuilder};

/// Runs the command that the arguments name, writing its results to `out`.
///
/// # Errors
/// A sentence for the user; nothing is left half done.
pub fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command.unwrap_or(Command::Demo(DemoArgs::default())) {
        Command::Demo(args) => demo::run(&args, out),
        Command::Import(args) => match &args.collection {
            Some(name) => collection::import(&args, name, out),
            None => import::run(&args, out),
        },
        Command::Export(args) => collection::export(&args, out),
        Command::Search(args) => match &args.collection {
            Some(name) => collection::search(&args, name, out),
            None => search::run(&args, out),
        },
        Command::Info(args) => match &args.db {
            Some(folder) => collection::info(folder, args.json, out),
            None => info::run(&args, out),
        },
        Command::Check(args) => collection::check(&args, out),
        Command::Compact(args) => collection::compact(&args, out),
        Command::Snapshot(args) => collection::snapshot(&args, out),
        Command::Restore(args) => collection::restore(&args, out),
        Command::Bench(args) => match args.bench {
            Bench::Ann(args) => bench::run(&args, out),
            Bench::Quantizers(args) => quantizers::run(&args, out),
            Bench::Churn(args) => churn::run(&args, out),
            Bench::Concurrent(args) => concurrent::run(&args, out),
            Bench::Embedded(args) => collection::embedded(&args, out),
        },
    }
}

fn builder(dimension: usize, metric: Metric, index: IndexName, parameters: &IndexArgs) -> VectorDBBuilder {
    let builder = VectorDB::builder()
        .dimension(dimension)
        .metric(metric)
        .index(index.into())
        .profile(parameters.graph.profile.into())
        .ef_construction(parameters.graph.ef_construction)
        .lsh_family(parameters.lsh_family.into())
        .num_tables(parameters.num_tables)
        .num_functions(parameters.num_functions)
        .subspaces(parameters.subspaces)
        .bits(parameters.bits)
        .spill(parameters.spill)
        .seed(parameters.seed);
    let builder = match parameters.graph.m {
        Some(m) => builder.m(m),
        None => builder,
    };
    let builder = match parameters.lists {
        Some(lists) => builder.lists(lists),
        None => builder,
    };
    match parameters.quantizer {
        Some(quantizer) => builder.quantizer(quantizer),
        None => builder,
    }
}
