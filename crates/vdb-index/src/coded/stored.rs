//! Codes as named sections of bytes, which are scanned where they lie: `docs/format.md`, "Codes of a segment".
//!
//! Opening reads the quantizer's parameters and compares lengths; it looks at no code. Any bytes are codes of some rows, so a
//! damaged file costs hits, not a panic.

use super::codec::Codec;
use super::placement::Placement;
use super::{Coded, CodedParams, Codes};
use crate::Vectors;
use crate::stored::{Sections, VERSION, config, read_config};
use std::borrow::Cow;
use vdb_distance::{AlignedVec, Owner};

impl Coded {
    /// An index over all rows, however few they are. It has no codes where its quantizer cannot be trained on them.
    ///
    /// # Errors
    /// A sentence that says which setting does not fit.
    pub fn build(params: CodedParams, vectors: &Vectors) -> Result<Self, String> {
        params.check(vectors.metric(), vectors.dim())?;
        // Of rows at the end of the range of `f32`, a centre or a codebook may leave it.
        let fits = |Codes { placement, codec, .. }: &Codes| {
            Placement::from_parts(&params, vectors, placement.scale, placement.centre.clone()).is_ok()
                && Codec::from_bytes(&params, placement, vectors.dim(), &codec.to_bytes()).is_ok()
        };
        let live = vectors.live().count();
        let codes = (live > 0).then(|| Codes::train(&params, vectors)).flatten();
        Ok(Self { params, codes: codes.filter(fits), trained: live })
    }

    /// The sections that [`open`](Self::open) reads; none without codes.
    pub fn stored(&self) -> Sections<'_> {
        let Some(Codes { placement, codec, len, units, rest }) = &self.codes else { return Vec::new() };
        let numbers = [VERSION, self.trained as u64, *len as u64, u64::from(placement.scale.to_bits())];
        vec![
            ("code.config", Cow::Owned(config(&numbers, &placement.centre))),
            ("code.quant", Cow::Owned(codec.to_bytes())),
            ("code.rows", Cow::Borrowed(units)),
            ("code.rest", Cow::Borrowed(rest)),
        ]
    }

    /// An index over `vectors` of its sections; codes are read in place.
    ///
    /// # Errors
    /// When lengths and parameters do not fit each other, the settings or the vectors, and what `section` gives.
    pub fn open<E: From<String>>(
        params: CodedParams,
        vectors: &Vectors,
        section: impl Fn(&str) -> Result<Owner, E>,
    ) -> Result<Self, E> {
        params.check(vectors.metric(), vectors.dim())?;
        let ([_, trained, len, scale], centre) = read_config((*section("code.config")?).as_ref())?;
        if len != vectors.len() as u64 {
            return Err(format!("codes of {len} rows, expected {}", vectors.len()).into());
        }
        let scale = u32::try_from(scale).map_or(f32::NAN, f32::from_bits);
        let placement = Placement::from_parts(&params, vectors, scale, centre)?;
        let quantizer = section("code.quant")?;
        let codec = Codec::from_bytes(&params, &placement, vectors.dim(), (*quantizer).as_ref())?;
        let (units, rest) = (section("code.rows")?, section("code.rest")?);
        let len = vectors.len();
        let found = ((*units).as_ref().len(), (*rest).as_ref().len());
        let expected = (len.div_ceil(codec.unit_rows()) * codec.unit_bytes(), len * codec.rest_bytes());
        if found != expected {
            return Err(format!("{found:?} bytes of codes of {len} rows, expected {expected:?}").into());
        }
        let opened = |owner| AlignedVec::opened(owner).expect("bytes are a whole number of bytes");
        let codes = Codes { placement, codec, len, units: opened(units), rest: opened(rest) };
        Ok(Self { params, codes: Some(codes), trained: trained.min(u64::from(u32::MAX)) as usize })
    }

    /// Copies the codes into memory of their own, on huge pages.
    pub fn pin(&mut self) {
        if let Some(codes) = &mut self.codes {
            (codes.units, codes.rest) =
                (AlignedVec::from(&codes.units[..]), AlignedVec::from(&codes.rest[..]));
        }
    }

    /// Bytes that [`pin`](Self::pin) takes.
    pub fn pinned_bytes(&self) -> usize {
        self.codes.as_ref().map_or(0, |codes| codes.units.len() + codes.rest.len())
    }

    /// Whether the codes are read in place.
    pub fn is_shared(&self) -> bool {
        self.codes.as_ref().is_some_and(|codes| codes.units.is_shared())
    }

    /// Whether there are codes: too few rows have none.
    pub fn has_codes(&self) -> bool {
        self.codes.is_some()
    }
}
