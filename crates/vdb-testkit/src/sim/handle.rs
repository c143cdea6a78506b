//! An open file: it stays what it is when its name is removed.

use super::disk::{Change, Id};
use super::{SimFiles, State};
use std::io::{self, ErrorKind};
use std::sync::MutexGuard;
use vdb_storage::Region;
use vdb_storage::files::File;

#[derive(Debug)]
pub(super) struct Handle {
    pub(super) files: SimFiles,
    pub(super) id: Id,
}

impl Handle {
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        self.files.call()
    }
}

impl File for Handle {
    fn length(&self) -> io::Result<u64> {
        Ok(self.call()?.live.content(self.id).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.call()?;
        let content = state.live.content(self.id);
        let rest = content.get(offset as usize..).unwrap_or(&[]);
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let hook = std::mem::take(&mut self.files.state().before_write);
        if let Some(hook) = hook.0 {
            hook();
        }
        match self.call() {
            Ok(mut state) => state.write(self.id, bytes, offset),
            Err(error) => {
                // A write that fails has written something.
                let half = &bytes[..bytes.len() / 2];
                self.files.state().write(self.id, half, offset)?;
                Err(error)
            }
        }
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.call()?;
        let more = length.saturating_sub(state.live.content(self.id).len() as u64);
        if more > 0 && state.live.bytes() + more > state.capacity {
            return Err(ErrorKind::StorageFull.into());
        }
        state.change(Change::SetLength { id: self.id, length });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.call()?.change(Change::Sync { id: self.id });
        Ok(())
    }

    fn map(&self) -> io::Result<Region> {
        Ok(Region::from(&self.call()?.live.content(self.id)[..]))
    }
}
