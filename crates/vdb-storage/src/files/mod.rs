//! The few calls to a file system that everything else is made of.
//!
//! [`OsFiles`] makes them to the operating system. Tests put another one behind [`FileSystem`] that forgets what was
//! not synced, tears writes, or fails the n-th call; the code above cannot tell.

mod os;

pub use os::OsFiles;

use crate::Region;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Files and folders. Paths are as the operating system takes them.
///
/// A change to a folder (a file created, linked, removed) is durable after [`sync_folder`](Self::sync_folder), one to a
/// file after [`File::sync`]; until then a crash may undo any part of it.
pub trait FileSystem: Debug + Send + Sync {
    /// An empty file to read and write; `AlreadyExists` when there is one of this name.
    ///
    /// # Errors
    /// Those of the operating system, as with all calls here.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// A file to read.
    ///
    /// # Errors
    /// `NotFound`, for one.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// A file to read and write.
    ///
    /// # Errors
    /// `NotFound`, for one.
    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Gives a file a second name, perhaps in another folder of the same file system; `AlreadyExists` when that is taken.
    ///
    /// # Errors
    /// `AlreadyExists`, for one.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name, and the file with its last one, as soon as nobody has it open.
    ///
    /// # Errors
    /// `NotFound`, for one.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// `NotFound`, for one.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Makes a folder, and those above it; one that is there already is fine.
    ///
    /// # Errors
    /// Those of the operating system.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Removes a folder with all that is in it; one that is not there is fine.
    ///
    /// # Errors
    /// Those of the operating system.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;

    /// Makes changes of a folder durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Takes the lock of this file, made when it is missing, until the guard is dropped or the process ends; `None` when
    /// somebody has it.
    ///
    /// # Errors
    /// Those of the operating system.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>>;
}

/// An open file.
pub trait File: Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// Those of the operating system, as with all calls here.
    fn length(&self) -> io::Result<u64>;

    /// Fills a part of `buffer` with bytes from `offset` on and says how many; 0 at the end of the file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all the bytes. When it fails, any number of them may be in the file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or adds zeros.
    ///
    /// # Errors
    /// Those of the operating system.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// Those of the operating system. It is unknown then what is durable, whatever a later call says.
    fn sync(&self) -> io::Result<()>;

    /// All of the file as memory. The file must not change any more, ever.
    ///
    /// # Errors
    /// Those of the operating system.
    fn map(&self) -> io::Result<Region>;
}

/// A lock that is given back when this is dropped.
pub trait LockGuard: Debug + Send + Sync {}

/// The bytes from `offset` to the end of the file.
pub(crate) fn read_from(file: &dyn File, offset: u64) -> io::Result<Vec<u8>> {
    let rest = file.length()?.saturating_sub(offset);
    let too_large = || io::Error::new(io::ErrorKind::OutOfMemory, format!("{rest} bytes of memory"));
    let size = usize::try_from(rest).map_err(|_| too_large())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| too_large())?;
    bytes.resize(size, 0);
    let mut filled = 0;
    while filled < size {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            // It became shorter meanwhile.
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
