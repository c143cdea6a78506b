"""Build one public library's index on a data set and search it: what `vdb-bench` runs in a process of its own.

    python benchmarks/peers.py --peer NAME --data DIR --set NAME [--queries query] [--k 10] [--seconds 1] [--threads 1]

On standard output, one JSON object a line; whatever a library prints there goes to standard error instead.
    {"absent": "reason"}      the library cannot be imported; nothing follows
    {"version": "1.2.3"}      first, when it can
    {"param": 64, "recall": 0.98, "qps": 9000.0, "build_s": 20.1, "rss_mb": 197.0}
                              one for each search setting, the quickest first; with "p50_us" and "p99_us" where the
                              library answers one query a call
Any other exit than 0 is a failure; the last line on standard error tells why.

DIR/NAME holds base.*, query.* (fbin, u8bin or f16bin), gt.ibin and stats.json, the layout of the big-ann benchmarks.
Builds use two threads. A neighbour is found when it is one of the true ones or at the distance of the last of them.
Vectors are normalised under cosine beforehand, so that no library is slower for doing it itself.
`vdb-bench` knows each peer by its name in PEERS; a test of its holds the two lists together.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

BUILD_THREADS = 2
M, EF_CONSTRUCTION = 16, 200
EFS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
PROBES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
TYPES = {"fbin": "<f4", "u8bin": "u1", "f16bin": "<f2"}
# A setting after one with this recall has nothing left to show.
ENOUGH = 0.9985


class Index:
    """A built index: `search` answers all queries in one call, or, where `single`, one query."""

    def __init__(self, settings, set_setting, search, single=False):
        self.settings, self.set_setting, self.search, self.single = settings, set_setting, search, single


class Task:
    """What every peer is given: the base as float32, the metric, k, the threads of a search, a folder to write in."""

    def __init__(self, base, l2, k, threads, folder):
        self.base, self.l2, self.k, self.threads, self.folder = base, l2, k, threads, folder
        self.rows, self.dim = base.shape


def hnswlib(task):
    import hnswlib

    index = hnswlib.Index("l2" if task.l2 else "ip", task.dim)
    index.init_index(task.rows, ef_construction=EF_CONSTRUCTION, M=M)
    index.set_num_threads(BUILD_THREADS)
    index.add_items(task.base)
    search = lambda queries: index.knn_query(queries, task.k, num_threads=task.threads)[0]
    return Index([ef for ef in EFS if ef >= task.k], index.set_ef, search)


def faiss_metric(task):
    import faiss

    faiss.omp_set_num_threads(BUILD_THREADS)
    return faiss.METRIC_L2 if task.l2 else faiss.METRIC_INNER_PRODUCT


def faiss_index(task, index, settings, set_setting, single=False):
    """FAISS keeps one number of threads for builds and searches: from here on, it is that of searches."""
    import faiss

    def apply(setting):
        faiss.omp_set_num_threads(task.threads)
        set_setting(setting)

    if single:
        return Index(settings, apply, lambda query: index.search(query[None], task.k)[1][0], single=True)
    return Index(settings, apply, lambda queries: index.search(queries, task.k)[1])


def faiss_hnsw(task):
    import faiss

    index = faiss.IndexHNSWFlat(task.dim, M, faiss_metric(task))
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.add(task.base)
    return faiss_index(task, index, EFS, lambda ef: setattr(index.hnsw, "efSearch", ef))


def faiss_flat(task, single=True):
    """One query a call, as a database is asked, or all in one: a blocked matrix product."""
    import faiss

    index = faiss.IndexFlat(task.dim, faiss_metric(task))
    index.add(task.base)
    return faiss_index(task, index, [0], lambda _: None, single)


def faiss_lsh(task, bits_per_value):
    """Signs of random projections, all scanned, the best of them compared exactly: by L2, which is what IndexLSH goes by; of
    normalised vectors that is the order of cosines."""
    import faiss

    faiss_metric(task)
    exact = faiss.IndexFlat(task.dim)
    index = faiss.IndexRefine(faiss.IndexLSH(task.dim, bits_per_value * task.dim), exact)
    index.add(task.base)
    return faiss_index(task, index, [4, 16, 64, 256], lambda factor: setattr(index, "k_factor", factor))


def faiss_ivf(task, codes):
    """Lists of codes with an exact rerank of sixteen times k."""
    import faiss

    lists = int(2 * task.rows**0.5)
    index = faiss.index_factory(task.dim, f"IVF{lists},{codes},RFlat", faiss_metric(task))
    index.train(task.base)
    index.add(task.base)
    index.k_factor = 16
    coded = faiss.downcast_index(index.base_index)
    return faiss_index(task, index, PROBES, lambda probes: setattr(coded, "nprobe", probes))


def scann(task):
    """Anisotropic codes of two dimensions in a tree; rows reordered grow with the probes."""
    import scann

    leaves = int(2 * task.rows**0.5)
    builder = scann.scann_ops_pybind.builder(task.base, task.k, "squared_l2" if task.l2 else "dot_product")
    builder = builder.set_n_training_threads(BUILD_THREADS)
    builder = builder.tree(leaves, num_leaves_to_search=32, training_sample_size=min(task.rows, 250_000))
    index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(150).build()
    setting = {}

    def search(queries):
        probes = setting["probes"]
        options = {
            "final_num_neighbors": task.k,
            "pre_reorder_num_neighbors": max(4 * task.k, min(30 * task.k, 4 * probes)),
            "leaves_to_search": probes,
        }
        if task.threads > 1:
            return index.search_batched_parallel(queries, **options)[0]
        return index.search_batched(queries, **options)[0]

    return Index(PROBES, lambda probes: setting.update(probes=probes), search)


def usearch(task, dtype):
    import numpy as np
    from usearch.index import Index as Graph

    metric = "l2sq" if task.l2 else "ip"
    options = {"connectivity": M, "expansion_add": EF_CONSTRUCTION, "dtype": dtype}
    index = Graph(ndim=task.dim, metric=metric, **options)
    index.add(np.arange(task.rows, dtype=np.uint64), task.base, threads=BUILD_THREADS)
    search = lambda queries: index.search(queries, task.k, threads=task.threads).keys
    return Index(EFS, lambda ef: setattr(index, "expansion_search", ef), search)


def vsag(task):
    """HGraph walks 8-bit codes and compares the best exactly."""
    import numpy as np
    import pyvsag

    described = {
        "dtype": "float32",
        "metric_type": "l2" if task.l2 else "ip",
        "dim": task.dim,
        "index_param": {
            "base_quantization_type": "sq8",
            "use_reorder": True,
            "precise_quantization_type": "fp32",
            "max_degree": 2 * M,
            "ef_construction": EF_CONSTRUCTION,
            "build_thread_count": BUILD_THREADS,
        },
    }
    index = pyvsag.Index("hgraph", json.dumps(described))
    ids = np.arange(task.rows, dtype=np.int64)
    index.build(vectors=task.base, ids=ids, num_elements=task.rows, dim=task.dim)
    setting = {}
    set_ef = lambda ef: setting.update(parameters=json.dumps({"hgraph": {"ef_search": ef}}))
    search = lambda query: index.knn_search(vector=query, k=task.k, parameters=setting["parameters"])[0]
    return Index(EFS, set_ef, search, single=True)


def svs(task, data=None):
    """Vamana over whole vectors, or over what `data` makes of them."""
    import svs

    metric = svs.DistanceType.L2 if task.l2 else svs.DistanceType.MIP
    parameters = svs.VamanaBuildParameters(
        graph_max_degree=2 * M, window_size=EF_CONSTRUCTION, alpha=1.2 if task.l2 else 0.95
    )
    vectors = task.base
    if data:
        file = str(task.folder / "base.fvecs")
        svs.write_vecs(task.base, file)
        vectors = data(svs, svs.VectorDataLoader(file, svs.DataType.float32, dims=task.dim))
    index = svs.Vamana.build(parameters, vectors, metric, num_threads=BUILD_THREADS)

    def set_window(window):
        index.num_threads = task.threads
        index.search_window_size = max(window, task.k)

    return Index(EFS, set_window, lambda queries: index.search(queries, task.k)[0])


def svs_lvq(task):
    return svs(task, lambda svs, loader: svs.LVQLoader(loader, primary=4, residual=8))


def svs_leanvec(task):
    kind = lambda svs: {"primary_kind": svs.LeanVecKind.lvq8, "secondary_kind": svs.LeanVecKind.lvq8}
    dims = min(task.dim, max(64, task.dim // 3))
    return svs(task, lambda svs, loader: svs.LeanVecLoader(loader, leanvec_dims=dims, **kind(svs)))


def voyager(task):
    import voyager

    space = voyager.Space.Euclidean if task.l2 else voyager.Space.InnerProduct
    index = voyager.Index(space, num_dimensions=task.dim, M=M, ef_construction=EF_CONSTRUCTION)
    index.add_items(task.base, num_threads=BUILD_THREADS)
    setting = {}
    search = lambda queries: index.query(queries, task.k, num_threads=task.threads, query_ef=setting["ef"])[0]
    return Index([ef for ef in EFS if ef >= task.k], lambda ef: setting.update(ef=ef), search)


def zvec(task):
    """Ids are text and come back in objects of Python; its memory is that of mapped files, too."""
    import zvec

    zvec.init(log_level=zvec.LogLevel.ERROR, query_threads=task.threads, optimize_threads=BUILD_THREADS)
    metric = zvec.MetricType.L2 if task.l2 else zvec.MetricType.IP
    graph = zvec.HnswIndexParam(metric_type=metric, m=M, ef_construction=EF_CONSTRUCTION)
    field = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, task.dim, index_param=graph)
    schema = zvec.CollectionSchema(name="base", vectors=field)
    index = zvec.create_and_open(path=str(task.folder / "zvec"), schema=schema)
    for first in range(0, task.rows, 1000):
        rows = enumerate(task.base[first : first + 1000].tolist(), first)
        index.insert([zvec.Doc(id=str(row), vectors={"v": vector}) for row, vector in rows])
    index.optimize()
    setting = {}

    def search(query):
        asked = zvec.Query("v", vector=query, param=setting["ef"])
        return [int(document.id) for document in index.query(asked, topk=task.k, output_fields=[])]

    return Index(EFS, lambda ef: setting.update(ef=zvec.HnswQueryParam(ef=ef)), search, single=True)


def lancedb(task):
    """A database on disk: one partition per million rows, 8-bit codes, the best compared exactly."""
    import lancedb
    import numpy as np
    import pyarrow

    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(task.base.ravel()), task.dim)
    rows = pyarrow.table({"id": pyarrow.array(np.arange(task.rows)), "vector": vectors})
    table = lancedb.connect(str(task.folder / "lancedb")).create_table("base", rows)
    table.create_index(
        metric="l2" if task.l2 else "cosine",
        vector_column_name="vector",
        index_type="IVF_HNSW_SQ",
        num_partitions=max(1, task.rows // 1_000_000),
        m=M,
        ef_construction=EF_CONSTRUCTION,
    )
    setting = {}

    def search(query):
        asked = table.search(query).ef(setting["ef"]).nprobes(20).refine_factor(2).limit(task.k)
        return asked.select(["id", "_distance"]).to_arrow()["id"].to_pylist()

    return Index([20, 32, 64, 128, 256], lambda ef: setting.update(ef=max(ef, 2 * task.k)), search, single=True)


# Name, package on PyPI, and what builds it.
PEERS = {
    "hnswlib": ("hnswlib", hnswlib),
    "faiss-hnsw": ("faiss-cpu", faiss_hnsw),
    "faiss-flat": ("faiss-cpu", faiss_flat),
    "faiss-flat-batch": ("faiss-cpu", lambda task: faiss_flat(task, single=False)),
    "faiss-lsh-2d": ("faiss-cpu", lambda task: faiss_lsh(task, 2)),
    "faiss-lsh-8d": ("faiss-cpu", lambda task: faiss_lsh(task, 8)),
    "faiss-ivf-pq": ("faiss-cpu", lambda task: faiss_ivf(task, f"PQ{task.dim // 2}x4fs")),
    "faiss-ivf-rabitq": ("faiss-cpu", lambda task: faiss_ivf(task, "RaBitQ")),
    "scann": ("scann", scann),
    "usearch": ("usearch", lambda task: usearch(task, "f32")),
    "vsag-hgraph": ("pyvsag", vsag),
    "svs-vamana": ("scalable-vs", svs),
    "svs-lvq": ("scalable-vs", svs_lvq),
    "svs-leanvec": ("scalable-vs", svs_leanvec),
    "voyager": ("voyager", voyager),
    "zvec": ("zvec", zvec),
    "lancedb": ("lancedb", lancedb),
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


def read_truth(path, k):
    """The ids of the k nearest rows of each query, and the distance of the last."""
    import numpy as np

    n, given = (int(count) for count in np.fromfile(path, "<u4", 2))
    if k > given:
        sys.exit(f"{path} names {given} neighbours a query, k is {k}")
    ids = np.fromfile(path, "<i4", n * given, offset=8).reshape(n, given)
    distances = np.fromfile(path, "<f4", n * given, offset=8 + 4 * n * given).reshape(n, given)
    return ids[:, :k], distances[:, k - 1]


def recall(task, queries, found, truth):
    import numpy as np

    right = 0
    for query, row, ids, last in zip(queries, found, *truth):
        row = [int(i) for i in row[: task.k]]
        near = set(ids.tolist())
        right += sum(i in near for i in row)
        others = [i for i in row if i not in near and 0 <= i < task.rows]
        if others:
            near = task.base[others].astype(np.float64)
            distances = ((near - query) ** 2).sum(1) if task.l2 else 1 - near @ query.astype(np.float64)
            right += int((abs(distances - last) <= 1e-6 * abs(last)).sum())
    return right / (len(queries) * task.k)


def search_all(task, index, queries, pool):
    """The answers to all queries, the seconds they took, and the times of single calls where those are made."""
    start = time.perf_counter()
    if not index.single:
        found = index.search(queries)
        return found, time.perf_counter() - start, []

    def timed(query):
        start = time.perf_counter()
        found = index.search(query)
        return found, time.perf_counter() - start

    answers = list(pool.map(timed, queries) if task.threads > 1 else map(timed, queries))
    return [found for found, _ in answers], time.perf_counter() - start, [took for _, took in answers]


def measure(task, index, queries, truth, seconds, pool):
    search_all(task, index, queries[:20], pool)
    took, searched, times = 0.0, 0, []
    while searched == 0 or took < seconds:
        found, wall, calls = search_all(task, index, queries, pool)
        took, searched, times = took + wall, searched + len(queries), times + calls
    row = {"recall": recall(task, queries, found, truth), "qps": searched / took}
    if times:
        times.sort()
        at = lambda share: round(1e6 * times[round(share * (len(times) - 1))], 1)
        row |= {"p50_us": at(0.5), "p99_us": at(0.99)}
    return row


def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def run(args, say, folder):
    import numpy as np

    package, build = PEERS[args.peer]
    say({"version": importlib.metadata.version(package)})
    data = pathlib.Path(args.data) / args.set
    l2 = json.loads((data / "stats.json").read_text())["metric"] == "l2"
    base, queries = read_vectors(data / "base"), read_vectors(data / args.queries)
    truth = read_truth(data / ("gt.ibin" if args.queries == "query" else f"{args.queries}.gt.ibin"), args.k)
    if not l2:
        base /= np.linalg.norm(base, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    task = Task(base, l2, args.k, args.threads, folder)
    before, start = resident_mb(), time.perf_counter()
    index = build(task)
    built = {"build_s": time.perf_counter() - start, "rss_mb": resident_mb() - before}
    with ThreadPoolExecutor(args.threads) as pool:
        for setting in index.settings:
            index.set_setting(setting)
            row = measure(task, index, queries, truth, args.seconds, pool)
            say({"param": setting} | row | built)
            if row["recall"] > ENOUGH:
                break


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--data", required=True)
    parser.add_argument("--set", required=True)
    parser.add_argument("--queries", default="query")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    with os.fdopen(os.dup(1), "w") as protocol:
        os.dup2(2, 1)

        def say(line):
            print(json.dumps(line), file=protocol, flush=True)

        folder = pathlib.Path(tempfile.mkdtemp(prefix="vdb-bench-"))
        try:
            run(args, say, folder)
        except (importlib.metadata.PackageNotFoundError, ModuleNotFoundError) as missing:
            say({"absent": str(missing)})
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
