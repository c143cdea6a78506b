#!/usr/bin/env python3
"""Cut the bundled WordNet sample out of the full wordnet-minilm-384 set.

    python scripts/make_sample.py --data DIR [--out DIR] [--rows N]

DIR holds the full set: base.f16bin, payload.jsonl (line i describes row i),
query.f16bin and query.jsonl. Vector files are uint32 n, uint32 d, then n*d
float16 values, all little-endian. The only dependency is numpy.

Queries: every 5th of the full set's.
Rows, in the order of the full set:
  1. the synset each query is an example sentence of,
  2. the exact nearest 3 rows of each query in the full set, by cosine,
  3. the most frequent synsets (`freq`, ties by row number) until there are N.

Written to the output folder: base.f16bin, query.f16bin, base.jsonl,
query.jsonl, gt.ibin (exact top 100 within the sample) and stats.json.
README.md and LICENSE.txt beside them are written by hand.

The output does not depend on the machine. A float16 value is an integer
multiple of 2**-24, so a product of two is one of 2**-48; for vectors of norm
near 1 every partial sum stays below 2**53 such units and every float64 dot
product is exact, in whatever order it is summed.
"""

import argparse
import json
from pathlib import Path

import numpy as np

QUERY_STEP = 5
NEAREST = 3
GT_K = 100


def read_f16bin(path):
    """The n x d float16 matrix in `path`."""
    raw = path.read_bytes()
    n, d = (int(v) for v in np.frombuffer(raw, "<u4", 2))
    if len(raw) != 8 + 2 * n * d:
        raise SystemExit(f"{path}: {len(raw)} bytes do not fit {n} x {d} float16")
    return np.frombuffer(raw, "<f2", n * d, 8).reshape(n, d)


def write_f16bin(path, vectors):
    header = np.array(vectors.shape, "<u4").tobytes()
    path.write_bytes(header + vectors.astype("<f2").tobytes())


def read_jsonl(path):
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_jsonl(path, rows):
    text = "".join(
        json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows
    )
    path.write_bytes(text.encode("utf-8"))


def cosine_distances(queries, base):
    """1 - cosine of every query (rows) to every base vector (columns), float64."""
    q = queries.astype(np.float64)
    b = base.astype(np.float64)
    for name, m in (("query", q), ("base", b)):
        norms = (m * m).sum(axis=1)
        if not ((norms > 0.25) & (norms < 4)).all():
            raise SystemExit(f"a {name} vector is too far from norm 1 for exact sums")
    norm_q = np.sqrt((q * q).sum(axis=1))
    norm_b = np.sqrt((b * b).sum(axis=1))
    return 1.0 - (q @ b.T) / norm_q[:, None] / norm_b[None, :]


def nearest(distances, k):
    """Column numbers of the k smallest per row, nearest first, ties by number."""
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def choose_rows(base, payload, queries, query_rows, count):
    """The row numbers of the sample, ascending."""
    chosen = {row["base_id"] for row in query_rows}
    chosen.update(nearest(cosine_distances(queries, base), NEAREST).ravel().tolist())
    if len(chosen) > count:
        raise SystemExit(f"--rows {count} is less than the {len(chosen)} required rows")
    required = len(chosen)
    for i in sorted(range(len(payload)), key=lambda i: (-payload[i]["freq"], i)):
        if len(chosen) >= count:
            break
        chosen.add(i)
    print(f"{required} rows for the queries, {len(chosen) - required} by frequency")
    return sorted(chosen)


def main():
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Cut the bundled WordNet sample.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the full set")
    parser.add_argument(
        "--out",
        type=Path,
        default=here / "crates" / "vdb-cli" / "data" / "wordnet-sample",
        help="output folder (default: crates/vdb-cli/data/wordnet-sample)",
    )
    parser.add_argument("--rows", type=int, default=4500, help="base rows (default: 4500)")
    args = parser.parse_args()

    base = read_f16bin(args.data / "base.f16bin")
    payload = read_jsonl(args.data / "payload.jsonl")
    queries = read_f16bin(args.data / "query.f16bin")[::QUERY_STEP]
    query_rows = read_jsonl(args.data / "query.jsonl")[::QUERY_STEP]
    if len(payload) != len(base) or len(query_rows) != len(queries):
        raise SystemExit("vectors and descriptions differ in number")
    if any(payload[q["base_id"]]["synset"] != q["synset"] for q in query_rows):
        raise SystemExit("a query's base_id does not name its synset")

    rows = choose_rows(base, payload, queries, query_rows, args.rows)
    base = base[rows]
    payload = [payload[i] for i in rows]
    if len({p["synset"] for p in payload}) != len(payload):
        raise SystemExit("synset ids are not unique")

    args.out.mkdir(parents=True, exist_ok=True)
    write_f16bin(args.out / "base.f16bin", base)
    write_f16bin(args.out / "query.f16bin", queries)
    write_jsonl(
        args.out / "base.jsonl",
        (
            {
                "id": p["synset"],
                "text": p["text"],
                "pos": p["pos"],
                "lexfile": p["lexfile"],
                "lemmas": ", ".join(p["lemmas"]),
            }
            for p in payload
        ),
    )
    write_jsonl(
        args.out / "query.jsonl",
        ({"text": q["text"], "synset": q["synset"]} for q in query_rows),
    )

    distances = cosine_distances(queries, base)
    ids = nearest(distances, GT_K)
    (args.out / "gt.ibin").write_bytes(
        np.array(ids.shape, "<u4").tobytes()
        + ids.astype("<i4").tobytes()
        + np.take_along_axis(distances, ids, axis=1).astype("<f4").tobytes()
    )

    stats = {"n": base.shape[0], "d": base.shape[1], "metric": "cosine"}
    (args.out / "stats.json").write_bytes((json.dumps(stats) + "\n").encode())

    files = sorted(p for p in args.out.iterdir() if p.is_file())
    for path in files:
        print(f"{path.stat().st_size:>9,}  {path.name}")
    print(f"{sum(p.stat().st_size for p in files):>9,}  in all")


if __name__ == "__main__":
    main()
