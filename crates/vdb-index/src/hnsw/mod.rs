//! HNSW: a hierarchy of navigable small-world graphs (Malkov & Yashunin, TPAMI 2020).
//!
//! Build: nodes are inserted in batches in an order drawn from the seed. A batch searches the graph as it was before
//! (in parallel), then its links and their reverses are written; so the graph is the same for any number of threads
//! (the scheme of ParlayANN, PPoPP 2024). Batches grow with what the same call has inserted before, so that a new
//! cluster is linked within itself, and never pass a small share of the whole.
//!
//! Deletes leave the node in the graph as a step that is never a hit; when a tenth of the nodes are such, their
//! neighbours are linked past them and the offsets are free again. Every live node is reachable after every change.

mod build;
mod calibrate;
mod filtered;
mod graph;
mod merge;
mod missed;
mod params;
mod products;
mod renumber;
mod repair;
mod rerank;
mod search;
mod select;
mod space;
mod stop;
mod stored;
mod table;
mod tree;
mod watch;

use crate::vectors::{Query, Vectors};
use crate::{Answer, BitSet, FlatScan, Request, top_k::TopK};
use calibrate::Sample;
use filtered::{FilteredSearch, widened_among};
use graph::{Graph, MAX_LEVEL, NONE};
pub use params::{HnswParams, Profile};
use search::{Scratch, WholeBeam};
use space::{Scorer, Space};
use stop::{Squared, Within};
use table::{Effort, Table};
use tree::Tree;
use vdb_distance::Metric;

/// Rows compared by their codes take as long as one compared exactly.
const CODES_PER_ROW: usize = 6;
/// What a walk under a filter costs whatever its beam, in entries of the beam (wordnet-minilm-384, where 9 % match).
const FIXED_EF: usize = 64;

/// The graph index.
#[derive(Debug, Clone)]
pub struct Hnsw {
    params: HnswParams,
    graph: Graph,
    /// Deleted nodes that the graph still leads through.
    dead: BitSet,
    /// Nodes in the graph, dead ones included.
    nodes: BitSet,
    /// What distances are measured by.
    space: Space,
    /// How far walks go for a recall.
    recalls: Option<Table>,
    /// What the next table is being made of; not kept in files.
    sample: Option<Box<Sample>>,
    /// What the last table was made of last.
    earlier: Option<Box<Sample>>,
    /// Rows that came, changed or went since that was found out.
    changed: usize,
    /// Rows that came or went since walks for rows were last looked at, and how often they were.
    unchecked: usize,
    checks: u64,
    /// Links that are never pruned, while rows come in small numbers.
    tree: Tree,
    /// Distances computed by all insertions and repairs.
    build_distances: u64,
}

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reach {
    /// With a beam of this width.
    Beam(usize),
    /// As far as it takes to find this share of the true neighbours.
    Recall(f64),
}

/// What a graph looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphStats {
    /// Nodes that can be hits.
    pub live: usize,
    /// Deleted nodes still walked through.
    pub dead: usize,
    /// Links of the base layer.
    pub base_links: usize,
    /// Layers, the base included.
    pub layers: usize,
    /// Live nodes that no walk over the base layer from the entry point reaches.
    pub unreachable: usize,
}

/// A graph as plain arrays, for storing it.
#[derive(Debug, Clone, PartialEq)]
pub struct HnswParts {
    /// The parameters it was built with.
    pub params: HnswParams,
    /// The links that a new node makes on each layer, of the parameters or [chosen](Profile::Auto).
    pub m: usize,
    /// The top layer of each node.
    pub levels: Vec<u8>,
    /// 2 m ids a node, unused places holding `u32::MAX`.
    pub base: Vec<u32>,
    /// m ids for each layer above the base, node by node, lowest layer first.
    pub upper: Vec<u32>,
    /// Where searches start.
    pub entry: Option<u32>,
    /// Deleted nodes still in the graph, ascending.
    pub dead: Vec<u32>,
    /// How far walks go for a recall, in a versioned form of its own; empty while there is no telling.
    pub recalls: Vec<u32>,
    /// Rows that came, changed or went since that was found out.
    pub changed: u64,
    /// The numbers of the basis that rows are coded in for walks; empty without codes.
    pub basis: Vec<f32>,
    /// Rows that the basis was trained on. With an empty basis: 0 while there were too few, else codes are too coarse.
    pub trained: u64,
}

/// Why stored arrays are no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid graph: {0}")]
pub struct GraphError(String);

impl Hnsw {
    /// An empty graph.
    ///
    /// # Panics
    /// When [`HnswParams::check`] finds an error.
    pub fn new(params: HnswParams) -> Self {
        if let Err(reason) = params.check() {
            panic!("{reason}");
        }
        Self {
            params,
            graph: Graph::new(params.m_for(0)),
            dead: BitSet::default(),
            nodes: BitSet::default(),
            space: Space::default(),
            recalls: None,
            sample: None,
            earlier: None,
            changed: 0,
            unchecked: 0,
            checks: 0,
            tree: Tree::default(),
            build_distances: 0,
        }
    }

    /// The parameters it was made with.
    pub fn params(&self) -> &HnswParams {
        &self.params
    }

    /// The links that a new node makes on each layer now: those of the parameters, or the choice of [`Profile::Auto`].
    pub fn m(&self) -> usize {
        self.graph.m()
    }

    /// Heap bytes held, the vectors not included.
    pub fn bytes(&self) -> usize {
        self.graph.bytes()
            + self.space.bytes()
            + self.tree.bytes()
            + [&self.sample, &self.earlier].into_iter().flatten().map(|sample| sample.bytes()).sum::<usize>()
            + (self.dead.words().len() + self.nodes.words().len()) * 8
    }

    /// The nearest matching rows that a walk with a beam of `ef_search` finds; k hits whenever k rows match.
    ///
    /// Where comparing all matching rows exactly is predicted to cost no more than the walk, it answers, and the answer
    /// says that it is exact. Under a filter all matching rows may also be compared by their codes and the nearest of
    /// them exactly: where that costs no more than a walk, or a walk turned out to lead nowhere. Then there are no hops,
    /// or few, and the answer is nearly always the true one, but not claimed to be.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search(&self, vectors: &Vectors, request: &Request<'_>, ef_search: usize) -> Answer {
        self.search_among(vectors, request, &request.matching(vectors), Reach::Beam(ef_search))
    }

    /// The nearest matching rows that a walk finds which goes on for as long as it takes to find a share `target` of
    /// them, by what the graph saw of its own rows; k hits whenever k rows match. The width of the beam depends on the
    /// query.
    ///
    /// A target of 1 is an exact search. The exact scan answers as under [`search`](Self::search).
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search_for_recall(&self, vectors: &Vectors, request: &Request<'_>, target: f64) -> Answer {
        if target >= 1.0 {
            return FlatScan.search(vectors, request);
        }
        self.search_among(vectors, request, &request.matching(vectors), Reach::Recall(target))
    }

    /// What it takes to go as far for k hits.
    fn effort(&self, reach: Reach, k: usize) -> Effort {
        match (reach, &self.recalls) {
            (Reach::Beam(ef_search), _) => Effort::beam(ef_search.max(k)),
            (Reach::Recall(target), Some(recalls)) => recalls.effort(k, target).0,
            (Reach::Recall(target), None) => Effort::guess(k, target),
        }
    }

    /// Searches where the rows that match are known already: `matching` are those of the request. `reach` is less than a
    /// recall of 1.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search_among(
        &self,
        vectors: &Vectors,
        request: &Request<'_>,
        matching: &BitSet,
        reach: Reach,
    ) -> Answer {
        let k = request.k.min(matching.count());
        if k == 0 {
            return Answer { exact: true, ..Answer::default() };
        }
        let query = vectors.query(request.query);
        let Some(entry) = self.graph.entry else {
            return FlatScan.search(vectors, request);
        };
        // Deleted nodes make walks longer, but they are no reason for another way of searching.
        let share = matching.count() as f64 / self.live_count().max(1) as f64;
        let share_of_nodes = matching.count() as f64 / self.nodes.count().max(1) as f64;
        let effort = self.effort(reach, k);
        let ef = effort.ef.min(self.graph.len());
        let most_exact = ef.saturating_mul(self.params.exact_scan_factor);
        if matching.count() <= most_exact || query.is_undirected() {
            return FlatScan.search(vectors, request);
        }
        let top = TopK::new(k, request.tie_break);
        let (graph, query, metric) = (&self.graph, &query, vectors.metric());
        let plain = Squared::plain(vectors, &self.space, request.query);
        let known = request.known.map(|farthest| plain.of_distance(metric, farthest));
        // When a walk has gone as far; none where the width of its beam says that.
        let stop = |squared| match (reach, &self.recalls) {
            (Reach::Recall(target), Some(recalls)) => Some(Within::new(recalls, (k, target), known, squared)),
            _ => None,
        };
        let most = effort.most.min(graph.len());
        let ((computed, hops), top, ef_search) = if share_of_nodes < 1.0 {
            let cost = (widened_among(ef, share_of_nodes) + FIXED_EF) * CODES_PER_ROW;
            let most_scanned = self.params.exact_scan_factor.saturating_mul(cost);
            let mut search = FilteredSearch {
                graph,
                matching,
                share,
                share_of_nodes,
                query,
                metric,
                entry,
                ef,
                most,
                stop: stop(Squared::CODED),
                most_scanned,
                top,
            };
            let coded = self.space.with_coded_query(request.query, |scorer| search.run(scorer, true));
            let work = coded.unwrap_or_else(|| {
                search.stop = stop(plain);
                search.run(query, false)
            });
            (work, search.top, search.ef)
        } else {
            let mut walk = Walk { graph, query, metric, entry, ef: most, stop: stop(Squared::CODED), top };
            let coded = self.space.with_coded_query(request.query, |scorer| walk.run(scorer));
            let work = coded.unwrap_or_else(|| {
                walk.stop = stop(plain);
                walk.run(query)
            });
            (work, walk.top, walk.ef)
        };
        let ef_search = Some(ef_search);
        let hits = top.into_sorted();
        if hits.len() < k {
            let mut answer = FlatScan.search(vectors, request);
            answer.distance_computations += computed;
            answer.hops = hops;
            return answer;
        }
        Answer { hits, exact: false, distance_computations: computed, hops, ef_search }
    }

    /// Distances computed by all insertions, merges and repairs so far; not kept in files.
    pub fn build_distances(&self) -> u64 {
        self.build_distances
    }

    /// Counts nodes, links and unreachable nodes.
    ///
    /// # Complexity
    /// Reads every link once.
    pub fn stats(&self) -> GraphStats {
        let reached = self.reached();
        GraphStats {
            live: self.live_count(),
            dead: self.dead.count(),
            base_links: (0..self.graph.len() as u32).map(|node| self.graph.links(0, node).len()).sum(),
            layers: self.graph.entry.map_or(0, |entry| usize::from(self.graph.level(entry)) + 1),
            unreachable: self.live().filter(|&node| !reached.contains(node)).count(),
        }
    }

    /// Nodes that can be hits.
    pub fn live_count(&self) -> usize {
        self.nodes.count() - self.dead.count()
    }

    /// The nodes that can be hits, ascending.
    fn live(&self) -> impl Iterator<Item = u32> + '_ {
        self.nodes.iter().filter(|&node| !self.dead.contains(node))
    }

    /// The graph as plain arrays.
    pub fn to_parts(&self) -> HnswParts {
        let (levels, base, upper) = self.graph.rows();
        let (basis, trained) = self.space.to_parts();
        HnswParts {
            params: self.params,
            m: self.graph.m(),
            levels: levels.to_vec(),
            base,
            upper: upper.to_vec(),
            entry: self.graph.entry,
            dead: self.dead.iter().collect(),
            recalls: self.recalls.as_ref().map(Table::to_numbers).unwrap_or_default(),
            changed: self.changed as u64,
            basis,
            trained,
        }
    }

    /// A graph over `vectors` from plain arrays, after checking every id in them.
    ///
    /// # Errors
    /// When array lengths do not fit each other, an id is out of range or a node is linked above its top layer.
    pub fn from_parts(vectors: &Vectors, parts: HnswParts) -> Result<Self, GraphError> {
        check_parts(vectors, &parts)?;
        let HnswParts { params, m, levels, base, upper, entry, dead, recalls, changed, basis, trained } =
            parts;
        let mut hnsw = Self::new(params);
        hnsw.graph = Graph::from_rows(m, &levels, &base, &upper);
        hnsw.graph.entry = entry;
        hnsw.nodes = vectors.live().clone();
        for node in dead {
            hnsw.dead.insert(node);
            hnsw.nodes.insert(node);
        }
        hnsw.space.restore(vectors, &basis, trained).map_err(GraphError)?;
        hnsw.recalls = Table::from_numbers(&recalls).map_err(GraphError)?;
        // Without a table, as old files are, all rows count as new.
        let fresh = if hnsw.recalls.is_some() { 0 } else { vectors.live().count() };
        hnsw.changed = (changed as usize).max(fresh);
        Ok(hnsw)
    }
}

/// A search of a graph all of whose nodes match.
struct Walk<'a> {
    graph: &'a Graph,
    query: &'a Query<'a>,
    metric: Metric,
    entry: u32,
    /// The width of the beam; after the walk, what was made use of.
    ef: usize,
    stop: Option<Within<'a>>,
    top: TopK<'a>,
}

impl Walk<'_> {
    /// Gives distances computed and hops.
    fn run(&mut self, scorer: &impl Scorer) -> (usize, usize) {
        Scratch::with(|scratch| {
            scratch.start();
            let nearest = scratch.descend(self.graph, scorer, self.entry, 0);
            match &mut self.stop {
                None => {
                    scratch.search_layer_until(self.graph, scorer, 0, &[nearest], self.ef, &mut WholeBeam)
                }
                Some(stop) => {
                    scratch.search_layer_until(self.graph, scorer, 0, &[nearest], self.ef, stop);
                    self.ef = scratch.beam.widest();
                }
            }
            let Scratch { beam, reranking, .. } = scratch;
            let compared = reranking.rerank(self.query, beam.candidates(), self.metric, &mut self.top);
            (scratch.computed + compared, scratch.hops)
        })
    }
}

fn check_parts(vectors: &Vectors, parts: &HnswParts) -> Result<(), GraphError> {
    let fail = |what: String| Err(GraphError(what));
    let HnswParts { params, m, levels, base, upper, entry, dead, .. } = parts;
    params.check().map_err(GraphError)?;
    let (m, nodes) = (*m, levels.len());
    if !params.makes(m) {
        return fail(format!("its nodes make {m} links, its parameters say {:?}", params.m));
    }
    let live = vectors.live();
    // Rows past the last node are free ones that no insertion has reached yet.
    if nodes > vectors.len() || live.iter().last().is_some_and(|last| last as usize >= nodes) {
        return fail(format!("it has {nodes} nodes for {} vectors", vectors.len()));
    }
    if let Some(node) = levels.iter().position(|&level| level > MAX_LEVEL) {
        return fail(format!("node {node} is on layer {}, at most {MAX_LEVEL} is possible", levels[node]));
    }
    let upper_rows: usize = levels.iter().map(|&level| usize::from(level)).sum();
    if base.len() != nodes * 2 * m || upper.len() != upper_rows * m {
        return fail(format!(
            "{} base and {} upper ids, expected {} and {}",
            base.len(),
            upper.len(),
            nodes * 2 * m,
            upper_rows * m
        ));
    }
    if entry.is_some_and(|entry| entry as usize >= nodes) || (entry.is_none() && live.count() > 0) {
        return fail(format!("the entry point is {entry:?} of {nodes} nodes"));
    }
    if let Some(node) = dead.iter().find(|&&node| node as usize >= nodes || live.contains(node)) {
        return fail(format!("node {node} is marked as deleted but is live or absent"));
    }
    let on_layer = |id: u32, layer: usize| {
        id == NONE || levels.get(id as usize).is_some_and(|&level| usize::from(level) >= layer)
    };
    if let Some(place) = base.iter().position(|&id| !on_layer(id, 0)) {
        return fail(format!("node {} links to {}, there are {nodes} nodes", place / (2 * m), base[place]));
    }
    let layers = levels.iter().flat_map(|&level| 1..=usize::from(level));
    for (row, layer) in upper.chunks_exact(m).zip(layers) {
        if let Some(id) = row.iter().find(|&&id| !on_layer(id, layer)) {
            return fail(format!("a node on layer {layer} links to {id}, which is not on that layer"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod baseline;
#[cfg(test)]
mod maintenance;
#[cfg(test)]
mod tests;
