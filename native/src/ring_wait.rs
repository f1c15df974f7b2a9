//! `sentio_native.wait_for_records`: waits until an engine has written. A look from here costs a fraction of Python's.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Of how many records were written, in the words of a ring's head.
const WRITTEN: usize = 32;

/// The ring's file and how large it was, its mapped head, and the position that is read next.
type Ring = (RawFd, i64, PyBuffer<u64>, u64);

struct Watched<'a> {
    file: RawFd,
    bytes: i64,
    written: &'a AtomicU64,
    next: u64,
}

impl Watched<'_> {
    /// To touch a page that the file no longer has would end the process: so its size is looked at first.
    fn has_news(&self) -> bool {
        size(self.file) != Some(self.bytes) || self.written.load(Ordering::Acquire) != self.next
    }
}

/// Until there is something new in one of the rings, or its file was cut, with a look every `step_s`; for `longest_s`
/// at most. Without the GIL.
#[pyfunction]
pub fn wait_for_records(py: Python<'_>, rings: Vec<Ring>, step_s: f64, longest_s: f64) -> PyResult<()> {
    let step = duration(step_s)?;
    let longest = duration(longest_s)?;
    let watched = rings.iter().map(watched).collect::<PyResult<Vec<_>>>()?;
    py.detach(|| {
        let began = Instant::now();
        while !watched.iter().any(Watched::has_news) && began.elapsed() < longest {
            sleep(step);
        }
    });
    Ok(())
}

fn watched((file, bytes, head, next): &Ring) -> PyResult<Watched<'_>> {
    if head.item_count() <= WRITTEN {
        return Err(PyValueError::new_err("this is no ring's head"));
    }
    // Sound: the head is mapped, and aligned, for as long as its buffer is held; engines write its words as a whole.
    let written = unsafe { AtomicU64::from_ptr(head.buf_ptr().cast::<u64>().add(WRITTEN)) };
    Ok(Watched { file: *file, bytes: *bytes, written, next: *next })
}

fn size(file: RawFd) -> Option<i64> {
    let mut found = std::mem::MaybeUninit::<libc::stat>::uninit();
    // Sound: the kernel fills what it is given when it answers 0.
    unsafe { (libc::fstat(file, found.as_mut_ptr()) == 0).then(|| found.assume_init().st_size) }
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|failure| PyValueError::new_err(failure.to_string()))
}
