//! AVX-512: eight rows by sixteen points, a register of sums for each row. Products are rounded before they are added,
//! as in the plain loop; compilers given that loop spill the sums.

use std::arch::x86_64::{
    _CMP_LT_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_mov_epi32, _mm512_mask_mov_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};

use super::{GROUP, Group, Nearest};

/// Points side by side.
const LANES: usize = 16;
/// Rows at a time.
const ROWS: usize = 8;

/// # Safety
/// The CPU has AVX-512F; `points` and the group's rows are equally long, a multiple of [`GROUP`], and it has at most
/// [`GROUP`] norms.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn nearest(group: &Group<'_>, points: &[f32], nearest: &mut Nearest) {
    let two = _mm512_set1_ps(2.0);
    for start in (0..GROUP).step_by(LANES) {
        // SAFETY: both arrays have `GROUP` elements, of which `LANES` begin at `start`.
        let (mut best, mut labels) = unsafe {
            let labels = nearest.labels.as_ptr().add(start);
            (_mm512_loadu_ps(nearest.best.as_ptr().add(start)), _mm512_loadu_si512(labels.cast()))
        };
        for from in (0..group.norms.len()).step_by(ROWS) {
            let mut sums = [_mm512_setzero_ps(); ROWS];
            for at in (0..points.len()).step_by(GROUP) {
                // SAFETY: `GROUP` floats begin at `at`, and `start + LANES <= GROUP`.
                let x = unsafe { _mm512_loadu_ps(points.as_ptr().add(at + start)) };
                for (r, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: as above; `from` is below the number of norms, so `from + ROWS <= GROUP`.
                    let row = _mm512_set1_ps(unsafe { *group.rows.as_ptr().add(at + from + r) });
                    *sum = _mm512_add_ps(*sum, _mm512_mul_ps(row, x));
                }
            }
            for (r, (&norm, sum)) in group.norms[from..].iter().zip(sums).enumerate() {
                let score = _mm512_sub_ps(_mm512_set1_ps(norm), _mm512_mul_ps(two, sum));
                let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(score, best);
                let number = _mm512_set1_epi32((group.first + from + r) as i32);
                best = _mm512_mask_mov_ps(best, less, score);
                labels = _mm512_mask_mov_epi32(labels, less, number);
            }
        }
        // SAFETY: both arrays have `GROUP` elements, of which `LANES` begin at `start`.
        unsafe {
            _mm512_storeu_ps(nearest.best.as_mut_ptr().add(start), best);
            _mm512_storeu_si512(nearest.labels.as_mut_ptr().add(start).cast(), labels);
        }
    }
}
