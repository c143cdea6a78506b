"""Measure the quantizers of vector_db_rs beside FAISS's at the same bytes per vector, and write the tables of
docs/quantizers.md.

    pip install numpy faiss-cpu
    cargo build --release
    python benchmarks/quantizers.py --data DIR --sets NAME,... --train                     FAISS trains, once
    python benchmarks/quantizers.py --data DIR --sets NAME,... [--codes CODE,...] [--rounds 2] [--first ROWS]
    python benchmarks/quantizers.py --write                                                tables into the page

DIR/NAME holds base.*, query.* and gt.ibin, the layout of the big-ann benchmarks, and stats.json. A code of ours and
those of FAISS that weigh the same are measured in processes of their own, one after the other, round after round. Every
measurement is a line that is added to --results, and tables are of the medians of all lines there, so codes can be
measured one at a time, in short runs when the machine is quiet. Lines of other sets, codes and commits stay; take away
what is out of date by --forget, which removes the lines of the chosen codes and sets first.

With --first, base and truth are the first so many rows. Queries go one at a time on one thread. What FAISS has trained
lies in --cache, as its k-means takes minutes where ours takes seconds.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

from peers import read_truth, read_vectors

ROOT = pathlib.Path(__file__).resolve().parent.parent
VDB = ROOT / "target" / "release" / "vdb"
DOC = ROOT / "docs" / "quantizers.md"
MARK = "<!-- tables: benchmarks/quantizers.py --write -->"
K = 10
# Rows that FAISS trains on where its own bound would take minutes: 256 centroids a piece.
SLOW_TRAINING_ROWS = 16_384
# Coding that takes longer than this many seconds is measured once and on two threads only.
LONG_CODING_S = 4.0

# Ours, and FAISS's factory strings at about the same bytes, with shares of the dimension.
PAIRS = {
    "sq8": ["SQ8"],
    "sq4": ["SQ4"],
    "pq4": ["PQ{half}x4fs", "PQ{half}x4"],
    "pq8": ["PQ{quarter}x8"],
    "opq": [],
    "rabitq1": ["RaBitQ"],
    "rabitq2": ["RaBitQ2"],
    "rabitq4": ["RaBitQ4"],
    "rabitq8": ["RaBitQ8"],
    "binary": [],
    "f16": ["SQfp16"],
    "bf16": ["SQbf16"],
}


def load(args, name):
    """Base, queries and true neighbours as FAISS is given them: normalised under cosine."""
    import numpy as np

    folder = pathlib.Path(args.data) / name
    base, queries = read_vectors(folder / "base"), read_vectors(folder / "query")[: args.queries]
    if json.loads((folder / "stats.json").read_text())["metric"] != "l2":
        base /= np.linalg.norm(base, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    if args.first is None:
        return base, queries, read_truth(folder / "gt.ibin", K)[0][: args.queries]
    import faiss

    base = base[: args.first]
    return base, queries, faiss.knn(queries, base, K)[1]


def cached(args, name, factory):
    return pathlib.Path(args.cache) / f"{name}-{args.first or 'all'}-{factory}"


def train(args, name, factory, base):
    import faiss

    faiss.omp_set_num_threads(2)
    index = faiss.index_factory(base.shape[1], factory)
    start = time.perf_counter()
    index.train(base[:SLOW_TRAINING_ROWS] if factory.endswith("x8") else base)
    took = time.perf_counter() - start
    path = cached(args, name, factory)
    path.parent.mkdir(parents=True, exist_ok=True)
    faiss.write_index(index, str(path))
    path.with_suffix(".json").write_text(json.dumps({"train_s": took}))
    print(f"{name} {factory}: trained in {took:.1f} s", file=sys.stderr)


def train_all(args):
    for name in args.sets.split(","):
        base = load(args, name)[0]
        dim = base.shape[1]
        for code in chosen(args):
            for factory in PAIRS[code]:
                factory = factory.format(half=dim // 2, quarter=dim // 4)
                if not cached(args, name, factory).exists():
                    train(args, name, factory, base)


def run_faiss(args):
    """Child process: one FAISS code; prints a JSON line."""
    import faiss

    base, queries, truth = load(args, args.sets)
    dim = base.shape[1]
    factory = args.faiss.format(half=dim // 2, quarter=dim // 4)
    path = cached(args, args.sets, factory)
    if not path.exists():
        sys.exit(f"{path} is not there: --train makes it")
    index = faiss.read_index(str(path))

    def coding_s(threads):
        faiss.omp_set_num_threads(threads)
        start = time.perf_counter()
        index.add(base)
        return time.perf_counter() - start

    # The first time, memory for the codes is asked for; ours is measured with memory that is there.
    on_one, on_two = None, coding_s(2)
    if on_two < LONG_CODING_S:
        index.reset()
        on_one = coding_s(1)
        index.reset()
        on_two = coding_s(2)
    faiss.omp_set_num_threads(1)
    times, found = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(index.search(query[None], 4 * K)[1][0])
        times.append(time.perf_counter() - start)
    recall = lambda taken: sum(len(set(f[:taken]) & set(t)) for f, t in zip(found, truth)) / (len(queries) * K)
    coder = index if hasattr(index, "sa_code_size") else faiss.downcast_index(index)
    row = {
        "label": factory,
        "version": faiss.__version__,
        "bytes": coder.sa_code_size(),
        "train_s": json.loads(path.with_suffix(".json").read_text())["train_s"],
        "encoded_per_s_two_threads": len(base) / on_two,
        "scanned_per_s": len(base) / statistics.median(times),
        "recall_codes": recall(K),
        "recall_reranked": [recall(K), recall(2 * K), recall(4 * K)],
    }
    if on_one:
        row["encoded_per_s"] = len(base) / on_one
    print(json.dumps(row))


def measure(args, name, ours, faiss):
    """The row of a code, or of FAISS's where it is given."""
    shared = ["--data", args.data, "--queries", str(args.queries)]
    if faiss is None:
        command = [str(VDB), "bench", "quantizers", "--json", "--quantizers", ours, "--set", name, *shared]
        command += [] if args.first is None else ["--rows", str(args.first)]
    else:
        command = [sys.executable, __file__, "--faiss", faiss, "--sets", name, "--cache", args.cache, *shared]
        command += [] if args.first is None else ["--first", str(args.first)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout)
    except subprocess.TimeoutExpired:
        print(f"{name} {faiss or ours}: not done after {args.timeout} s, left out", file=sys.stderr)
        return None
    if done.returncode != 0:
        print(f"{name} {faiss or ours}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def chosen(args):
    codes = list(PAIRS) if args.codes is None else args.codes.split(",")
    unknown = [code for code in codes if code not in PAIRS]
    if unknown:
        sys.exit(f"no code is called {', '.join(unknown)}; there are {', '.join(PAIRS)}")
    return codes


def measure_all(args):
    if not VDB.exists():
        sys.exit(f"{VDB} is not there: cargo build --release")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    results, names = pathlib.Path(args.results), args.sets.split(",")
    if args.forget:
        kept = [row for row in read_results(args) if row["set"] not in names or row["code"] not in chosen(args)]
        results.write_text("".join(json.dumps(row) + "\n" for row in kept))
    for _ in range(args.rounds):
        for name in names:
            for code in chosen(args):
                for faiss in [] if args.peers_only else [None]:
                    record(args, results, name, code, faiss, commit.stdout.strip())
                for faiss in [] if args.ours_only else PAIRS[code]:
                    record(args, results, name, code, faiss, commit.stdout.strip())


def record(args, results, name, code, faiss, commit):
    row = measure(args, name, code, faiss)
    if row is None:
        return
    told = {"set": name, "first": args.first, "code": code, "faiss": faiss is not None}
    with results.open("a") as file:
        file.write(json.dumps(told | row | told | {"commit": commit}) + "\n")
    print(line({**row, "faiss": faiss is not None}), file=sys.stderr)


def read_results(args):
    path = pathlib.Path(args.results)
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def median(rows):
    """One row of medians."""
    merged = dict(rows[-1])
    for key, value in rows[-1].items():
        if isinstance(value, float):
            merged[key] = statistics.median(row[key] for row in rows if key in row)
    return merged


def line(row):
    millions = lambda key: f"{row[key] / 1e6:,.0f}" if key in row else "–"
    thousands = lambda key: f"{row[key] / 1e3:,.0f}" if key in row else "–"
    reranked = " / ".join(f"{recall:.3f}" for recall in row["recall_reranked"][1:])
    # The numbers of signs are an order, no distances.
    error = f"{100 * row['error_mean']:.2f} / {100 * row['error_p99']:.1f}" if "error_mean" in row else "–"
    error = "–" if row["label"] == "binary" else error
    coded = f"{thousands('encoded_per_s')} / {thousands('encoded_per_s_two_threads')}"
    shown = f"FAISS {row['label']}" if row["faiss"] else row["label"]
    return (
        f"| {shown} | {row['bytes']} | {row['train_s']:.1f} | {coded} | {millions('estimates_per_s')} "
        f"| {millions('scanned_per_s')} | {error} | {row['recall_codes']:.3f} | {reranked} |"
    )


HEAD = """| code | bytes | training s | coded, 1000/s (1 / 2 threads) | estimates, million/s | best 40, million/s \
| error %, mean / 99th | recall@10 | reranked 2 / 4 |
|---|---|---|---|---|---|---|---|---|"""


def tables(args):
    groups = {}
    for row in read_results(args):
        of_set = groups.setdefault((row["set"], row["first"]), {})
        of_set.setdefault((list(PAIRS).index(row["code"]), row["faiss"], row["label"]), []).append(row)
    parts = []
    for (name, first), codes in groups.items():
        title = name if first is None else f"{name}, the first {first:,} rows"
        lines = [line(median(rows)) for _, rows in sorted(codes.items())]
        rounds = sorted({len(rows) for rows in codes.values()})
        told = f"Medians; rounds of each code: {' or '.join(str(count) for count in rounds)}."
        parts.append("\n".join([f"### {title}", "", told, "", HEAD, *lines]))
    return "\n\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the data sets")
    parser.add_argument("--sets", help="comma-separated data sets to measure")
    parser.add_argument("--codes", help="comma-separated quantizers of ours; all by default")
    parser.add_argument("--first", type=int, help="rows of the base to use; all by default")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds after which a code is left out")
    parser.add_argument("--results", default=str(ROOT / "benchmarks" / "quantizers.jsonl"))
    parser.add_argument("--cache", default=str(ROOT / "target" / "quantizers"), help="what FAISS has trained")
    parser.add_argument("--train", action="store_true", help="train FAISS's codes that are not in the cache, no more")
    parser.add_argument("--forget", action="store_true", help="drop older lines of the chosen sets and codes")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--peers-only", action="store_true")
    parser.add_argument("--write", action="store_true", help="replace the tables of docs/quantizers.md")
    parser.add_argument("--faiss", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.faiss:
        return run_faiss(args)
    if args.sets and not args.data:
        parser.error("--sets needs --data")
    if args.sets:
        train_all(args) if args.train else measure_all(args)
    if args.write:
        before = DOC.read_text().split(MARK)[0]
        DOC.write_text(f"{before}{MARK}\n\n{tables(args)}\n")


if __name__ == "__main__":
    main()
