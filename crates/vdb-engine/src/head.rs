//! The points written since the last sealing, in memory. They are searched exactly, but for those that were given a graph
//! already.
//!
//! A point has a *row*: how many points came into this head before it. Rows are never used again; a point that is replaced
//! or deleted leaves its row. A [`HeadView`] is the head as it was at some time and never changes; it shares rows and
//! points with the head, so making one costs a few words for every block of rows.
//!
//! Which row an id has is asked by writers all the time and by readers now and then. One table for both lies behind a
//! read-write lock that is held for a look-up only. Since it tells the last row that an id was ever given, a reader of
//! an older view follows the rows that the id had before.

use crate::PointId;
use crate::budget::{Budget, Reserved};
use crate::record::Put;
use crate::schema::{Field, Schema};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use vdb_index::{Answer, BitSet, Hnsw, Reach, RecentRows, Request, Vectors};

/// Points of a block, which is copied when a point comes in behind a view.
const BLOCK_POINTS: usize = 256;
/// No row before this one.
const NONE: u32 = u32::MAX;

/// A point of a head, but for its vectors.
#[derive(Debug)]
pub(crate) struct HeadPoint {
    pub(crate) id: PointId,
    /// A JSON object; nothing for the empty one.
    pub(crate) payload: Box<[u8]>,
    pub(crate) version: u64,
    pub(crate) expires: u64,
    /// Where its vectors are: the number of the field, and the place among its rows.
    places: Box<[(u32, u64)]>,
}

/// The last row of each id, and the row that the id of a row had before.
#[derive(Debug, Default)]
struct Rows {
    last: HashMap<PointId, u32>,
    before: Vec<u32>,
}

/// What a head and its views have in common: the rows of a field, the points, which of them are there.
#[derive(Debug, Clone)]
pub(crate) struct HeadView {
    fields: Vec<(u32, RecentRows)>,
    blocks: Vec<Arc<Vec<Arc<HeadPoint>>>>,
    rows: u32,
    live: Arc<BitSet>,
    ids: Arc<RwLock<Rows>>,
    /// Whether some point was to expire.
    expiring: bool,
    /// Over the first rows, those that were linked; of each field that is to have one.
    graphs: Vec<(u32, Arc<HeadGraph>)>,
    /// How many of the rows those are, and for each field the place of the first row behind them.
    linked: u32,
    linked_places: Vec<(u32, u64)>,
}

/// A graph over the first rows of a head. Rows of points that are gone stay in it.
#[derive(Debug)]
pub(crate) struct HeadGraph {
    pub(crate) vectors: Vectors,
    pub(crate) hnsw: Hnsw,
    pub(crate) _reserved: Reserved,
}

/// The head, for the one writer.
#[derive(Debug)]
pub(crate) struct Head {
    now: HeadView,
    reserved: Reserved,
}

impl HeadView {
    /// Rows, those of points that are gone included.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Points.
    pub(crate) fn len(&self) -> usize {
        self.live.count()
    }

    /// Whether some point is to expire.
    pub(crate) fn has_expiring(&self) -> bool {
        self.expiring
    }

    pub(crate) fn live(&self) -> &BitSet {
        &self.live
    }

    /// The point of a row, there or gone.
    pub(crate) fn point(&self, row: u32) -> &Arc<HeadPoint> {
        let row = row as usize;
        &self.blocks[row / BLOCK_POINTS][row % BLOCK_POINTS]
    }

    /// The row of an id, when the point is there.
    pub(crate) fn find(&self, id: &PointId) -> Option<u32> {
        let ids = self.ids.read().unwrap_or_else(PoisonError::into_inner);
        let mut row = *ids.last.get(id)?;
        while row >= self.rows {
            // Rows from here on came after this view.
            if row == NONE {
                return None;
            }
            row = ids.before[row as usize];
        }
        self.live.contains(row).then_some(row)
    }

    /// The vector of a row in some field.
    pub(crate) fn vector(&self, row: u32, field: u32) -> Option<Vec<f32>> {
        let place = self.point(row).places.iter().find(|place| place.0 == field)?.1;
        self.fields.iter().find(|own| own.0 == field)?.1.row_at(place)
    }

    /// Rows that have a vector of a field.
    pub(crate) fn vectors(&self, field: u32) -> usize {
        self.fields.iter().find(|own| own.0 == field).map_or(0, |own| own.1.live())
    }

    /// The nearest rows: of those that are linked as far as `reach` goes, of the others exactly. One answer for each kind that
    /// there are rows of.
    pub(crate) fn search(&self, field: u32, request: &Request<'_>, reach: Reach) -> Vec<Answer> {
        let Some((_, rows)) = self.fields.iter().find(|own| own.0 == field) else { return Vec::new() };
        let graph = self.graph(field).filter(|_| reach != Reach::Recall(1.0));
        let Some(graph) = graph else { return vec![rows.search(request)] };
        let left = graph.vectors.live().intersection(request.allowed.unwrap_or(&self.live));
        let among = Request { allowed: Some(&left), ..*request };
        let linked = graph.hnsw.search_among(&graph.vectors, &among, &left, reach);
        let place = self.linked_places.iter().find(|own| own.0 == field).map_or(0, |own| own.1);
        vec![linked, rows.search_from(place, request)]
    }

    /// Whether it is of the same head.
    pub(crate) fn is_same(&self, other: &HeadView) -> bool {
        Arc::ptr_eq(&self.ids, &other.ids)
    }

    /// The graph of a field.
    pub(crate) fn graph(&self, field: u32) -> Option<&HeadGraph> {
        self.graphs.iter().find(|own| own.0 == field).map(|own| &*own.1)
    }

    /// Rows that were linked, and that were not.
    pub(crate) fn linked(&self) -> u32 {
        self.linked
    }

    pub(crate) fn unlinked(&self) -> usize {
        self.len().min((self.rows - self.linked) as usize)
    }

    /// The same with the graphs of a later or earlier view of the same head, as far as they are over rows of this one.
    pub(crate) fn with_graphs_of(&self, other: &HeadView) -> HeadView {
        if other.linked > self.rows {
            return self.clone();
        }
        let (graphs, linked_places) = (other.graphs.clone(), other.linked_places.clone());
        HeadView { graphs, linked: other.linked, linked_places, ..self.clone() }
    }
}

impl Head {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        let now = HeadView {
            fields: Vec::new(),
            blocks: Vec::new(),
            rows: 0,
            live: Arc::default(),
            ids: Arc::default(),
            expiring: false,
            graphs: Vec::new(),
            linked: 0,
            linked_places: Vec::new(),
        };
        Self { now, reserved: Reserved::nothing(budget) }
    }

    /// The head as it is now.
    pub(crate) fn view(&self) -> HeadView {
        self.now.clone()
    }

    pub(crate) fn now(&self) -> &HeadView {
        &self.now
    }

    /// Heap bytes, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.reserved.bytes()
    }

    /// Becomes responsible for the bytes of points that come in.
    pub(crate) fn reserve(&mut self, reserved: Reserved) {
        self.reserved.join(reserved);
    }

    /// Puts a point whose id has no row here that is there still. [`join`](Self::join) must follow before a view is made.
    pub(crate) fn put(&mut self, put: Put, version: u64, schema: &Schema) {
        let now = &mut self.now;
        let row = now.rows;
        let mut places = Vec::with_capacity(put.vectors.len());
        for (number, values) in &put.vectors {
            // Dropped since the record was written.
            let Some(Field { config, .. }) = schema.by_number(*number) else { continue };
            let own = now.fields.iter().position(|own| own.0 == *number).unwrap_or_else(|| {
                now.fields.push((*number, RecentRows::new(config.metric, config.dim)));
                now.fields.len() - 1
            });
            places.push((*number, now.fields[own].1.push(row, values)));
        }
        {
            let mut ids = now.ids.write().unwrap_or_else(PoisonError::into_inner);
            let before = ids.last.insert(put.id.clone(), row).unwrap_or(NONE);
            ids.before.push(before);
        }
        let Put { id, payload, expires, .. } = put;
        now.expiring |= expires > 0;
        let point = Arc::new(HeadPoint { id, payload, version, expires, places: places.into() });
        match now.blocks.last_mut().filter(|block| block.len() < BLOCK_POINTS) {
            Some(block) => Arc::make_mut(block).push(point),
            None => {
                let mut block = Vec::with_capacity(BLOCK_POINTS);
                block.push(point);
                now.blocks.push(Arc::new(block));
            }
        }
        Arc::make_mut(&mut now.live).insert(row);
        now.rows += 1;
    }

    /// Takes the point of an id away; says whether it was there.
    pub(crate) fn remove(&mut self, id: &PointId) -> bool {
        let Some(row) = self.now.find(id) else { return false };
        let point = Arc::clone(self.now.point(row));
        for (number, place) in &point.places {
            if let Some((_, rows)) = self.now.fields.iter_mut().find(|own| own.0 == *number) {
                rows.remove(*place);
            }
        }
        Arc::make_mut(&mut self.now.live).remove(row);
        true
    }

    /// The head as it is now, whose rows stay apart from those that come, so that they can be left out of a search.
    pub(crate) fn begin_linking(&mut self) -> HeadView {
        let places = self.now.fields.iter_mut().map(|own| (own.0, own.1.seal()));
        let linked_places = places.collect();
        HeadView { linked_places, ..self.view() }
    }

    /// Takes graphs over all rows that there were when the linking began.
    pub(crate) fn end_linking(&mut self, begun: &HeadView, graphs: Vec<(u32, Arc<HeadGraph>)>) {
        self.now.graphs = graphs;
        self.now.linked = begun.rows;
        self.now.linked_places.clone_from(&begun.linked_places);
    }

    /// After the last [`put`](Self::put) of a batch.
    pub(crate) fn join(&mut self) {
        self.now.fields.iter_mut().for_each(|own| own.1.join());
    }
}
