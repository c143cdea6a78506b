"""Measure vector_db_rs beside public libraries on one data set, in alternating rounds.

    pip install numpy hnswlib faiss-cpu scann
    cargo build --release
    python benchmarks/compare.py --data DIR --set NAME [--queries query|holdout] [--rounds 3] [--only NAME,NAME]

DIR/NAME holds base.*, query.* (fbin, u8bin or f16bin), gt.ibin and stats.json, the layout of the big-ann benchmarks.
Every contender runs in a process of its own, one after the other, round after round, so that what else the machine
does hits all alike. Builds use two threads, searches one. Printed is a table of medians over the rounds: queries per
second at a recall@k (interpolated between settings), seconds to build, memory added, and the ratio to hnswlib.
A library that is not installed is reported as absent.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VDB = ROOT / "target" / "release" / "vdb"
PROBES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
EFS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256]
TYPES = {"fbin": "<f4", "u8bin": "u1", "f16bin": "<f2"}
OURS = {
    "vdb hnsw": "hnsw",
    "vdb flat": "flat",
    "vdb flat batch": "flat --batch 1000",
    "vdb lsh": "lsh",
    "vdb ivf": "ivf",
}


def read_vectors(stem):
    import numpy as np

    for extension, dtype in TYPES.items():
        path = pathlib.Path(f"{stem}.{extension}")
        if path.exists():
            n, d = np.fromfile(path, "<u4", 2)
            values = np.fromfile(path, dtype, int(n) * int(d), offset=8)
            return np.ascontiguousarray(values.reshape(n, d), dtype=np.float32)
    sys.exit(f"{stem}.*: no such file in any of the formats {', '.join(TYPES)}")


def read_truth(path):
    import numpy as np

    n, k = np.fromfile(path, "<u4", 2)
    return np.fromfile(path, "<i4", int(n) * int(k), offset=8).reshape(n, k)


def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def hnswlib(base, l2, k):
    import hnswlib

    index = hnswlib.Index("l2" if l2 else "ip", base.shape[1])
    index.init_index(len(base), ef_construction=200, M=16)
    index.set_num_threads(2)
    index.add_items(base)
    return EFS, index.set_ef, lambda queries: index.knn_query(queries, k, num_threads=1)[0]


def faiss_hnsw(base, l2, k):
    import faiss

    faiss.omp_set_num_threads(2)
    index = faiss.IndexHNSWFlat(base.shape[1], 16, faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    index.add(base)

    def set_ef(ef):
        faiss.omp_set_num_threads(1)
        index.hnsw.efSearch = ef

    return EFS, set_ef, lambda queries: index.search(queries, k)[1]


def faiss_flat(base, l2, k):
    """One query at a time, as a database is asked."""
    import faiss
    import numpy as np

    index = (faiss.IndexFlatL2 if l2 else faiss.IndexFlatIP)(base.shape[1])
    index.add(base)
    single = lambda queries: np.vstack([index.search(query[None], k)[1] for query in queries])
    return [0], lambda _: faiss.omp_set_num_threads(1), single


def faiss_flat_batch(base, l2, k):
    """All queries in one call: a blocked matrix product."""
    import faiss

    index = (faiss.IndexFlatL2 if l2 else faiss.IndexFlatIP)(base.shape[1])
    index.add(base)
    return [0], lambda _: faiss.omp_set_num_threads(1), lambda queries: index.search(queries, k)[1]


def faiss_lsh(base, l2, k, bits_per_value=2):
    """Signs of random projections, all scanned, the best of them compared exactly; all queries in one batch."""
    import faiss

    faiss.omp_set_num_threads(2)
    index = faiss.IndexRefineFlat(faiss.IndexLSH(base.shape[1], bits_per_value * base.shape[1]))
    index.add(base)

    def set_oversampling(factor):
        faiss.omp_set_num_threads(1)
        index.k_factor = factor

    return [4, 16, 64, 256], set_oversampling, lambda queries: index.search(queries, k)[1]


def faiss_ivf(base, l2, k, codes):
    """Lists of codes with an exact rerank of sixteen times k, asked in batches."""
    import faiss

    faiss.omp_set_num_threads(2)
    lists = int(2 * len(base) ** 0.5)
    metric = faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(base.shape[1], f"IVF{lists},{codes},RFlat", metric)
    index.train(base)
    index.add(base)
    index.k_factor = 16
    coded = faiss.downcast_index(index.base_index)

    def set_probes(probes):
        faiss.omp_set_num_threads(1)
        coded.nprobe = probes

    return PROBES, set_probes, lambda queries: index.search(queries, k)[1]


def faiss_ivf_pq(base, l2, k):
    return faiss_ivf(base, l2, k, f"PQ{base.shape[1] // 2}x4fs")


def faiss_ivf_rabitq(base, l2, k):
    return faiss_ivf(base, l2, k, "RaBitQ")


def scann(base, l2, k):
    """Anisotropic codes of two dimensions in a tree, asked in batches; rows reordered grow with the probes."""
    import scann

    leaves = int(2 * len(base) ** 0.5)
    builder = scann.scann_ops_pybind.builder(base, k, "squared_l2" if l2 else "dot_product")
    builder = builder.tree(leaves, num_leaves_to_search=32, training_sample_size=min(len(base), 250_000))
    searcher = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(150).build()
    setting = {}

    def search(queries):
        probes = setting["probes"]
        reorder = max(4 * k, min(30 * k, 4 * probes))
        found = searcher.search_batched(
            queries, final_num_neighbors=k, pre_reorder_num_neighbors=reorder, leaves_to_search=probes
        )
        return found[0]

    return PROBES, lambda probes: setting.update(probes=probes), search


PEERS = {
    "hnswlib M16 efc200": hnswlib,
    "faiss HNSW M16 efc200": faiss_hnsw,
    "faiss Flat": faiss_flat,
    "faiss Flat batch": faiss_flat_batch,
    "faiss LSH 2d bits + refine": faiss_lsh,
    "faiss LSH 8d bits + refine": lambda base, l2, k: faiss_lsh(base, l2, k, 8),
    "faiss IVFPQfs": faiss_ivf_pq,
    "faiss IVFRaBitQ": faiss_ivf_rabitq,
    "scann": scann,
}


def run_peer(args):
    """Child process: builds one peer and prints a JSON line per setting."""
    import numpy as np

    folder = pathlib.Path(args.data) / args.set
    l2 = json.loads((folder / "stats.json").read_text())["metric"] == "l2"
    base, queries = read_vectors(folder / "base"), read_vectors(folder / args.queries)
    truth = read_truth(folder / ("gt.ibin" if args.queries == "query" else f"{args.queries}.gt.ibin"))
    if not l2:
        base /= np.linalg.norm(base, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    before, start = resident_mb(), time.time()
    settings, set_setting, search = PEERS[args.peer](base, l2, args.k)
    build, memory = time.time() - start, resident_mb() - before
    for setting in settings:
        set_setting(setting)
        search(queries[:20])
        took, searched, found = 0.0, 0, None
        while took < args.seconds:
            start = time.perf_counter()
            found = search(queries)
            took += time.perf_counter() - start
            searched += len(queries)
        right = sum(len(set(f[: args.k]) & set(t[: args.k])) for f, t in zip(found.tolist(), truth.tolist()))
        recall = right / (len(queries) * args.k)
        row = {"recall": recall, "qps": searched / took, "build_s": build, "rss_mb": memory}
        print(json.dumps(row), flush=True)
        if recall > 0.9985:
            break


def measure(name, args):
    """One round of one contender: its JSON lines, or None when it is absent."""
    shared = ["--data", args.data, "--set", args.set, "--queries", args.queries]
    shared += ["--k", str(args.k), "--seconds", str(args.seconds)]
    if name in OURS:
        command = [str(VDB), "bench", "ann", "--json", "--index", *OURS[name].split(), *shared]
    else:
        command = [sys.executable, __file__, "--peer", name, *shared]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode != 0:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def qps_at(rows, recall):
    """Queries per second at a recall: between two settings by the logarithm, else the first setting above."""
    rows = sorted(rows, key=lambda row: row["recall"])
    for low, high in zip([None, *rows], rows):
        if high["recall"] < recall:
            continue
        if low is None:
            return high["qps"]
        share = (recall - low["recall"]) / (high["recall"] - low["recall"])
        return math.exp((1 - share) * math.log(low["qps"]) + share * math.log(high["qps"]))
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--set", required=True)
    parser.add_argument("--queries", default="query")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--recalls", default="0.95,0.99", help="comma-separated, two or more")
    parser.add_argument("--only", help="comma-separated beginnings of names")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return run_peer(args)
    if not VDB.exists():
        sys.exit(f"{VDB} is not there: cargo build --release")
    wanted = tuple(args.only.split(",")) if args.only else ("",)
    names = [name for name in [*OURS, *PEERS] if name.startswith(wanted)]
    rounds = {name: [] for name in names}
    for number in range(args.rounds):
        for name in names:
            rows = measure(name, args)
            rounds[name].append(rows)
            print(f"round {number + 1}: {name} {'absent' if rows is None else 'done'}", file=sys.stderr)

    def median(name, value):
        values = [value(rows) for rows in rounds[name] if rows]
        return statistics.median(values) if values and None not in values else None

    text = lambda value, form: "–" if value is None else form.format(value)
    recalls = [float(recall) for recall in args.recalls.split(",")]
    heads = " | ".join(f"QPS @{recall:g}" for recall in recalls)
    print(f"| {args.set} | {heads} | × hnswlib | build s | MB |\n|---|{'---|' * (len(recalls) + 3)}")
    reference = "hnswlib M16 efc200"
    for name in names:
        if None in rounds[name]:
            print(f"| {name} | absent |{' |' * (len(recalls) + 2)}")
            continue
        speeds = [median(name, lambda rows, r=recall: qps_at(rows, r)) for recall in recalls]
        ratios = []
        for recall, speed in zip(recalls, speeds):
            other = median(reference, lambda rows, r=recall: qps_at(rows, r)) if reference in names else None
            ratios.append(text(speed / other if speed and other else None, "{:.2f}"))
        build, memory = (median(name, lambda rows, key=key: rows[0][key]) for key in ("build_s", "rss_mb"))
        cells = [*(text(speed, "{:,.0f}") for speed in speeds), " / ".join(ratios)]
        print(f"| {name} | {' | '.join(cells)} | {build:.1f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
