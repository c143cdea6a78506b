//! Posting lists as named sections of bytes, which are scanned where they lie: `docs/format.md`, "Posting lists of a segment".
//!
//! Opening reads centroids and lengths; it looks at no list. A search passes over rows that do not match, those that there are
//! not among them, so a damaged file costs hits, not a panic; [`Ivf::verify`] looks at every row of every list.

use super::coarse::Coarse;
use super::lists::{Layout, Lists};
use super::parts::{check_centroids, homes};
use super::{Ivf, IvfParams, Trained};
use crate::Vectors;
use crate::stored::{Sections, VERSION, config, f32s, read_config, u32s};
use std::borrow::Cow;
use vdb_distance::Owner;

impl Ivf {
    /// An index over all rows, however few they are. It has no lists where there are no centroids for them.
    ///
    /// # Errors
    /// A sentence that says which parameter is out of range.
    pub fn build(params: IvfParams, vectors: &Vectors) -> Result<Self, String> {
        params.check()?;
        let fits = vectors.live().count() > 0 && vectors.dim() <= vdb_quant::MAX_CODE_BYTES;
        let trained = fits.then(|| Trained::train(&params, vectors)).flatten();
        // Centroids of rows at the end of the range of `f32` may leave it.
        let fits = |trained: &Trained| {
            let mean = trained.codec.as_ref().map_or(&[][..], |codec| codec.quantizer().centre());
            let (centroids, lists) = (trained.coarse.centroids(), trained.lists.count());
            check_centroids(trained.metric, vectors.dim(), mean, centroids, lists).is_ok()
        };
        Ok(Self { params, trained: trained.filter(fits) })
    }

    /// The sections that [`open`](Self::open) reads; none without lists.
    pub fn stored(&self) -> Sections<'_> {
        let Some(trained) = &self.trained else { return Vec::new() };
        let numbers = [VERSION, trained.trained_rows as u64, trained.probes as u64];
        let mean = trained.codec.as_ref().map_or(&[][..], |codec| codec.quantizer().centre());
        let (lens, lists) = trained.lists.stored();
        let centres = trained.coarse.centroids().iter().flat_map(|value| value.to_le_bytes());
        vec![
            ("ivf.config", Cow::Owned(config(&numbers, mean))),
            ("ivf.lens", lens.iter().flat_map(|len| len.to_le_bytes()).collect()),
            ("ivf.centres", centres.collect()),
            ("ivf.coarse", Cow::Owned(trained.coarse.codes())),
            ("ivf.lists", lists),
        ]
    }

    /// An index over `vectors` of its sections; lists are read in place.
    ///
    /// # Errors
    /// When lengths and numbers do not fit each other, the parameters or the vectors, and what `section` gives.
    pub fn open<E: From<String>>(
        params: IvfParams,
        vectors: &Vectors,
        section: impl Fn(&str) -> Result<Owner, E>,
    ) -> Result<Self, E> {
        params.check()?;
        let ([_, trained, probes], mean) = read_config((*section("ivf.config")?).as_ref())?;
        let (metric, dim) = (vectors.metric(), vectors.dim());
        let fits =
            (1..=u64::from(u32::MAX)).contains(&trained) && (1..=u64::from(u32::MAX)).contains(&probes);
        if !fits {
            return Err(format!("{probes} probes of lists trained on {trained} rows").into());
        }
        let (lens, centres) = (section("ivf.lens")?, section("ivf.centres")?);
        let (lens, centroids) = (u32s((*lens).as_ref()), f32s((*centres).as_ref()));
        check_centroids(metric, dim, &mean, &centroids, lens.len())?;
        let codec = params.codec(metric, mean)?;
        let lists = Lists::open(Layout::new(codec.as_ref()), &lens, section("ivf.lists")?)?;
        let copies = if params.spill && lens.len() > 1 { 2 } else { 1 };
        let (rows, places) = (vectors.live().count(), lens.iter().map(|&len| u64::from(len)).sum::<u64>());
        if places != (rows * copies) as u64 {
            return Err(format!("its lists hold {places} rows, expected {}", rows * copies).into());
        }
        let codes = section("ivf.coarse")?;
        let coarse = Coarse::open(dim, centroids, (*codes).as_ref(), codec.as_ref())?;
        let (trained_rows, probes) = (trained as usize, probes as usize);
        // Which lists a row is in is found out when that is asked for.
        let homes = Vec::new();
        let trained = Trained { metric, codec, coarse, lists, homes, copies, rows, trained_rows, probes };
        Ok(Self { params, trained: Some(trained) })
    }

    /// Checks that each live row is in as many lists as it is to be, and no other row in any.
    ///
    /// # Errors
    /// A sentence that says which list is damaged.
    pub fn verify(&self, vectors: &Vectors) -> Result<(), String> {
        let Some(trained) = &self.trained else { return Ok(()) };
        let (_, places) = homes(vectors, &trained.lists, trained.copies)?;
        match vectors.live().count() * trained.copies {
            expected if places == expected => Ok(()),
            expected => Err(format!("its lists hold {places} rows, expected {expected}")),
        }
    }

    /// Finds out where rows are, if the lists are read in place: before they are changed. What is damaged is made anew.
    pub(super) fn settle(&mut self, vectors: &Vectors) {
        let Some(trained) = self.trained.as_mut().filter(|trained| trained.homes.is_empty()) else { return };
        match homes(vectors, &trained.lists, trained.copies) {
            Ok((homes, _)) => trained.homes = homes,
            Err(_) if vectors.live().count() == 0 => self.trained = None,
            Err(_) => self.trained = Trained::train(&self.params, vectors),
        }
    }

    /// Copies the lists into memory of their own, on huge pages.
    pub fn pin(&mut self) {
        self.trained.iter_mut().for_each(|trained| trained.lists.pin());
    }

    /// Bytes that [`pin`](Self::pin) takes.
    pub fn pinned_bytes(&self) -> usize {
        self.trained.as_ref().map_or(0, |trained| trained.lists.len_bytes())
    }

    /// Whether the lists are read in place.
    pub fn is_shared(&self) -> bool {
        self.trained.as_ref().is_some_and(|trained| trained.lists.is_shared())
    }
}
