"""What the specification's plain LSH tables look at: the yardstick for `vdb bench ann --index lsh`.

    pip install numpy
    python benchmarks/naive_lsh.py --data DIR --set NAME [--queries query] [--sample 100] [--recall 0.9] [--tables 2000]

The plain tables are those of the specification: 20 hyperplanes per table with entries uniform in [-1, 1), through the
origin, one probe per table; every distinct row in the query's buckets is a candidate and is compared. Efficiency is the
number of candidates looked at per true neighbour (of the 10 nearest) among them. One line tells it for the 10 tables of
the specification. Then tables are added, which is what plain tables can do for recall, until the wanted recall is
reached or there are no more; a line is printed at every doubling and at the end.
"""

import argparse
import json
import pathlib

import numpy as np

from peers import read_truth, read_vectors

FUNCTIONS = 20
K = 10


def codes(vectors, planes):
    bits = vectors @ planes.T >= 0
    return bits @ (1 << np.arange(FUNCTIONS, dtype=np.int64))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--set", required=True)
    parser.add_argument("--queries", default="query")
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--recall", type=float, default=0.9)
    parser.add_argument("--tables", type=int, default=2000)
    args = parser.parse_args()
    folder = pathlib.Path(args.data) / args.set
    base, queries = read_vectors(folder / "base"), read_vectors(folder / args.queries)
    truth = read_truth(folder / ("gt.ibin" if args.queries == "query" else f"{args.queries}.gt.ibin"), K)[0]
    rng = np.random.default_rng(0)
    sample = rng.permutation(len(queries))[: args.sample]
    queries, truth = queries[sample], truth[sample]
    seen = np.zeros((len(queries), len(base)), bool)
    for tables in range(1, args.tables + 1):
        planes = rng.uniform(-1, 1, (FUNCTIONS, base.shape[1])).astype(np.float32)
        row_codes, query_codes = codes(base, planes), codes(queries, planes)
        order = np.argsort(row_codes, kind="stable")
        ordered = row_codes[order]
        for query, code in enumerate(query_codes):
            bucket = order[np.searchsorted(ordered, code, "left") : np.searchsorted(ordered, code, "right")]
            seen[query, bucket] = True
        if tables != 10 and tables & (tables - 1) and tables % 50 and tables != args.tables:
            continue
        found = np.take_along_axis(seen, truth.astype(np.int64), 1).sum()
        candidates = seen.sum()
        recall = found / truth.size
        if tables == 10 or tables & (tables - 1) == 0 or recall >= args.recall or tables == args.tables:
            row = {"set": args.set, "tables": tables, "recall": round(float(recall), 4)}
            row["candidates"] = round(float(candidates / len(queries)), 1)
            row["candidates_per_hit"] = round(float(candidates / max(found, 1)), 1)
            print(json.dumps(row), flush=True)
        if recall >= args.recall:
            break


if __name__ == "__main__":
    main()
