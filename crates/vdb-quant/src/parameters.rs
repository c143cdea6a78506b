//! How trained parameters become bytes: a kind, a version, then little-endian numbers of fixed width.
//!
//! Invariant: nothing in the bytes is trusted. Every count is checked against what is left before memory is
//! reserved for it, every value against what its type allows, and what is left over at the end is an error.

/// Why bytes are not the parameters they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParametersError {
    /// The bytes end early.
    #[error("parameters end early: {needed} more bytes were expected, {left} are left")]
    Truncated {
        /// Bytes the next field takes.
        needed: usize,
        /// Bytes left.
        left: usize,
    },
    /// Bytes are left over.
    #[error("{left} bytes are left after the parameters")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// The parameters of something else.
    #[error("parameters of kind {found}, expected kind {expected}")]
    Kind {
        /// The kind in the bytes.
        found: u8,
        /// The kind that is read here.
        expected: u8,
    },
    /// A version this build does not know.
    #[error("parameters of version {found}, the newest known is {newest}")]
    Version {
        /// The version in the bytes.
        found: u8,
        /// The newest version that can be read.
        newest: u8,
    },
    /// A value out of its range.
    #[error("parameters hold a bad {field}")]
    Invalid {
        /// Which value.
        field: &'static str,
    },
}

/// What the first byte says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    KMeans = 1,
    Product = 2,
    Opq = 3,
    Rabitq = 4,
    Binary = 5,
}

/// The version that is written; there is no older one.
const VERSION: u8 = 1;

pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(kind: Kind) -> Writer {
        Writer { bytes: vec![kind as u8, VERSION] }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A count or a dimension; all that exist here fit.
    pub(crate) fn len(&mut self, value: usize) {
        self.u64(value as u64);
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn f32s(&mut self, values: &[f32]) {
        for value in values {
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Other parameters, with their length.
    pub(crate) fn nested(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads past the kind and the version.
    pub(crate) fn new(bytes: &'a [u8], kind: Kind) -> Result<Reader<'a>, ParametersError> {
        let mut reader = Reader { left: bytes };
        match reader.u8()? {
            found if found != kind as u8 => Err(ParametersError::Kind { found, expected: kind as u8 }),
            _ => match reader.u8()? {
                VERSION => Ok(reader),
                found => Err(ParametersError::Version { found, newest: VERSION }),
            },
        }
    }

    fn take(&mut self, needed: usize) -> Result<&'a [u8], ParametersError> {
        let left = self.left.len();
        let (taken, rest) =
            self.left.split_at_checked(needed).ok_or(ParametersError::Truncated { needed, left })?;
        self.left = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ParametersError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ParametersError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// A number from `least` to `most`.
    pub(crate) fn len(
        &mut self,
        field: &'static str,
        least: usize,
        most: usize,
    ) -> Result<usize, ParametersError> {
        match usize::try_from(self.u64()?) {
            Ok(value) if (least..=most).contains(&value) => Ok(value),
            _ => Err(ParametersError::Invalid { field }),
        }
    }

    /// `count` finite numbers.
    pub(crate) fn f32s(&mut self, field: &'static str, count: usize) -> Result<Vec<f32>, ParametersError> {
        let bytes = count.checked_mul(4).ok_or(ParametersError::Invalid { field })?;
        let values: Vec<f32> = self
            .take(bytes)?
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(ParametersError::Invalid { field }),
        }
    }

    pub(crate) fn nested(&mut self) -> Result<&'a [u8], ParametersError> {
        let bytes = self.len("length", 0, usize::MAX)?;
        self.take(bytes)
    }

    pub(crate) fn finish(self) -> Result<(), ParametersError> {
        match self.left.len() {
            0 => Ok(()),
            left => Err(ParametersError::Trailing { left }),
        }
    }
}
