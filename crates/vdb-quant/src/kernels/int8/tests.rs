//! Every integer kernel against the naive loop: equal, over all tails, strides, extremes and ends of buffers.

use super::{Int8Isa, Int8Kernels, QueryCodes};

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 56) as u8
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next()).collect()
    }

    fn signed(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.next() as i8).collect()
    }
}

fn kernels() -> Vec<Int8Kernels> {
    let demanded = std::env::var("VDB_REQUIRE_ISA").unwrap_or_default();
    for isa in Int8Isa::ALL {
        if Int8Kernels::for_isa(isa).is_none() {
            let wanted = demanded.split(',').any(|name| name.trim() == isa.name());
            assert!(!wanted, "{} is demanded, but this CPU cannot run it", isa.name());
            eprintln!("skipped: this CPU cannot run {}", isa.name());
        }
    }
    Int8Isa::ALL.into_iter().filter_map(Int8Kernels::for_isa).collect()
}

/// All kernels, through both entries, on `rows` rows of `stride` bytes of which the last ends with its code.
fn check(query: &QueryCodes, codes: &[u8], stride: usize, rows: usize) {
    let parts = query.parts();
    let code_bytes = query.code_bytes();
    let mut expected = Vec::new();
    for row in 0..rows {
        let code = &codes[row * stride..row * stride + code_bytes];
        expected.extend((0..parts).map(|part| query.reference(code, part)));
    }
    for kernels in kernels() {
        let name = kernels.isa().name();
        let mut out = vec![0; rows * parts];
        kernels.rows(query, codes, stride, 0, &mut out);
        assert_eq!(out, expected, "{name}, {code_bytes} bytes in rows of {stride}");
        let first = rows / 2;
        let mut out = vec![0; (rows - first) * parts];
        kernels.rows(query, codes, stride, first, &mut out);
        assert_eq!(out, expected[first * parts..], "{name}, from row {first}");
        let ids: Vec<u32> = (0..rows as u32).rev().chain([0, 0]).collect();
        let mut out = vec![0; ids.len() * parts];
        kernels.gather(query, codes, stride, &ids, &mut out);
        for (&id, out) in ids.iter().zip(out.chunks_exact(parts)) {
            assert_eq!(out, &expected[id as usize * parts..][..parts], "{name}, gathered row {id}");
        }
    }
}

fn check_values(len: usize, stride: usize, codes: &[u8], values: &mut dyn FnMut(usize) -> Vec<i8>) {
    let rows = (codes.len() - len).checked_div(stride).map_or(3, |rows| rows + 1);
    let [a, b, c, d] = [values(len), values(len), values(len), values(len)];
    check(&QueryCodes::bytes(&[&a]), codes, stride, rows);
    check(&QueryCodes::bytes(&[&a, &b]), codes, stride, rows);
    check(&QueryCodes::nibbles(&[[&a, &b]]), codes, stride, rows);
    check(&QueryCodes::nibbles(&[[&a, &b], [&c, &d]]), codes, stride, rows);
}

#[test]
fn all_kernels_return_the_integers_of_the_naive_loop() {
    let mut noise = Noise(1);
    for len in (0..=300).chain([768, 784, 1000, 4096]) {
        for extra in [0, 8, 13] {
            let stride = len + extra;
            let codes = noise.bytes(11 * stride + len);
            check_values(len, stride, &codes, &mut |len| noise.signed(len));
        }
    }
}

#[test]
fn extremes_neither_saturate_nor_overflow() {
    for len in [1, 32, 63, 64, 65, 127, 768, 4096, super::MAX_CODE_BYTES] {
        for code in [0, 255] {
            for value in [-128, 127, 0] {
                check_values(len, len, &vec![code; 2 * len], &mut |len| vec![value; len]);
            }
        }
    }
}

#[test]
fn rows_outside_the_buffer_are_refused() {
    let query = QueryCodes::bytes(&[&[1; 10]]);
    let codes = [0; 3 * 16 + 10];
    for kernels in kernels() {
        let refuse = |run: &dyn Fn()| {
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        };
        refuse(&|| kernels.rows(&query, &codes, 16, 0, &mut [0; 5]));
        refuse(&|| kernels.rows(&query, &codes, 16, usize::MAX, &mut [0; 2]));
        refuse(&|| kernels.rows(&query, &codes, 9, 0, &mut [0; 1]));
        refuse(&|| kernels.gather(&query, &codes, 16, &[0, 4], &mut [0; 2]));
        refuse(&|| kernels.gather(&query, &codes, 16, &[0, 1], &mut [0; 3]));
        kernels.rows(&query, &codes, 16, 0, &mut [0; 4]);
    }
}
