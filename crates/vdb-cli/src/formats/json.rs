//! JSON records: one object a line, or one array of objects; both are read record by record.
//!
//! The text of one record is cut out of the file and given to `serde_json`. In an array the cut is made by counting
//! brackets outside of strings, so that an array of any length takes the memory of one record; whether the text is
//! JSON is for the parser to say. Numbers in ids and metadata keep their text, digit by digit.

mod point;

use super::error::{FormatError, Place};
use super::source::Source;
use super::{MAX_DIM, MAX_RECORD_BYTES, Record};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads records in order.
#[derive(Debug)]
pub(super) struct JsonReader {
    source: Source,
    layout: Layout,
    here: Location,
    /// The text of the current record.
    text: Vec<u8>,
    next_record: u64,
    dim: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Lines,
    Array,
}

/// A place in the file: line and column count from 1, the column in bytes.
#[derive(Debug, Clone, Copy)]
struct Location {
    offset: u64,
    line: u64,
    column: u64,
}

impl Location {
    /// The place after `text`, which begins here.
    fn after(self, text: &[u8]) -> Location {
        let newlines = text.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let last_line = text.rsplit(|&byte| byte == b'\n').next().map_or(0, <[u8]>::len) as u64;
        Location {
            offset: self.offset + text.len() as u64,
            line: self.line + newlines,
            column: if newlines == 0 { self.column + last_line } else { 1 + last_line },
        }
    }
}

/// A record as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecord<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    vector: Vec<f32>,
    #[serde(borrow, alias = "payload")]
    metadata: Option<HashMap<String, &'a RawValue>>,
}

impl JsonReader {
    /// One object a line; blank lines are skipped.
    pub(super) fn lines(source: Source) -> Result<Self, FormatError> {
        Self::new(source, Layout::Lines)
    }

    /// One array of objects.
    pub(super) fn array(source: Source) -> Result<Self, FormatError> {
        let mut reader = Self::new(source, Layout::Array)?;
        match reader.next_visible()? {
            Some(b'[') => reader.advance(1)?,
            found => {
                let advice = "; for one object a line, name the file .jsonl";
                return Err(reader.unexpected("[, the start of an array of records", found, advice));
            }
        }
        Ok(reader)
    }

    fn new(mut source: Source, layout: Layout) -> Result<Self, FormatError> {
        // Some editors put a byte order mark in front.
        if source.fill()?.starts_with(BYTE_ORDER_MARK) {
            source.consume(BYTE_ORDER_MARK.len());
        }
        let here = Location { offset: source.position(), line: 1, column: 1 };
        Ok(Self { source, layout, here, text: Vec::new(), next_record: 0, dim: None })
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn dim(&self) -> Option<usize> {
        self.dim
    }

    /// The next record; `None` at the end of the file.
    pub(super) fn next_record(&mut self) -> Result<Option<Record>, FormatError> {
        let Some(start) = self.cut()? else { return Ok(None) };
        let record = self.parse(start)?;
        self.next_record += 1;
        Ok(Some(record))
    }

    /// Puts the next record into `text`; returns where it begins.
    fn cut(&mut self) -> Result<Option<Location>, FormatError> {
        self.text.clear();
        match self.layout {
            Layout::Lines => self.cut_line(),
            Layout::Array => self.cut_element(),
        }
    }

    /// Puts the next line that is not blank into `text`; returns where it begins.
    fn cut_line(&mut self) -> Result<Option<Location>, FormatError> {
        loop {
            self.text.clear();
            let start = self.here;
            self.source.read_line(MAX_RECORD_BYTES as u64 + 1, &mut self.text)?;
            self.here = start.after(&self.text);
            if self.text.is_empty() {
                return Ok(None);
            }
            if self.text.len() > MAX_RECORD_BYTES {
                return Err(self.too_long(start));
            }
            let blank = self.text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if blank < self.text.len() {
                let start = start.after(&self.text[..blank]);
                self.text.drain(..blank);
                if self.text[0] != b'{' {
                    self.here = start;
                    return Err(self.unexpected("{, the start of a record", Some(self.text[0]), ""));
                }
                return Ok(Some(start));
            }
        }
    }

    /// Puts the next object of the array into `text`; returns where it begins.
    fn cut_element(&mut self) -> Result<Option<Location>, FormatError> {
        let is_first = self.next_record == 0;
        match (self.next_visible()?, is_first) {
            (Some(b']'), _) => {
                self.advance(1)?;
                return match self.next_visible()? {
                    None => Ok(None),
                    found => Err(self.unexpected("the end of the file after the array", found, "")),
                };
            }
            (Some(b','), false) => self.advance(1)?,
            (_, true) => {}
            (found, false) => return Err(self.unexpected("a comma or ] after a record", found, "")),
        }
        match self.next_visible()? {
            Some(b'{') => {}
            found => return Err(self.unexpected("{, the start of a record", found, "")),
        }
        let start = self.here;
        self.cut_object()?;
        Ok(Some(start))
    }

    /// Puts an object, whose opening brace is next, into `text`.
    fn cut_object(&mut self) -> Result<(), FormatError> {
        let start = self.here;
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        loop {
            let chunk = self.source.fill()?;
            if chunk.is_empty() {
                self.here = start.after(&self.text);
                return Err(self.unexpected("the end of the record", None, ""));
            }
            let mut used = chunk.len();
            let mut complete = false;
            for (index, &byte) in chunk.iter().enumerate() {
                match (in_string, byte) {
                    (true, _) if escaped => escaped = false,
                    (true, b'\\') => escaped = true,
                    (_, b'"') => in_string = !in_string,
                    (false, b'{' | b'[') => depth += 1,
                    (false, b'}' | b']') => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    (used, complete) = (index + 1, true);
                    break;
                }
            }
            self.text.extend_from_slice(&chunk[..used]);
            self.source.consume(used);
            if self.text.len() > MAX_RECORD_BYTES {
                return Err(self.too_long(start));
            }
            if complete {
                self.here = start.after(&self.text);
                return Ok(());
            }
        }
    }

    /// The next byte that is not a space, without taking it; `None` at the end of the file.
    fn next_visible(&mut self) -> Result<Option<u8>, FormatError> {
        loop {
            let chunk = self.source.fill()?;
            let blank = chunk.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let next = chunk.get(blank).copied();
            if chunk.is_empty() {
                return Ok(None);
            }
            self.advance(blank)?;
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Takes buffered bytes.
    fn advance(&mut self, count: usize) -> Result<(), FormatError> {
        let taken = &self.source.fill()?[..count];
        self.here = self.here.after(taken);
        self.source.consume(count);
        Ok(())
    }

    /// Makes a record of `text`, which begins with a brace at `start`.
    fn parse(&mut self, start: Location) -> Result<Record, FormatError> {
        let raw: RawRecord<'_> =
            serde_json::from_slice(&self.text).map_err(|error| self.located(start, &error))?;
        let path = self.source.path();
        let (place, offset) = (Place::Record(self.next_record), start.offset);
        let vector = raw.vector;
        if !(1..=MAX_DIM).contains(&vector.len()) {
            return Err(FormatError::BadDimension { path, place, offset, found: vector.len() as i64 });
        }
        let expected = self.dim.unwrap_or(vector.len());
        if vector.len() != expected {
            return Err(FormatError::DimensionMismatch {
                path,
                place,
                offset,
                expected,
                found: vector.len(),
            });
        }
        if let Some(component) = vector.iter().position(|value| !value.is_finite()) {
            let value = vector[component];
            return Err(FormatError::NonFinite { path, place, offset, component, value });
        }
        let id = match raw.id.map(|id| id_text(id.get())) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(message)) => return Err(self.json_error(start, message)),
        };
        let mut metadata = HashMap::new();
        for (key, value) in raw.metadata.into_iter().flatten() {
            match metadata_text(value.get()) {
                Ok(Some(text)) => {
                    metadata.insert(key, text);
                }
                Ok(None) => {}
                Err(message) => return Err(self.json_error(start, format!("metadata {key:?}: {message}"))),
            }
        }
        self.dim = Some(expected);
        Ok(Record { id, vector, metadata })
    }

    /// An error of the parser, whose line and column count from the start of `text`.
    fn located(&self, start: Location, error: &serde_json::Error) -> FormatError {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        let message = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
        let line_start: usize = self
            .text
            .split_inclusive(|&byte| byte == b'\n')
            .take(line.saturating_sub(1))
            .map(<[u8]>::len)
            .sum();
        // The parser's column is the number of bytes it took of the line; the last of them is the culprit.
        let culprit = (line_start + column.saturating_sub(1)).min(self.text.len());
        self.json_error(start.after(&self.text[..culprit]), message.to_owned())
    }

    /// Something else than `expected` here.
    fn unexpected(&self, expected: &str, found: Option<u8>, advice: &str) -> FormatError {
        let found = match found {
            Some(byte) => format!("\"{}\"", byte.escape_ascii()),
            None => "the end of the file".to_owned(),
        };
        self.json_error(self.here, format!("expected {expected}, found {found}{advice}"))
    }

    fn json_error(&self, at: Location, message: String) -> FormatError {
        let (path, place) = (self.source.path(), Place::Record(self.next_record));
        FormatError::Json { path, place, line: at.line, column: at.column, offset: at.offset, message }
    }

    fn too_long(&self, start: Location) -> FormatError {
        let (path, place) = (self.source.path(), Place::Record(self.next_record));
        FormatError::RecordTooLong { path, place, offset: start.offset }
    }
}

/// An id: a string, or a number as it is written.
fn id_text(json: &str) -> Result<String, String> {
    match json.as_bytes() {
        [b'"', ..] => string_text(json),
        [b'-' | b'0'..=b'9', ..] => Ok(json.to_owned()),
        _ => Err(format!("an id is a string or a number, found {}", shortened(json))),
    }
}

/// A metadata value: a string as it is, null as nothing, anything else as compact JSON.
fn metadata_text(json: &str) -> Result<Option<String>, String> {
    match json.as_bytes() {
        [b'"', ..] => string_text(json).map(Some),
        b"null" => Ok(None),
        _ => Ok(Some(compact(json))),
    }
}

fn string_text(json: &str) -> Result<String, String> {
    serde_json::from_str(json).map_err(|error| format!("{error} of the string {}", shortened(json)))
}

/// JSON without the spaces between its tokens. Order and digits stay, which a parser and printer would not promise.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            let keep = in_string || !c.is_ascii_whitespace();
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            keep
        })
        .collect()
}

/// The beginning of a text, for messages.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
