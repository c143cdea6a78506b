//! What is being done in the background, told to other processes: a small file that the writer writes at most once a second
//! while there is something to tell.
//!
//! Nothing depends on it: it is never synced, a write that fails is left out, and what cannot be read is nothing. The writer
//! holds a lock on this file as long as it may write it, so a reader can tell what was left by one that is gone.

use crate::{JobKind, Progress};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vdb_storage::files::{File, FileSystem, LockGuard};

const NAME: &str = "status";
/// The file is written at most so often.
const INTERVAL: Duration = Duration::from_secs(1);
/// A longer file is none of this program's.
const MOST_BYTES: u64 = 1 << 20;

impl Progress {
    fn to_json(&self) -> Value {
        let Self { collection, kind, points, to_link, linked, seconds } = self;
        json!({
            "collection": collection,
            "kind": kind.name(),
            "points": points,
            "to_link": to_link,
            "linked": linked,
            "seconds": seconds,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let count = |name: &str| value[name].as_u64().and_then(|count| usize::try_from(count).ok());
        let name = value["kind"].as_str()?;
        Some(Self {
            collection: value["collection"].as_str()?.to_owned(),
            kind: [JobKind::Merge, JobKind::Index].into_iter().find(|kind| kind.name() == name)?,
            points: count("points")?,
            to_link: count("to_link")?,
            linked: count("linked")?,
            seconds: value["seconds"].as_f64()?,
        })
    }
}

/// The file, for the one writer. It is made when there is something to tell, and removed at the end.
pub(super) struct StatusFile {
    files: Arc<dyn FileSystem>,
    path: PathBuf,
    open: Option<(Box<dyn LockGuard>, Arc<dyn File>)>,
    written: Option<Instant>,
    tells_nothing: bool,
}

impl StatusFile {
    pub(super) fn new(files: Arc<dyn FileSystem>, folder: &Path) -> Self {
        Self { files, path: folder.join(NAME), open: None, written: None, tells_nothing: true }
    }

    /// Tells it to whoever looks, unless the last time was just now.
    pub(super) fn tell(&mut self, progress: &[Progress]) {
        let is_soon = self.written.is_some_and(|written| written.elapsed() < INTERVAL);
        if is_soon || (self.tells_nothing && progress.is_empty()) {
            return;
        }
        self.written = Some(Instant::now());
        // Who does not hear of it, hears of it the next time.
        self.tells_nothing = self.write(progress).is_ok() && progress.is_empty();
    }

    fn write(&mut self, progress: &[Progress]) -> io::Result<()> {
        if self.open.is_none() {
            let Some(guard) = self.files.lock(&self.path)? else { return Ok(()) };
            let file = match self.files.create(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.files.open_to_write(&self.path)?
                }
                file => file?,
            };
            self.open = Some((guard, file));
        }
        let (_, file) = self.open.as_ref().expect("it was just opened");
        let jobs: Vec<Value> = progress.iter().map(Progress::to_json).collect();
        let text = json!({ "jobs": jobs }).to_string();
        file.write_at(text.as_bytes(), 0)?;
        file.set_length(text.len() as u64)
    }
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        if self.open.is_some() {
            // If it stays, nobody holds its lock.
            let _ = self.files.remove(&self.path);
        }
    }
}

/// What the writer of a database tells, if there is one.
pub(super) fn read(files: &dyn FileSystem, folder: &Path) -> Vec<Progress> {
    let path = folder.join(NAME);
    let Ok(Some(found)) = read_json(files, &path) else { return Vec::new() };
    // Whoever gets the lock is alone: what is there was left by a writer that is gone.
    if !matches!(files.lock(&path), Ok(None)) {
        return Vec::new();
    }
    let jobs = found["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
    jobs.iter().filter_map(Progress::from_json).collect()
}

fn read_json(files: &dyn FileSystem, path: &Path) -> io::Result<Option<Value>> {
    let file = files.open(path)?;
    let mut bytes = vec![0; file.length()?.min(MOST_BYTES) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(serde_json::from_slice(&bytes[..filled]).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vdb_testkit::SimFiles;

    fn some(linked: usize) -> Vec<Progress> {
        let (collection, kind) = ("\u{fc} \"c\"".to_owned(), JobKind::Index);
        let first = Progress { collection, kind, points: 900, to_link: 1_000, linked, seconds: 2.5 };
        let second = Progress { collection: "d".to_owned(), kind: JobKind::Merge, ..first.clone() };
        vec![first, second]
    }

    fn status(files: &SimFiles) -> StatusFile {
        files.create_folder(Path::new("db")).unwrap();
        StatusFile::new(Arc::new(files.clone()), Path::new("db"))
    }

    fn told(files: &SimFiles) -> Vec<Progress> {
        read(files, Path::new("db"))
    }

    #[test]
    fn what_is_told_is_read_until_the_end() {
        let files = SimFiles::new();
        let mut own = status(&files);
        own.tell(&[]);
        assert_eq!((told(&files), files.changes()), (vec![], 1), "there is nothing to tell");
        own.tell(&some(500));
        assert_eq!(told(&files), some(500));
        assert_eq!((some(500)[0].per_second(), some(500)[0].seconds_left()), (200.0, Some(2.5)));
        let changes = files.changes();
        own.tell(&some(600));
        assert_eq!((told(&files), files.changes()), (some(500), changes), "it was told just now");
        own.written = None;
        own.tell(&some(7));
        assert_eq!(told(&files), some(7), "shorter than before");
        own.written = None;
        own.tell(&[]);
        assert_eq!(told(&files), vec![]);
        own.written = None;
        own.tell(&some(8));
        assert_eq!(told(&files), some(8));
        drop(own);
        assert_eq!((told(&files), files.list(Path::new("db")).unwrap()), (vec![], Vec::<String>::new()));
    }

    #[test]
    fn what_a_writer_left_that_is_gone_is_not_told() {
        let files = SimFiles::new();
        let mut own = status(&files);
        own.tell(&some(1));
        // The end of the process gives the lock back and leaves the file.
        own.open = None;
        drop(own);
        assert_eq!(files.list(Path::new("db")).unwrap(), ["status"]);
        assert_eq!(told(&files), vec![]);
        // The next writer takes it over, and whatever is in it.
        let mut next = status(&files);
        next.tell(&some(2));
        assert_eq!(told(&files), some(2));
        let file = files.open_to_write(Path::new("db/status")).unwrap();
        for text in ["", "{", "[]", "{\"jobs\": [{\"kind\": \"other\"}]}"] {
            file.write_at(text.as_bytes(), 0).unwrap();
            file.set_length(text.len() as u64).unwrap();
            assert_eq!(told(&files), vec![], "{text}");
        }
    }

    #[test]
    fn a_write_that_fails_is_left_out() {
        let files = SimFiles::new();
        let mut own = status(&files);
        for call in 1..5 {
            files.fail(call, io::ErrorKind::Other);
            own.written = None;
            own.tell(&some(1));
            files.fail(1, io::ErrorKind::Other);
            assert_eq!(told(&files), vec![]);
        }
        // Calls that were to fail are behind all that a write makes.
        for _ in 0..4 {
            own.written = None;
            own.tell(&some(2));
        }
        assert_eq!(told(&files), some(2));
    }
}
