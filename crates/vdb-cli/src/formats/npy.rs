//! The header of NumPy's `.npy` files, versions 1 to 3.
//!
//! After the magic and the version comes a text: a Python dictionary with `descr`, `fortran_order` and `shape`.
//! Only what NumPy itself writes is parsed. The format is described in NumPy's `numpy.lib.format` page.

use super::element::Element;
use super::error::{FormatError, Place};
use super::source::Source;

const MAGIC: [u8; 6] = *b"\x93NUMPY";

/// NumPy's headers are padded to a few dozen bytes; only structured types make long ones, and those are not read.
const MAX_TEXT_BYTES: u64 = 64 * 1024;

/// What the header says.
pub(super) struct Header {
    pub(super) element: Element,
    pub(super) rows: u64,
    pub(super) columns: u64,
    /// Where the dictionary begins.
    pub(super) text_offset: u64,
}

/// Reads the header; the source is then at the first value.
pub(super) fn read_header(source: &mut Source) -> Result<Header, FormatError> {
    let magic: [u8; 6] = source.read_array(Place::Header)?;
    if magic != MAGIC {
        let found = format!("\"{}\"", magic.escape_ascii());
        return Err(broken(source, 0, "a NumPy file, which begins with \"\\x93NUMPY\"", found));
    }
    let [major, minor] = source.read_array(Place::Header)?;
    let text_bytes = match major {
        1 => u64::from(u16::from_le_bytes(source.read_array(Place::Header)?)),
        2 | 3 => u64::from(u32::from_le_bytes(source.read_array(Place::Header)?)),
        _ => return Err(broken(source, 6, "format version 1, 2 or 3", format!("{major}.{minor}"))),
    };
    let text_offset = source.position();
    if text_bytes > MAX_TEXT_BYTES {
        let found = format!("one of {text_bytes} bytes");
        return Err(broken(source, 8, "a header text of at most 65536 bytes", found));
    }
    let text = source.read_vec(Place::Header, text_bytes)?;
    let fields = Parser { text: &text, position: 0 }.dictionary().map_err(|failure| {
        let rest = &text[failure.position..];
        let found = match rest {
            [] => "the end of the header".to_owned(),
            rest => format!("\"{}\"", rest[..rest.len().min(24)].escape_ascii()),
        };
        broken(source, text_offset + failure.position as u64, failure.expected, found)
    })?;
    check_fields(source, text_offset, fields)
}

fn check_fields(source: &Source, text_offset: u64, fields: Fields) -> Result<Header, FormatError> {
    let unsupported = |found: String, advice: &'static str| {
        Err(FormatError::NpyUnsupported { path: source.path(), offset: text_offset, found, advice })
    };
    let missing =
        |expected: &'static str| broken(source, text_offset, expected, "a header without it".to_owned());
    let descr = fields.descr.ok_or_else(|| missing("the key 'descr'"))?;
    let fortran_order = fields.fortran_order.ok_or_else(|| missing("the key 'fortran_order'"))?;
    let shape = fields.shape.ok_or_else(|| missing("the key 'shape'"))?;
    let element = match descr.as_str() {
        "<f4" => Element::F32,
        "<f8" => Element::F64,
        "<f2" => Element::F16,
        "|u1" | "<u1" | "u1" => Element::U8,
        "|i1" | "<i1" | "i1" => Element::I8,
        other => {
            return unsupported(
                format!("the type '{other}'"),
                "use <f4, <f8, <f2, |u1 or |i1; array.astype('<f4') converts",
            );
        }
    };
    let (rows, columns) = match shape[..] {
        [rows, columns] => (rows, columns),
        [length] => {
            return unsupported(
                format!("an array of one dimension, shape ({length},)"),
                "a matrix with one vector a row is expected; array.reshape(1, -1) makes it one vector",
            );
        }
        _ => {
            return unsupported(
                format!("an array of {} dimensions", shape.len()),
                "a matrix with one vector a row is expected; array.reshape(len(array), -1) makes one",
            );
        }
    };
    if fortran_order {
        return unsupported(
            "Fortran order (column by column)".to_owned(),
            "save the array in C order; numpy.ascontiguousarray(array) converts",
        );
    }
    Ok(Header { element, rows, columns, text_offset })
}

fn broken(source: &Source, offset: u64, expected: &'static str, found: String) -> FormatError {
    FormatError::NpyHeader { path: source.path(), offset, expected, found }
}

#[derive(Default)]
struct Fields {
    descr: Option<String>,
    fortran_order: Option<bool>,
    shape: Option<Vec<u64>>,
}

/// Where the text is not what was expected.
struct Failure {
    position: usize,
    expected: &'static str,
}

struct Parser<'a> {
    text: &'a [u8],
    position: usize,
}

impl Parser<'_> {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`
    fn dictionary(mut self) -> Result<Fields, Failure> {
        let mut fields = Fields::default();
        self.expect(b'{', "a dictionary, which begins with {")?;
        while !self.skip(b'}') {
            let key_start = self.position;
            let key = self.string("a key in quotes, or }")?;
            self.expect(b':', ": after a key")?;
            match key.as_str() {
                "descr" => fields.descr = Some(self.descr()?),
                "fortran_order" => fields.fortran_order = Some(self.boolean()?),
                "shape" => fields.shape = Some(self.tuple()?),
                _ => {
                    let expected = "one of the keys 'descr', 'fortran_order', 'shape'";
                    return Err(Failure { position: key_start, expected });
                }
            }
            if !self.skip(b',') {
                self.expect(b'}', ", or } after a value")?;
                break;
            }
        }
        self.skip_spaces();
        if self.position < self.text.len() {
            return Err(self.failure("nothing but spaces after the dictionary"));
        }
        Ok(fields)
    }

    /// A type's name; a structured type, which is a list, comes back as its text, to be shown as unsupported.
    fn descr(&mut self) -> Result<String, Failure> {
        self.skip_spaces();
        if self.text.get(self.position) != Some(&b'[') {
            return self.string("a type in quotes");
        }
        let start = self.position;
        let mut depth = 0;
        for (index, byte) in self.text.iter().enumerate().skip(start) {
            match byte {
                b'[' => depth += 1,
                b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.position = index + 1;
                return Ok(self.text[start..=index].escape_ascii().to_string());
            }
        }
        Err(self.failure("a type in quotes"))
    }

    fn string(&mut self, expected: &'static str) -> Result<String, Failure> {
        self.skip_spaces();
        let quote = match self.text.get(self.position) {
            Some(&quote @ (b'\'' | b'"')) => quote,
            _ => return Err(self.failure(expected)),
        };
        let content = &self.text[self.position + 1..];
        let Some(length) = content.iter().position(|&byte| byte == quote) else {
            return Err(self.failure(expected));
        };
        self.position += length + 2;
        Ok(content[..length].escape_ascii().to_string())
    }

    fn boolean(&mut self) -> Result<bool, Failure> {
        self.skip_spaces();
        for (text, value) in [("True", true), ("False", false)] {
            if self.text[self.position..].starts_with(text.as_bytes()) {
                self.position += text.len();
                return Ok(value);
            }
        }
        Err(self.failure("True or False"))
    }

    fn tuple(&mut self) -> Result<Vec<u64>, Failure> {
        self.expect(b'(', "a shape, which begins with (")?;
        let mut numbers = Vec::new();
        while !self.skip(b')') {
            numbers.push(self.number()?);
            if !self.skip(b',') {
                self.expect(b')', ", or ) in a shape")?;
                break;
            }
        }
        Ok(numbers)
    }

    fn number(&mut self) -> Result<u64, Failure> {
        self.skip_spaces();
        let digits = self.text[self.position..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = &self.text[self.position..self.position + digits];
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| self.failure("a length below 2^64"))?;
        self.position += digits;
        // Python 2 wrote long integers with an L.
        if self.text.get(self.position) == Some(&b'L') {
            self.position += 1;
        }
        Ok(number)
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Failure> {
        if self.skip(byte) { Ok(()) } else { Err(self.failure(expected)) }
    }

    /// Takes `byte`, after spaces, if it is next.
    fn skip(&mut self, byte: u8) -> bool {
        self.skip_spaces();
        let is_next = self.text.get(self.position) == Some(&byte);
        self.position += usize::from(is_next);
        is_next
    }

    fn skip_spaces(&mut self) {
        while self.text.get(self.position).is_some_and(u8::is_ascii_whitespace) {
            self.position += 1;
        }
    }

    fn failure(&self, expected: &'static str) -> Failure {
        Failure { position: self.position, expected }
    }
}
