//! Values of the metrics at their edges, the names, and the order of distances.

use proptest::prelude::*;

use super::*;

const ALL: [Metric; 4] = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];

#[test]
fn small_vectors_have_their_textbook_values() {
    let (a, b) = ([3.0, 0.0], [0.0, 4.0]);
    let values = ALL.map(|metric| metric.calculate(&a, &b));
    assert_eq!(values, [5.0, 0.0, 0.0, 7.0]);
}

#[test]
fn a_vector_is_at_no_distance_from_itself() {
    let x: Vec<f32> = (0..131).map(|i| (i as f32 * 0.37).sin()).collect();
    assert_eq!(Metric::Euclidean.calculate(&x, &x), 0.0);
    assert_eq!(Metric::Manhattan.calculate(&x, &x), 0.0);
    assert!((Metric::Cosine.calculate(&x, &x) - 1.0).abs() < 1e-6);
}

#[test]
fn opposite_vectors_have_cosine_minus_one() {
    let x = [0.5, -2.0, 8.0];
    let opposite = x.map(|v: f32| -v);
    assert!((Metric::Cosine.calculate(&x, &opposite) + 1.0).abs() < 1e-6);
    assert_eq!(Metric::DotProduct.calculate(&x, &opposite), -68.25);
}

#[test]
fn a_zero_vector_has_cosine_zero() {
    for other in [[0.0, 0.0], [1.0, 2.0], [1e-45, 0.0], [f32::MAX, 1.0]] {
        assert_eq!(cosine(&[0.0, 0.0], &other), 0.0);
        assert_eq!(cosine(&other, &[0.0, -0.0]), 0.0);
    }
    assert_eq!(cosine(&[], &[]), 0.0);
    assert_eq!(cosine_from_parts(1.0, 0.0, 1.0), 0.0);
}

#[test]
fn cosine_holds_at_every_scale() {
    for scale in [1e-45, 1e-38, 1e-30, 1e-15, 1e-14, 1.0, 1e14, 1e15, 1e18, 1e30, 1e38] {
        let scaled = [scale, scale, 0.0, 0.0];
        for (other, want) in [([1.0, 0.0, 0.0, 0.0], 0.5_f32.sqrt()), ([-1.0, -1.0, 0.0, 0.0], -1.0)] {
            let got = cosine(&scaled, &other);
            assert!((got - want).abs() < 1e-6, "scale {scale:e}: {got} instead of {want}");
            let both = cosine(&scaled, &other.map(|v| v * scale));
            assert!((both - want).abs() < 1e-6, "both at scale {scale:e}: {both} instead of {want}");
        }
    }
}

#[test]
fn norms_and_euclidean_distances_neither_overflow_nor_vanish() {
    for scale in [f32::from_bits(1), 1e-40, 1e-30, 1e-20, 1.0, 1e20, 1e30, 1e38] {
        assert_eq!(norm(&[0.0, -scale, 0.0]), scale);
        assert_eq!(euclidean(&[0.0, scale], &[0.0, 0.0]), scale);
    }
    assert_eq!(norm(&[f32::MAX, f32::MAX]), f32::INFINITY);
    assert_eq!(norm(&[]), 0.0);
}

#[test]
fn cached_norms_give_the_same_bits() {
    let a: Vec<f32> = (0..100).map(|i| (i as f32 * 1.7).sin()).collect();
    let b: Vec<f32> = (0..100).map(|i| (i as f32 * 0.3).cos()).collect();
    let parts = cosine_from_parts(dot(&a, &b), norm(&a), norm(&b));
    assert_eq!(parts.to_bits(), Metric::Cosine.calculate(&a, &b).to_bits());
}

#[test]
#[should_panic(expected = "different lengths")]
fn cosine_refuses_different_lengths_even_of_zero_vectors() {
    cosine(&[0.0], &[0.0, 0.0]);
}

#[test]
fn names_are_read_back_and_short_forms_are_known() {
    for metric in ALL {
        assert_eq!(metric.name().parse(), Ok(metric));
        assert_eq!(metric.to_string(), metric.name());
    }
    for (short, metric) in [
        ("l2", Metric::Euclidean),
        ("L1", Metric::Manhattan),
        ("cos", Metric::Cosine),
        ("ip", Metric::DotProduct),
        ("dot-product", Metric::DotProduct),
        ("DotProduct", Metric::DotProduct),
    ] {
        assert_eq!(short.parse(), Ok(metric));
    }
    let error = "hamming".parse::<Metric>().unwrap_err().to_string();
    for name in ALL.map(Metric::name).into_iter().chain(["hamming"]) {
        assert!(error.contains(name), "{error} does not mention {name}");
    }
}

#[test]
fn nan_is_the_farthest_and_negative_zero_is_zero() {
    assert_eq!(Distance::from_raw(f32::NAN), Distance::INFINITY);
    assert_eq!(Distance::from_value(Metric::Cosine, -f32::NAN), Distance::MAX);
    for metric in ALL {
        for zero in [0.0, -0.0] {
            let distance = Distance::from_value(metric, zero);
            assert_eq!(distance.get().to_bits(), 0);
            assert_eq!(distance.value(metric).to_bits(), 0);
            assert_eq!(distance.similarity().to_bits(), 0);
            assert_eq!(distance, Distance::from_raw(0.0));
        }
    }
}

#[test]
fn a_larger_similarity_is_a_smaller_distance() {
    for metric in ALL {
        let (low, high) = (Distance::from_value(metric, 0.25), Distance::from_value(metric, 0.75));
        assert_eq!(high < low, metric.is_similarity());
        assert_eq!(high.similarity() > low.similarity(), metric.is_similarity());
    }
}

proptest! {
    #[test]
    fn distances_round_trip_and_order_like_their_numbers(x: f32, y: f32) {
        prop_assume!(!x.is_nan() && !y.is_nan());
        prop_assert_eq!(Distance::from_raw(x).cmp(&Distance::from_raw(y)), x.partial_cmp(&y).unwrap());
        for metric in ALL {
            prop_assert_eq!(Distance::from_value(metric, x).value(metric), x);
        }
    }

    #[test]
    fn finite_vectors_never_give_nan(pairs in proptest::collection::vec((any::<f32>(), any::<f32>()), 0..80)) {
        let finite = |v: f32| if v.is_finite() { v } else { f32::MAX };
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().map(|(x, y)| (finite(x), finite(y))).unzip();
        for metric in ALL {
            prop_assert!(!metric.calculate(&a, &b).is_nan(), "{}", metric);
        }
        prop_assert!((-1.0..=1.0).contains(&cosine(&a, &b)));
    }
}
