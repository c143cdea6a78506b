//! Distance kernels: dot product, squared Euclidean and Manhattan distance, between two `f32` vectors, or between `f32`
//! queries and rows of `f32`, half precision, bfloat16 or bytes, contiguous or gathered by number.
//! The instruction set is checked once per process; [`Kernels::get`] then hands out the best kernels that the
//! CPU can run, and holding a [`Kernels`] value is the proof that calling them is right.
//!
//! ```
//! use vdb_distance::{AlignedVec, Distance, Kernels, Matrix, Metric, Sum};
//!
//! // Three rows of two components, each padded to a stride of sixteen floats (one cache line).
//! let (stride, points) = (16, [[0.0_f32, 0.0], [3.0, 4.0], [1.0, 1.0]]);
//! let mut rows = AlignedVec::<f32>::new();
//! for point in &points {
//!     rows.extend_from_slice(point);
//!     let padded = rows.len().next_multiple_of(stride);
//!     rows.resize(padded, 0.0);
//! }
//!
//! let mut squared = [0.0; 2];
//! let matrix = Matrix::f32(&rows, stride);
//! Kernels::get().gather(Sum::L2Squared, &[0.0, 0.0], matrix, &[1, 2], &mut squared);
//! assert_eq!(squared, [25.0, 2.0]);
//!
//! // A `Distance` orders every metric the same way: smaller is closer.
//! let value = Metric::Euclidean.calculate(&[0.0, 0.0], &[3.0, 4.0]);
//! assert_eq!(value, 5.0);
//! assert!(Distance::from_value(Metric::Euclidean, value) < Distance::INFINITY);
//! ```
//!
//! # Numbers
//!
//! AVX2, AVX-512 and NEON kernels agree bit for bit: they share one loop over 64 virtual lanes and one order
//! of additions. The scalar kernels multiply and add with two roundings instead of one; Manhattan distance,
//! which has no product, is the same everywhere. For vectors of `n` components the error of any of them is at
//! most `(n / 128 + 6) * f32::EPSILON * sum(|terms|)`, underflow aside. Finite inputs never give NaN: where
//! single precision overflows, the answer is computed again in double precision, and saturates to an infinity
//! only if its true value is out of range. Rows of shorter numbers give the very values of the same numbers in `f32`.
//! Cosine similarity is right for vectors of any finite length,
//! subnormal ones included.
//!
//! # Limits
//!
//! Gathered row numbers are `u32`. Any dimension works; dimensions up to 4,096 are tested. A kernel panics,
//! before it reads anything, when lengths differ or a row lies outside the buffer.
//!
//! # What this crate is not
//!
//! It is not a linear algebra library, it holds no quantised element types but those, and it starts no threads.
//!
//! # Environment
//!
//! `VDB_ISA` (`scalar`, `avx2`, `avx512` or `neon`) asks [`Kernels::get`] for other kernels than the best ones.
//! A name that is unknown, or that this CPU cannot run, is ignored. It is read once, at the first call.
//!
//! # Unsafe code
//!
//! The workspace keeps its `unsafe` code in kernel crates such as this one. The safe entries of [`Kernels`]
//! check every length before a pointer is formed, so nothing a caller passes can read out of bounds.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod buffer;
mod dispatch;
mod generic;
mod matrix;
mod metric;
mod number;
mod prefetch;
pub mod reference;
mod scalar;
mod sorted;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use buffer::{AlignedVec, Element, Owner};
pub use dispatch::{Isa, Kernels, ParseIsaError, Sum, dot, l1, l2_squared};
pub use matrix::Matrix;
pub use metric::{
    Distance, Metric, ParseMetricError, cosine, cosine_from_parts, euclidean, norm, norm_is_ordinary,
    square_is_ordinary,
};
pub use number::{Bf16, ElementType, F16, F32, Number, U8};
pub use prefetch::{prefetch, prefetch_early};
