//! Keeping lists in shape while rows come and go: splitting, dissolving, moving rows.

use super::train::rows_of;
use super::{NOWHERE, Trained, placed};
use crate::Vectors;
use std::collections::BTreeMap;
use vdb_distance::Metric;
use vdb_quant::{KMeans, KMeansConfig};

/// A list of more than so many times its share is split.
const SPLIT_FACTOR: usize = 4;
/// No list of fewer rows is split.
const SPLIT_ROWS: usize = 128;
/// A list of fewer than one in so many of its share is dissolved.
const DISSOLVE_SHARE: usize = 16;
/// Rows that are placed at a time.
const PART: usize = 1 << 12;
/// Lists around a split one whose rows may move to the new ones.
const NEIGHBOURS: usize = 8;
/// Iterations of the k-means that splits a list.
const SPLIT_ITERATIONS: usize = 8;

impl Trained {
    /// Adds live rows that are not in the index.
    pub(super) fn add(&mut self, vectors: &Vectors, offsets: &[u32]) {
        self.homes.resize(vectors.len() * self.copies, NOWHERE);
        self.rows += offsets.len();
        self.place(vectors, offsets);
        let mut grown = BTreeMap::new();
        for &offset in offsets {
            let homes = &self.homes[offset as usize * self.copies..][..self.copies];
            homes.iter().for_each(|&list| *grown.entry(list as usize).or_insert(0) += 1);
        }
        for (list, added) in grown {
            let len = self.lists.len(list);
            let before = len.saturating_sub(added).max(1);
            // A list of equal rows cannot be split; it is tried again only when it has doubled.
            if before <= self.most() || before.ilog2() != len.max(1).ilog2() {
                self.split_down(vectors, list);
            }
        }
    }

    /// Splits a list until its parts are small enough.
    fn split_down(&mut self, vectors: &Vectors, list: usize) {
        let mut large = vec![list];
        while let Some(list) = large.pop() {
            if self.lists.len(list) > self.most() && self.split(vectors, list) {
                large.extend([list, self.coarse.count() - 1]);
            }
        }
    }

    fn share(&self) -> usize {
        self.rows * self.copies / self.coarse.count()
    }

    fn most(&self) -> usize {
        (SPLIT_FACTOR * self.share()).max(SPLIT_ROWS)
    }

    /// Puts rows that are in no list into those of their nearest centroids.
    fn place(&mut self, vectors: &Vectors, offsets: &[u32]) {
        for part in offsets.chunks(PART) {
            let rows = rows_of(vectors, part);
            let homes = match part {
                [_] if self.copies == 1 => vec![self.coarse.nearest(&rows)],
                _ => self.choose_homes(&rows),
            };
            for (i, &offset) in part.iter().enumerate() {
                let vector = &rows[i * vectors.dim()..][..vectors.dim()];
                let homes = &homes[i * self.copies..][..self.copies];
                self.homes[offset as usize * self.copies..][..self.copies].copy_from_slice(homes);
                homes.iter().for_each(|&list| self.put(list as usize, offset, vector));
            }
        }
    }

    fn put(&mut self, list: usize, offset: u32, vector: &[f32]) {
        let centre = self.coarse.centre(list, self.codec.as_ref());
        self.lists.push(list, offset, self.codec.as_ref().zip(centre.as_ref()), vector);
    }

    pub(super) fn remove(&mut self, vectors: &Vectors, offset: u32) {
        let homes = self.take(offset);
        if homes.is_empty() {
            return;
        }
        self.rows -= 1;
        for list in homes {
            let len = self.lists.len(list as usize);
            if len * DISSOLVE_SHARE < self.share() && self.coarse.count() > 1 + self.copies {
                // A list that was dissolved before may have given its number to another.
                if (list as usize) < self.coarse.count() {
                    self.dissolve(vectors, list as usize);
                }
            }
        }
    }

    /// Takes a row out of its lists and tells which they were.
    fn take(&mut self, offset: u32) -> Vec<u32> {
        let start = offset as usize * self.copies;
        let Some(homes) = self.homes.get_mut(start..start + self.copies) else { return Vec::new() };
        let taken: Vec<u32> = homes.iter().copied().filter(|&list| list != NOWHERE).collect();
        homes.fill(NOWHERE);
        for &list in &taken {
            self.lists.remove(list as usize, offset, self.codec.as_ref());
        }
        taken
    }

    /// Two lists of one, each row of it going to the nearest list there is; false when its rows do not divide.
    fn split(&mut self, vectors: &Vectors, list: usize) -> bool {
        let members: Vec<u32> = self.lists.get(list).rows().collect();
        let rows = rows_of(vectors, &members);
        let config = KMeansConfig::new(2).seed(u64::from(members[0])).iterations(SPLIT_ITERATIONS);
        let Ok(halves) = KMeans::train(&rows, vectors.dim(), &config) else { return false };
        let second = halves.assign_all(&rows).into_iter().filter(|&half| half == 1).count();
        if second == 0 || second == members.len() {
            return false;
        }
        members.iter().for_each(|&offset| drop(self.take(offset)));
        self.lists.push_list();
        self.coarse.set(list, halves.centroid(0), self.codec.as_ref());
        self.coarse.push(halves.centroid(1), self.codec.as_ref());
        self.place(vectors, &members);
        self.draw_neighbours(vectors, [list, self.coarse.count() - 1]);
        self.lists.len(list) < members.len()
    }

    /// Moves rows of the lists around two new centroids that are nearer to one of those than to their own.
    fn draw_neighbours(&mut self, vectors: &Vectors, new: [usize; 2]) {
        let distance = |row: &[f32], list: usize| vdb_distance::l2_squared(row, self.coarse.centroid(list));
        let around = self.coarse.rank(Metric::Euclidean, self.coarse.centroid(new[0]), None, NEIGHBOURS + 2);
        let mut drawn = Vec::new();
        let mut row = Vec::with_capacity(vectors.dim());
        for list in around.into_iter().map(|near| near.list as usize).filter(|list| !new.contains(list)) {
            for offset in self.lists.get(list).rows() {
                row.clear();
                placed(vectors, offset, &mut row);
                let own = distance(&row, list);
                if new.iter().any(|&new| distance(&row, new) < own) {
                    drawn.push(offset);
                }
            }
        }
        drawn.sort_unstable();
        drawn.dedup();
        drawn.iter().for_each(|&offset| drop(self.take(offset)));
        self.place(vectors, &drawn);
    }

    /// Gives the rows of a list to others.
    fn dissolve(&mut self, vectors: &Vectors, list: usize) {
        let members: Vec<u32> = self.lists.get(list).rows().collect();
        members.iter().for_each(|&offset| drop(self.take(offset)));
        let last = self.coarse.count() - 1;
        for row in self.lists.get(last).rows() {
            let homes = &mut self.homes[row as usize * self.copies..][..self.copies];
            homes.iter_mut().filter(|home| **home as usize == last).for_each(|home| *home = list as u32);
        }
        self.lists.swap_remove_list(list);
        self.coarse.swap_remove(list, self.codec.as_ref());
        self.place(vectors, &members);
    }
}
