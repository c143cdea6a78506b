//! Little-endian encoding of numbers, slices and strings, and a bounds-checked reader for the same.
//!
//! [`Encode`] adds `put_*` methods to every [`Write`]; [`Reader`] takes the values back out of a byte slice.
//! The reader never trusts a length: it is compared with the bytes that are left before anything is allocated, and
//! every error carries the offset where the value began. Strings are a u32 length in bytes, then UTF-8.

use std::io::{self, Write};

/// Values converted per call of `write_all` when a slice is written: 4 KiB on the stack.
const CHUNK: usize = 1024;

/// Why a value could not be read. Offsets count from the start of the slice given to [`Reader::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end before the value does.
    #[error("at byte {offset}: {needed} bytes expected, {remaining} left")]
    UnexpectedEnd {
        /// Where the value begins.
        offset: u64,
        /// The bytes that the value takes; `u64::MAX` when they are more than can be counted.
        needed: u64,
        /// The bytes that are left.
        remaining: u64,
    },
    /// A string is not UTF-8.
    #[error("at byte {offset}: a string is not valid UTF-8")]
    NotUtf8 {
        /// Where the first wrong byte is.
        offset: u64,
    },
    /// The value ended but the bytes did not.
    #[error("at byte {offset}: the end expected, {remaining} more bytes found")]
    TrailingBytes {
        /// Where the end should be.
        offset: u64,
        /// The bytes that are left.
        remaining: u64,
    },
}

/// Little-endian output for every [`Write`]. Small values cost one `write_all` each: give it a buffered writer.
pub trait Encode: Write {
    /// Writes one byte.
    ///
    /// # Errors
    ///
    /// Those of the writer, as in every method here.
    fn put_u8(&mut self, value: u8) -> io::Result<()> {
        self.write_all(&[value])
    }

    /// Writes four bytes.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    fn put_u32(&mut self, value: u32) -> io::Result<()> {
        self.write_all(&value.to_le_bytes())
    }

    /// Writes eight bytes.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    fn put_u64(&mut self, value: u64) -> io::Result<()> {
        self.write_all(&value.to_le_bytes())
    }

    /// Writes four bytes; every bit of the value is kept, NaN included.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    fn put_f32(&mut self, value: f32) -> io::Result<()> {
        self.write_all(&value.to_le_bytes())
    }

    /// Writes the values without a length: the reader has to know how many there are.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    fn put_f32_slice(&mut self, values: &[f32]) -> io::Result<()> {
        put_words(self, values, f32::to_le_bytes)
    }

    /// Writes the values without a length: the reader has to know how many there are.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    fn put_u32_slice(&mut self, values: &[u32]) -> io::Result<()> {
        put_words(self, values, u32::to_le_bytes)
    }

    /// Writes the values without a length: the reader has to know how many there are.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    fn put_u64_slice(&mut self, values: &[u64]) -> io::Result<()> {
        put_words(self, values, u64::to_le_bytes)
    }

    /// Writes the length in bytes as a u32, then the text.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a text of 4 GiB or more, otherwise those of the writer.
    fn put_str(&mut self, text: &str) -> io::Result<()> {
        let length = u32::try_from(text.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a string of {} bytes is too long", text.len()),
            )
        })?;
        self.put_u32(length)?;
        self.write_all(text.as_bytes())
    }
}

impl<W: Write + ?Sized> Encode for W {}

/// Converts a slice through a small buffer: one `write_all` per chunk, not per value, and no copy of the whole.
fn put_words<W: Write + ?Sized, T: Copy, const N: usize>(
    out: &mut W,
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = [[0u8; N]; CHUNK];
    for chunk in values.chunks(CHUNK) {
        for (word, &value) in buffer.iter_mut().zip(chunk) {
            *word = to_bytes(value);
        }
        out.write_all(buffer[..chunk.len()].as_flattened())?;
    }
    Ok(())
}

/// Takes little-endian values from the front of a byte slice.
///
/// After an error the position is where the failed value began.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The offset of the next byte to be taken.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The number of bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`] when fewer are left, as in every method that takes values.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        match self.bytes[self.position..].get(..length) {
            Some(taken) => {
                self.position += length;
                Ok(taken)
            }
            None => Err(self.end_error(Some(length))),
        }
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`].
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        self.word(u8::from_le_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`].
    pub fn u32(&mut self) -> Result<u32, CodecError> {
        self.word(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`].
    pub fn u64(&mut self) -> Result<u64, CodecError> {
        self.word(u64::from_le_bytes)
    }

    /// Four bytes; every bit of the value is kept, NaN included.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`].
    pub fn f32(&mut self) -> Result<f32, CodecError> {
        self.word(f32::from_le_bytes)
    }

    /// A string written by [`Encode::put_str`], borrowed from the slice.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`] (at the string's length), [`CodecError::NotUtf8`].
    pub fn str(&mut self) -> Result<&'a str, CodecError> {
        let start = self.position;
        let text = self.str_at_position();
        if text.is_err() {
            self.position = start;
        }
        text
    }

    fn str_at_position(&mut self) -> Result<&'a str, CodecError> {
        let length = self.u32()?;
        let text_start = self.position;
        // Where usize has 32 bits or more, every u32 fits.
        let bytes = self.take(length as usize)?;
        std::str::from_utf8(bytes)
            .map_err(|error| CodecError::NotUtf8 { offset: (text_start + error.valid_up_to()) as u64 })
    }

    /// Fills `out` with the next values.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`]; `out` is then unchanged.
    pub fn f32_slice_into(&mut self, out: &mut [f32]) -> Result<(), CodecError> {
        let bytes = self.take_words(out.len(), size_of::<f32>())?;
        let (words, _) = bytes.as_chunks::<4>();
        for (value, &word) in out.iter_mut().zip(words) {
            *value = f32::from_le_bytes(word);
        }
        Ok(())
    }

    /// The next `count` values.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`], before anything is allocated.
    pub fn f32_vec(&mut self, count: usize) -> Result<Vec<f32>, CodecError> {
        self.words_vec(count, f32::from_le_bytes)
    }

    /// The next `count` values.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`], before anything is allocated.
    pub fn u32_vec(&mut self, count: usize) -> Result<Vec<u32>, CodecError> {
        self.words_vec(count, u32::from_le_bytes)
    }

    /// The next `count` values.
    ///
    /// # Errors
    ///
    /// [`CodecError::UnexpectedEnd`], before anything is allocated.
    pub fn u64_vec(&mut self, count: usize) -> Result<Vec<u64>, CodecError> {
        self.words_vec(count, u64::from_le_bytes)
    }

    /// Checks that every byte was taken.
    ///
    /// # Errors
    ///
    /// [`CodecError::TrailingBytes`].
    pub fn finish(self) -> Result<(), CodecError> {
        match self.remaining() {
            0 => Ok(()),
            remaining => {
                Err(CodecError::TrailingBytes { offset: self.position as u64, remaining: remaining as u64 })
            }
        }
    }

    fn word<T, const N: usize>(&mut self, from_bytes: impl Fn([u8; N]) -> T) -> Result<T, CodecError> {
        match self.bytes[self.position..].first_chunk::<N>() {
            Some(&word) => {
                self.position += N;
                Ok(from_bytes(word))
            }
            None => Err(self.end_error(Some(N))),
        }
    }

    fn words_vec<T, const N: usize>(
        &mut self,
        count: usize,
        from_bytes: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, CodecError> {
        let (words, _) = self.take_words(count, N)?.as_chunks::<N>();
        Ok(words.iter().map(|&word| from_bytes(word)).collect())
    }

    fn take_words(&mut self, count: usize, size: usize) -> Result<&'a [u8], CodecError> {
        match count.checked_mul(size) {
            Some(length) => self.take(length),
            None => Err(self.end_error(None)),
        }
    }

    fn end_error(&self, needed: Option<usize>) -> CodecError {
        CodecError::UnexpectedEnd {
            offset: self.position as u64,
            needed: needed.map_or(u64::MAX, |needed| needed as u64),
            remaining: self.remaining() as u64,
        }
    }
}

/// The number at a byte offset.
///
/// # Panics
/// When there are fewer than four bytes from there on: for records whose length was checked.
pub fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(*bytes[offset..].first_chunk().expect("the caller checked the length"))
}

/// The number at a byte offset.
///
/// # Panics
/// When there are fewer than eight bytes from there on: for records whose length was checked.
pub fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(*bytes[offset..].first_chunk().expect("the caller checked the length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_little_endian() {
        let mut out = Vec::new();
        out.put_u8(7).unwrap();
        out.put_u32(0x0102_0304).unwrap();
        out.put_u64(0x0102_0304_0506_0708).unwrap();
        out.put_f32(1.0).unwrap();
        out.put_str("ab").unwrap();
        let expected = [
            &[7][..],
            &[4, 3, 2, 1],
            &[8, 7, 6, 5, 4, 3, 2, 1],
            &[0, 0, 0x80, 0x3f],
            &[2, 0, 0, 0, b'a', b'b'],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn errors_carry_offsets_and_do_not_move() {
        let end = |offset, needed, remaining| CodecError::UnexpectedEnd { offset, needed, remaining };
        let mut reader = Reader::new(&[1, 3, 0, 0, 0, b'a', b'b']);
        reader.u8().unwrap();
        assert_eq!(reader.u64().unwrap_err(), end(1, 8, 6));
        assert_eq!(reader.str().unwrap_err(), end(5, 3, 2));
        assert_eq!(reader.position(), 1);
        assert_eq!(reader.u32_vec(usize::MAX).unwrap_err(), end(1, u64::MAX, 6));
        assert_eq!(reader.u64_vec(1 << 40).unwrap_err(), end(1, 8 << 40, 6));
        let mut out = [9.0; 2];
        assert_eq!(reader.f32_slice_into(&mut out).unwrap_err(), end(1, 8, 6));
        assert_eq!(out, [9.0; 2]);
        assert_eq!(
            reader.clone().finish().unwrap_err(),
            CodecError::TrailingBytes { offset: 1, remaining: 6 }
        );
        let mut reader = Reader::new(&[2, 0, 0, 0, b'a', 0xff]);
        assert_eq!(reader.str().unwrap_err(), CodecError::NotUtf8 { offset: 5 });
        assert_eq!(reader.position(), 0);
    }

    #[test]
    fn slices_longer_than_a_chunk() {
        let values: Vec<u32> = (0..(2 * CHUNK as u32 + 1)).collect();
        let mut out = Vec::new();
        out.put_u32_slice(&values).unwrap();
        assert_eq!(Reader::new(&out).u32_vec(values.len()).unwrap(), values);
    }

    proptest! {
        #[test]
        fn round_trip(
            byte: u8, word: u32, long: u64, float in any::<u32>(), text: String,
            floats in prop::collection::vec(any::<u32>(), 0..40),
            words: Vec<u32>, longs: Vec<u64>,
        ) {
            let floats: Vec<f32> = floats.into_iter().map(f32::from_bits).collect();
            let mut out = Vec::new();
            out.put_u8(byte).unwrap();
            out.put_u32(word).unwrap();
            out.put_u64(long).unwrap();
            out.put_f32(f32::from_bits(float)).unwrap();
            out.put_str(&text).unwrap();
            out.put_f32_slice(&floats).unwrap();
            out.put_f32_slice(&floats).unwrap();
            out.put_u32_slice(&words).unwrap();
            out.put_u64_slice(&longs).unwrap();

            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.u8().unwrap(), byte);
            prop_assert_eq!(reader.u32().unwrap(), word);
            prop_assert_eq!(reader.u64().unwrap(), long);
            prop_assert_eq!(reader.f32().unwrap().to_bits(), float);
            prop_assert_eq!(reader.str().unwrap(), text);
            let mut read_back = vec![0.0; floats.len()];
            reader.f32_slice_into(&mut read_back).unwrap();
            prop_assert_eq!(bits(&read_back), bits(&floats));
            prop_assert_eq!(bits(&reader.f32_vec(floats.len()).unwrap()), bits(&floats));
            prop_assert_eq!(reader.u32_vec(words.len()).unwrap(), words);
            prop_assert_eq!(reader.u64_vec(longs.len()).unwrap(), longs);
            reader.finish().unwrap();
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, calls in prop::collection::vec((0..8u8, any::<usize>()), 0..20)) {
            let mut reader = Reader::new(&bytes);
            for (call, count) in calls {
                let before = reader.position();
                let failed = match call {
                    0 => reader.u8().is_err(),
                    1 => reader.u32().is_err(),
                    2 => reader.u64().is_err(),
                    3 => reader.f32().is_err(),
                    4 => reader.str().is_err(),
                    5 => reader.u32_vec(count).is_err(),
                    6 => reader.f32_vec(count % 16).is_err(),
                    _ => reader.take(count % 64).is_err(),
                };
                prop_assert!(!failed || reader.position() == before);
            }
        }
    }
}
