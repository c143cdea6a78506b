"""Measure the quantizers of vector_db_rs beside FAISS's at the same bytes per vector, and write the tables of
docs/quantizers.md.

    pip install numpy faiss-cpu
    cargo build --release
    python benchmarks/quantizers.py --data DIR --sets NAME,NAME [--rounds 3] [--rows NAME,...] [--write]

DIR/NAME holds base.*, query.*, gt.ibin and stats.json, the layout of the big-ann benchmarks. A row of the table is a
code of ours and the one of FAISS that weighs the same, each in a process of its own, one after the other, round after
round. Queries go one at a time on one thread, training and coding use two threads; ours estimates the distances of all
rows, FAISS searches the ten nearest by codes alone, so FAISS's time includes the selection. Printed are medians.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

from compare import VDB, read_truth, read_vectors

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOC = ROOT / "docs" / "quantizers.md"
MARK = "<!-- tables: benchmarks/quantizers.py --write -->"
K = 10
# Rows that FAISS trains 256 centroids a piece on, where its own bound of 65,536 would take minutes.
SLOW_TRAINING_ROWS = 16_384

# Ours, and FAISS's factory string at about the same bytes; {n} is a share of the dimension.
PAIRS = [
    ("sq8", "SQ8"),
    ("sq4", "SQ4"),
    ("pq4", "PQ{half}x4fs"),
    ("pq4", "PQ{half}x4"),
    ("pq8", "PQ{quarter}x8"),
    ("opq", None),
    ("rabitq1", "RaBitQ"),
    ("rabitq2", "RaBitQ2"),
    ("rabitq4", "RaBitQ4"),
    ("rabitq8", "RaBitQ8"),
    ("binary", None),
    ("f16", "SQfp16"),
    ("bf16", "SQbf16"),
]


def run_faiss(args):
    """Child process: one FAISS code; prints a JSON line."""
    import faiss
    import numpy as np

    folder = pathlib.Path(args.data) / args.set
    base, queries = read_vectors(folder / "base"), read_vectors(folder / "query")[: args.queries]
    truth = read_truth(folder / "gt.ibin")[: args.queries, :K]
    if json.loads((folder / "stats.json").read_text())["metric"] != "l2":
        base /= np.linalg.norm(base, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    dim = base.shape[1]
    faiss.omp_set_num_threads(2)
    factory = args.faiss.format(half=dim // 2, quarter=dim // 4)
    index = faiss.index_factory(dim, factory)
    start = time.time()
    index.train(base[:SLOW_TRAINING_ROWS] if factory.endswith("x8") else base)
    train = time.time() - start
    start = time.time()
    index.add(base)
    add = time.time() - start
    faiss.omp_set_num_threads(1)
    best, found = float("inf"), []
    for query in queries:
        start = time.perf_counter()
        found.append(index.search(query[None], 4 * K)[1][0])
        best = min(best, time.perf_counter() - start)
    recall = lambda taken: sum(len(set(f[:taken]) & set(t)) for f, t in zip(found, truth)) / (len(queries) * K)
    coder = index if hasattr(index, "sa_code_size") else faiss.downcast_index(index)
    row = {
        "label": factory,
        "bytes": coder.sa_code_size(),
        "train_s": train,
        "encoded_per_s_two_threads": len(base) / add,
        "estimates_per_s": len(base) / best,
        "recall_codes": recall(K),
        "recall_reranked": [recall(K), recall(2 * K), recall(4 * K)],
    }
    print(json.dumps(row))


def measure(data, name, ours, faiss, args):
    shared = ["--data", data, "--set", name, "--queries", str(args.queries)]
    if faiss is None:
        command = [str(VDB), "bench", "quantizers", "--json", "--quantizers", ours, *shared]
    else:
        command = [sys.executable, __file__, "--faiss", faiss, *shared]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout)
    except subprocess.TimeoutExpired:
        print(f"{faiss or ours}: not done after {args.timeout} s, left out", file=sys.stderr)
        return None
    if done.returncode != 0:
        print(f"{faiss or ours}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def median(rows):
    """One row of medians."""
    merged = dict(rows[0])
    for key, value in rows[0].items():
        if isinstance(value, float):
            merged[key] = statistics.median(row[key] for row in rows)
    return merged


def line(name, row):
    reranked = " / ".join(f"{recall:.3f}" for recall in row["recall_reranked"][1:])
    error = f"{100 * row['error_mean']:.2f} / {100 * row['error_p99']:.1f}" if "error_mean" in row else "–"
    if row["label"] == "binary":
        error = "–"
    speed = f"{row['encoded_per_s_two_threads'] / 1e3:,.0f}"
    if "encoded_per_s" in row:
        speed = f"{row['encoded_per_s'] / 1e3:,.0f} / {speed}"
    return (
        f"| {name} | {row['bytes']} | {row['train_s']:.1f} | {speed} | {row['estimates_per_s'] / 1e6:,.0f} "
        f"| {error} | {row['recall_codes']:.3f} | {reranked} |"
    )


HEAD = """| code | bytes | training s | coded, 1000/s (1 / 2 threads) | estimates, million/s | error %, mean / 99th | \
recall@10 | reranked 2 / 4 |
|---|---|---|---|---|---|---|---|"""


def tables(args):
    parts = []
    for name in args.sets.split(","):
        rows = {}
        pairs = [pair for pair in PAIRS if not args.rows or pair[0] in args.rows.split(",")]
        for number in range(args.rounds):
            for ours, faiss in pairs:
                for label, peer in [(ours, None), (faiss, faiss)]:
                    done = measure(args.data, name, ours, peer, args) if label else None
                    if done:
                        shown = f"FAISS {done['label']}" if peer else label
                        rows.setdefault((ours, shown), []).append(done)
                        print(f"round {number + 1}: {name} {label} done", file=sys.stderr)
        lines = [line(label, median(found)) for (_, label), found in rows.items()]
        parts.append("\n".join([f"### {name}", "", HEAD, *lines]))
    return "\n\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--sets", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds after which a code is left out")
    parser.add_argument("--rows", help="comma-separated quantizers of ours; all by default")
    parser.add_argument("--write", action="store_true", help="replace the tables of docs/quantizers.md")
    parser.add_argument("--set", help=argparse.SUPPRESS)
    parser.add_argument("--faiss", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.faiss:
        return run_faiss(args)
    if not VDB.exists():
        sys.exit(f"{VDB} is not there: cargo build --release")
    text = tables(args)
    print(text)
    if args.write:
        before = DOC.read_text().split(MARK)[0]
        DOC.write_text(f"{before}{MARK}\n\n{text}\n")


if __name__ == "__main__":
    main()
