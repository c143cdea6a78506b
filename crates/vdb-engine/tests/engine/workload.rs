//! Random operations and searches, all from one seed. Ids are few, values are often equal, and every path of a collection
//! is common: heads of a handful of points, graphs of some dozens.

use crate::oracle::{Model, Searched, Test};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use vdb_distance::{ElementType, Metric};
use vdb_engine::{
    CollectionConfig, Condition, Effort, Error, FieldIndex, Operation, Payload, Point, PointId, Search,
    Settings, StoredPoint, VectorConfig, View,
};
use vdb_index::{CodeKind, CodedParams, HnswParams, IvfParams, LshFamily, LshParams};

const METRICS: [Metric; 4] = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];
const TEXTS: [&str; 6] = ["", "7", "ä ö", "a text that is longer than sixteen bytes", "b", "B"];

/// What a sequence has to do with.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) rng: ChaCha8Rng,
    /// Ids that there are.
    ids: u64,
    /// Draws whole numbers only: ties, and vectors of a byte a value.
    whole: bool,
}

fn has_a(stored: &StoredPoint) -> bool {
    stored.point.payload.contains_key("a")
}

fn is_odd(stored: &StoredPoint) -> bool {
    stored.version % 2 == 1
}

fn a_is_one(_: &PointId, payload: &Payload) -> bool {
    payload.get("a") == Some(&json!(1))
}

fn is_number(id: &PointId, _: &Payload) -> bool {
    matches!(id, PointId::Number(_))
}

fn is_never(_: &PointId, _: &Payload) -> bool {
    false
}

fn has_payload(_: &PointId, payload: &Payload) -> bool {
    !payload.is_empty()
}

/// Settings under which everything happens soon.
pub(crate) fn settings(rng: &mut ChaCha8Rng) -> Settings {
    let mut settings = Settings::default();
    settings.seal_points = [3, 8, 20][rng.random_range(0..3)];
    settings.seal_bytes = if rng.random_bool(0.2) { 1_500 } else { 1 << 20 };
    settings.least_graph_rows = [4, 16, 30][rng.random_range(0..3)];
    settings.most_segments = rng.random_range(1..4);
    settings.most_unindexed = [30, 200, 100_000][rng.random_range(0..3)];
    settings.kept_manifests = if rng.random_bool(0.3) { 2 } else { 0 };
    settings
}

impl Workload {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ids = [8, 40, 120][rng.random_range(0..3)];
        let whole = rng.random_bool(0.5);
        Self { rng, ids, whole }
    }

    pub(crate) fn chance(&mut self, of: f64) -> bool {
        self.rng.random_bool(of)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }

    pub(crate) fn id(&mut self) -> PointId {
        let number = self.rng.random_range(0..self.ids);
        match number % 4 {
            0 if number == 0 => PointId::from(u64::MAX),
            0 | 1 => PointId::from(number),
            2 => PointId::Uuid(uuid::Uuid::from_u128(u128::from(number) << 100 | 77)),
            _ => match TEXTS.get(number as usize / 4) {
                Some(text) => PointId::from(*text),
                None => PointId::from(format!("text {number}")),
            },
        }
    }

    pub(crate) fn field(&mut self) -> VectorConfig {
        let dim = self.rng.random_range(1..7);
        let hnsw = HnswParams {
            m: Some(self.rng.random_range(2..8)),
            ef_construction: self.rng.random_range(10..40),
            // Mostly the graph is walked, few as the rows are.
            exact_scan_factor: if self.chance(0.8) { 0 } else { 16 },
            seed: self.rng.random_range(0..3),
        };
        let elements = [
            ElementType::F32,
            ElementType::F32,
            ElementType::F32,
            ElementType::F16,
            ElementType::Bf16,
            ElementType::U8,
        ];
        let element = elements[self.below(elements.len())];
        let metric = METRICS[self.below(METRICS.len())];
        let index = match self.below(12) {
            0..6 => FieldIndex::Hnsw(hnsw),
            6 | 7 => FieldIndex::Flat,
            8 | 9 => self.codes(metric),
            10 => FieldIndex::Ivf(IvfParams {
                lists: self.chance(0.5).then(|| self.below(5) + 1),
                bits: self.below(8) as u8 + 1,
                spill: self.chance(0.3),
                seed: 1,
            }),
            _ => FieldIndex::Lsh(LshParams {
                family: [LshFamily::Hyperplane, LshFamily::FastHyperplane, LshFamily::CrossPolytope]
                    [self.below(3)],
                num_tables: Some(self.below(3) + 1),
                num_functions: self.chance(0.5).then_some(3),
                seed: 2,
            }),
        };
        VectorConfig::new(dim, metric).with_index(index).with_element(element)
    }

    /// Any quantizer that goes with a metric.
    fn codes(&mut self, metric: Metric) -> FieldIndex {
        let fits = |kind: &CodeKind| CodedParams::new(*kind).check(metric, 1).is_ok();
        let kinds: Vec<CodeKind> = CodeKind::ALL.into_iter().filter(fits).collect();
        FieldIndex::Coded(CodedParams::new(kinds[self.below(kinds.len())]))
    }

    /// Of one field without a name, mostly, and perhaps others.
    pub(crate) fn config(&mut self) -> CollectionConfig {
        let mut vectors = BTreeMap::new();
        if self.chance(0.95) {
            vectors.insert(String::new(), self.field());
        }
        if self.chance(0.4) {
            vectors.insert("second".to_owned(), self.field());
        }
        CollectionConfig { vectors }
    }

    pub(crate) fn vector(&mut self, dim: usize) -> Vec<f32> {
        let kind = self.below(20);
        (0..dim)
            .map(|_| match kind {
                0 => 0.0,
                1 => [-0.0, 1e-40, 1e30, -3e38, 65_504.0, 0.1][self.below(6)],
                2..6 if !self.whole => self.rng.random_range(-4..5) as f32 / 4.0,
                _ if self.whole => self.rng.random_range(0..4) as f32,
                _ => self.rng.random_range(-1.0..1.0),
            })
            .collect()
    }

    pub(crate) fn payload(&mut self) -> Payload {
        let mut payload = Payload::new();
        if self.chance(0.4) {
            return payload;
        }
        if self.chance(0.7) {
            payload.insert("a".to_owned(), json!(self.rng.random_range(0..3)));
        }
        if self.chance(0.5) {
            let value = match self.below(7) {
                0 => Value::Null,
                1 => json!(self.rng.random::<f64>() * 10f64.powi(self.rng.random_range(-30..30))),
                2 => json!({"deep": [1, {"x": "\u{1}\"\\ß\u{10ffff}"}, []]}),
                3 => json!(self.rng.random::<u64>()),
                4 => json!(i64::MIN),
                5 => json!("text".repeat(self.below(30))),
                _ => json!(true),
            };
            payload.insert(["", "b", "ключ"][self.below(3)].to_owned(), value);
        }
        payload
    }

    pub(crate) fn time(&mut self) -> Option<u64> {
        let any = |work: &mut Self| if work.chance(0.1) { 0 } else { work.rng.random_range(1..1_000) };
        self.chance(0.2).then(|| any(self))
    }

    /// A point that can be taken in.
    pub(crate) fn point(&mut self, model: &Model) -> Point {
        let fields: Vec<_> =
            model.fields.iter().map(|(name, field)| (name.clone(), field.config.dim)).collect();
        let vectors =
            fields.into_iter().filter_map(|(name, dim)| self.chance(0.85).then(|| (name, self.vector(dim))));
        let vectors = vectors.collect();
        Point { id: self.id(), vectors, payload: self.payload(), expires_at: self.time() }
    }

    /// An id, as a rule of a point that is there.
    pub(crate) fn known_id(&mut self, model: &Model) -> PointId {
        if model.points.is_empty() || self.chance(0.02) {
            return self.id();
        }
        let place = self.below(model.points.len());
        model.points.keys().nth(place).expect("there are more").clone()
    }

    fn condition(&mut self, id: &PointId, model: &Model) -> Condition<'static> {
        match self.below(10) {
            0 => Condition::Absent,
            1 => Condition::Present,
            2 => Condition::Version(model.points.get(id).map_or(3, |stored| stored.version)),
            3 => Condition::Version(self.rng.random_range(0..=model.version)),
            4 => Condition::Holds(&has_a),
            5 => Condition::Holds(&is_odd),
            _ => Condition::Always,
        }
    }

    /// Names and dimensions of the fields.
    fn dims(model: &Model) -> Vec<(String, usize)> {
        model.fields.iter().map(|(name, field)| (name.clone(), field.config.dim)).collect()
    }

    /// An operation that can be done, unless it changes a point that is not there.
    fn operation(&mut self, model: &Model) -> Operation<'static> {
        match self.below(20) {
            0..11 => {
                let point = self.point(model);
                let condition = self.condition(&point.id, model);
                Operation::Upsert(point, condition)
            }
            11 => {
                let vectors = Self::dims(model)
                    .into_iter()
                    .filter_map(|(name, dim)| self.chance(0.7).then(|| (name, self.vector(dim))));
                let vectors = vectors.collect();
                Operation::UpdateVectors(self.known_id(model), vectors)
            }
            12 => {
                let names =
                    Self::dims(model).into_iter().filter(|_| self.chance(0.5)).map(|field| field.0).collect();
                Operation::DeleteVectors(self.known_id(model), names)
            }
            13 => Operation::SetPayload(self.known_id(model), self.payload()),
            14 => Operation::OverwritePayload(self.known_id(model), self.payload()),
            15 => Operation::DeletePayload(self.known_id(model), vec!["a".to_owned(), "none".to_owned()]),
            16 => Operation::Expire(self.known_id(model), self.time()),
            17 => Operation::DeleteExpired(self.known_id(model), self.rng.random_range(0..1_000)),
            _ => Operation::Delete(if self.chance(0.8) { self.known_id(model) } else { self.id() }),
        }
    }

    /// An operation for which the whole batch is to be refused.
    fn bad_operation(&mut self, model: &Model) -> Operation<'static> {
        let mut point = self.point(model);
        let Some((name, dim)) = Self::dims(model).into_iter().next() else {
            point.vectors.insert("unknown".to_owned(), vec![1.0]);
            return Operation::upsert(point);
        };
        let mut vector = self.vector(dim);
        match self.below(7) {
            0 => vector.push(1.0),
            1 => {
                vector.pop();
            }
            2 => vector[dim / 2] = f32::NAN,
            3 => vector[dim - 1] = f32::NEG_INFINITY,
            4 => {
                point.vectors.insert("unknown".to_owned(), vector);
                return Operation::upsert(point);
            }
            5 => {
                point.id = PointId::from("x".repeat(4_097));
                return Operation::upsert(point);
            }
            _ => return Operation::DeleteVectors(self.id(), vec!["unknown".to_owned()]),
        }
        point.vectors.insert(name, vector);
        if self.chance(0.5) {
            Operation::upsert(point)
        } else {
            Operation::UpdateVectors(point.id, point.vectors)
        }
    }

    /// A batch. Ids come more than once, and now and then the whole of it is to be refused.
    pub(crate) fn batch(&mut self, model: &Model) -> Vec<Operation<'static>> {
        let count = if self.chance(0.1) { 40 } else { self.rng.random_range(0..7) };
        // In a large batch most ids must be there for it to be done.
        let mut operations: Vec<_> = (0..count)
            .map(|_| if count > 10 { Operation::upsert(self.point(model)) } else { self.operation(model) })
            .collect();
        if self.chance(0.08) {
            let place = self.below(operations.len() + 1);
            operations.insert(place, self.bad_operation(model));
        }
        operations
    }

    /// Searches, and holds the answer against the model's. Gives the recall of an answer that is not exact.
    pub(crate) fn search(&mut self, view: &View, model: &Model) -> Option<f64> {
        let fields = Self::dims(model);
        if fields.is_empty() || self.chance(0.02) {
            let error = view.search(&Search::new(&[1.0], 1).field("unknown")).unwrap_err();
            assert!(matches!(error, Error::NoSuchField { .. }), "{error}");
            return None;
        }
        let (field, dim) = &fields[self.below(fields.len())];
        let query = match model.points.values().nth(self.below(model.points.len() + 1)) {
            Some(stored) if self.chance(0.3) => stored.point.vectors.get(field).cloned(),
            _ => None,
        };
        let mut query = query.unwrap_or_else(|| self.vector(*dim));
        let k = [0, 1, 2, 5, 10, 1_000][self.below(6)];
        let efforts = [
            Effort::Exact,
            Effort::Exact,
            Effort::TargetRecall(1.0),
            Effort::Default,
            Effort::TargetRecall(0.5),
            Effort::TargetRecall(0.9),
            Effort::EfSearch(1),
            Effort::EfSearch(30),
            Effort::Oversampling(1),
            Effort::Probes(1),
            Effort::Candidates(1),
        ];
        let effort = efforts[self.below(efforts.len())];
        if self.chance(0.02) {
            let mut effort = effort;
            match self.below(7) {
                0 => query.push(0.0),
                1 => query[0] = f32::NAN,
                2 => effort = Effort::EfSearch(0),
                3 => effort = Effort::Oversampling(0),
                4 => effort = Effort::Probes(0),
                5 => effort = Effort::Candidates(0),
                _ => effort = Effort::TargetRecall(f64::NAN),
            }
            let error = view.search(&Search::new(&query, k).field(field).effort(effort)).unwrap_err();
            assert!(matches!(error, Error::InvalidQuery { .. }), "{error}");
            return None;
        }
        let tests: [Option<Test>; 6] =
            [None, None, Some(a_is_one), Some(is_number), Some(is_never), Some(has_payload)];
        let test = tests[self.below(tests.len())];
        let (with_payload, with_vectors) = (self.chance(0.3), self.chance(0.3));
        let mut search = Search::new(&query, k).field(field).effort(effort);
        if let Some(test) = &test {
            search = search.filter(test);
        }
        if with_payload {
            search = search.with_payload();
        }
        if with_vectors {
            search = search.with_vectors();
        }
        let is_exact = matches!(effort, Effort::Exact | Effort::TargetRecall(1.0));
        let answer = view.search(&search).unwrap();
        let of = Searched { field, query: &query, k, test, is_exact, with_payload, with_vectors };
        let recall = model.check_answer(&answer, &of);
        let is_narrow = matches!(
            effort,
            Effort::EfSearch(1) | Effort::Oversampling(1) | Effort::Probes(1) | Effort::Candidates(1)
        );
        let is_graph = matches!(model.fields[field].config.index, FieldIndex::Hnsw(_));
        (!answer.exact && !is_narrow && is_graph).then_some(recall)
    }
}
