//! The buffer against `Vec`, and what `Vec` does not promise: alignment, exact capacities, huge pages.

use proptest::prelude::*;

use super::*;

fn is_aligned<T: Element>(buffer: &AlignedVec<T>) -> bool {
    let align = if buffer.bytes() >= HUGE_PAGE { HUGE_PAGE } else { LINE };
    buffer.capacity() == 0 || (buffer.as_ptr() as usize).is_multiple_of(align)
}

#[test]
fn an_empty_buffer_allocates_nothing() {
    let mut buffer = AlignedVec::<f32>::new();
    buffer.reserve_exact(0);
    buffer.extend_from_slice(&[]);
    buffer.resize(0, 1.0);
    buffer.shrink_to_fit();
    assert!(buffer.is_empty() && buffer.clone().is_empty() && AlignedVec::<u8>::default().is_empty());
    assert_eq!((buffer.capacity(), buffer.bytes()), (0, 0));
    assert_eq!(&buffer[..], &[] as &[f32]);
}

#[test]
fn growth_keeps_values_and_alignment_across_the_huge_page_size() {
    let mut buffer = AlignedVec::new();
    let chunk: Vec<u32> = (0..50_000).collect();
    for round in 1..=20 {
        buffer.extend_from_slice(&chunk);
        assert!(is_aligned(&buffer), "round {round}");
    }
    assert!(buffer.bytes() > HUGE_PAGE);
    assert!(buffer.chunks(chunk.len()).all(|held| held == chunk));
    buffer.truncate(chunk.len());
    buffer.shrink_to_fit();
    assert!(is_aligned(&buffer));
    assert_eq!(buffer.bytes(), 200_000);
    assert_eq!(&buffer[..], chunk);
}

#[test]
fn reserving_exactly_leaves_no_slack_and_growing_doubles() {
    let mut buffer = AlignedVec::<u16>::with_capacity(100);
    assert_eq!((buffer.capacity(), buffer.bytes()), (100, 200));
    buffer.resize(100, 7);
    assert_eq!(buffer.capacity(), 100);
    buffer.extend_from_slice(&[8]);
    assert_eq!(buffer.capacity(), 200);
    buffer.reserve_exact(150);
    assert_eq!(buffer.capacity(), 251);
    buffer.reserve_exact(1);
    assert_eq!(buffer.capacity(), 251);
}

#[test]
fn a_clone_is_independent() {
    let mut buffer = AlignedVec::from(&[1.0_f32, 2.0][..]);
    let copy = buffer.clone();
    buffer[0] = 9.0;
    buffer.clear();
    assert_eq!(&copy[..], &[1.0, 2.0]);
    assert_eq!(format!("{copy:?}"), "[1.0, 2.0]");
}

#[test]
fn buffers_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<AlignedVec<f32>>();
}

#[test]
#[should_panic(expected = "capacity overflow")]
fn too_many_elements_overflow() {
    AlignedVec::<f32>::with_capacity(usize::MAX / 2);
}

#[test]
#[should_panic(expected = "capacity overflow")]
fn too_many_more_elements_overflow() {
    AlignedVec::from(&[1_u8][..]).resize(usize::MAX, 0);
}

/// Bytes that begin on a cache line, `shift` bytes later than that.
struct Shifted(AlignedVec<u8>, usize);

impl AsRef<[u8]> for Shifted {
    fn as_ref(&self) -> &[u8] {
        &self.0[self.1..]
    }
}

fn shifted(bytes: &[u8], shift: usize) -> Owner {
    let mut all = AlignedVec::new();
    all.resize(shift, 0);
    all.extend_from_slice(bytes);
    Arc::new(Shifted(all, shift))
}

#[test]
fn somebody_elses_numbers_are_read_in_place_until_written_to() {
    let bytes: Vec<u8> = (1..=3u32).flat_map(u32::to_le_bytes).collect();
    let owner = shifted(&bytes, 64);
    let shared = AlignedVec::<u32>::shared(Arc::clone(&owner)).unwrap();
    assert!(std::ptr::eq(shared.as_ptr().cast(), (*owner).as_ref().as_ptr()));
    assert_eq!((&shared[..], shared.bytes(), shared.is_shared()), (&[1, 2, 3][..], 0, true));
    let mut written = shared.clone();
    assert!(written.is_shared());
    written[1] = 9;
    assert!(!written.is_shared() && written.capacity() == 3);
    assert_eq!((&written[..], &shared[..]), (&[1, 9, 3][..], &[1, 2, 3][..]));
    let mut longer = shared.clone();
    longer.extend_from_slice(&[4]);
    assert_eq!((&longer[..], longer.is_shared()), (&[1, 2, 3, 4][..], false));
    let mut shorter = shared.clone();
    shorter.truncate(2);
    shorter.shrink_to_fit();
    assert_eq!((&shorter[..], shorter.is_shared()), (&[1, 2][..], true));
    drop((owner, shared));
    assert_eq!(&shorter[..], &[1, 2], "it keeps the owner");
}

#[test]
fn what_cannot_be_read_in_place_is_refused() {
    assert!(AlignedVec::<f32>::shared(shifted(&[0; 7], 0)).is_none());
    assert!(AlignedVec::<u8>::shared(shifted(&[0; 7], 0)).is_some());
    assert!(AlignedVec::<u8>::shared(shifted(&[0; 7], 4)).is_none());
    let empty = AlignedVec::<f32>::shared(shifted(&[], 0)).unwrap();
    assert!(empty.is_empty());
}

#[derive(Debug, Clone)]
enum Change {
    Extend(Vec<u16>),
    Resize(usize, u16),
    Reserve(usize),
    Truncate(usize),
    Set(usize, u16),
    Shrink,
    Clear,
    Clone,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u16>(), 0..90).prop_map(Change::Extend),
        2 => (0..200_usize, any::<u16>()).prop_map(|(len, value)| Change::Resize(len, value)),
        2 => (0..200_usize).prop_map(Change::Reserve),
        2 => (0..200_usize).prop_map(Change::Truncate),
        2 => (0..200_usize, any::<u16>()).prop_map(|(at, value)| Change::Set(at, value)),
        1 => Just(Change::Shrink),
        1 => Just(Change::Clear),
        1 => Just(Change::Clone),
    ]
}

proptest! {
    #[test]
    fn behaves_like_vec(
        start in proptest::option::of(proptest::collection::vec(any::<u16>(), 0..90)),
        changes in proptest::collection::vec(change(), 0..40),
    ) {
        let mut buffer = AlignedVec::new();
        if let Some(values) = &start {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            buffer = AlignedVec::shared(shifted(&bytes, 128)).unwrap();
        }
        let mut model = start.unwrap_or_default();
        for change in changes {
            match change {
                Change::Extend(values) => {
                    buffer.extend_from_slice(&values);
                    model.extend_from_slice(&values);
                }
                Change::Resize(len, value) => {
                    buffer.resize(len, value);
                    model.resize(len, value);
                }
                Change::Reserve(additional) => buffer.reserve_exact(additional),
                Change::Truncate(len) => {
                    buffer.truncate(len);
                    model.truncate(len);
                }
                Change::Set(at, value) if at < model.len() => {
                    buffer[at] = value;
                    model[at] = value;
                }
                Change::Set(..) => {}
                Change::Shrink => {
                    buffer.shrink_to_fit();
                    prop_assert!(buffer.is_shared() || buffer.capacity() == model.len());
                }
                Change::Clear => {
                    buffer.clear();
                    model.clear();
                }
                Change::Clone => {
                    buffer = buffer.clone();
                    prop_assert!(buffer.is_shared() || buffer.capacity() == model.len());
                }
            }
            prop_assert_eq!(&buffer[..], &model[..]);
            prop_assert!(is_aligned(&buffer));
            prop_assert!(buffer.is_shared() || buffer.capacity() >= buffer.len());
        }
    }
}
