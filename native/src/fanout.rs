//! The same bytes to many sockets while the GIL is released. The rules are those of `gateway/stream/descriptors.py`;
//! tests hold the two equal.

use std::io::{Error, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

const GONE: i64 = -1;
const THROUGH_TRANSPORT: u64 = 0;

#[derive(Clone, Copy, Default)]
struct Slot {
    generation: u32,
    open: bool,
    held: bool,
}

/// A slot for each descriptor number; a handle is the generation and, below it, the number.
#[derive(Default)]
struct Slots(Vec<Slot>);

impl Slots {
    fn open(&mut self, number: u32) -> u64 {
        let place = number as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, Slot::default());
        }
        let Some(slot) = self.0.get_mut(place) else { return THROUGH_TRANSPORT };
        // Never 0, so that no handle is `THROUGH_TRANSPORT`.
        let generation = slot.generation.checked_add(1).unwrap_or(1);
        *slot = Slot { generation, open: true, held: false };
        u64::from(generation) << 32 | u64::from(number)
    }

    /// None when the handle is closed.
    fn get(&mut self, handle: u64) -> Option<&mut Slot> {
        let slot = self.0.get_mut(number(handle) as usize)?;
        (slot.open && u64::from(slot.generation) == handle >> 32).then_some(slot)
    }

    fn write(&mut self, handle: u64, payload: &[u8]) -> i64 {
        if handle == THROUGH_TRANSPORT {
            return 0;
        }
        let Some(slot) = self.get(handle) else { return GONE };
        if slot.held {
            return 0;
        }
        let written = send(number(handle), payload);
        slot.held = written < size(payload);
        written
    }
}

fn number(handle: u64) -> u32 {
    (handle & u64::from(u32::MAX)) as u32
}

fn size(payload: &[u8]) -> i64 {
    i64::try_from(payload.len()).unwrap_or(i64::MAX)
}

/// Bytes that the socket took, or `GONE`.
fn send(number: u32, payload: &[u8]) -> i64 {
    let Ok(descriptor) = i32::try_from(number) else { return GONE };
    loop {
        // SAFETY: the pointer and the length are those of a slice that outlives the call; the call only reads it. A
        // descriptor that is not open, or no socket, is an error of the call.
        let written = unsafe {
            libc::send(descriptor, payload.as_ptr().cast(), payload.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        if let Ok(written) = u32::try_from(written) {
            return i64::from(written);
        }
        match Error::last_os_error().kind() {
            ErrorKind::Interrupted => {}
            ErrorKind::WouldBlock => return 0,
            _ => return GONE,
        }
    }
}

/// `gateway.stream.descriptors.Descriptors`.
#[pyclass(frozen)]
#[derive(Default)]
pub struct Descriptors {
    slots: Mutex<Slots>,
}

impl Descriptors {
    /// What a panic could leave half done does not exist here: each slot is written at once.
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Descriptors {
    #[new]
    fn new() -> Self {
        Descriptors::default()
    }

    fn open(&self, descriptor: i64) -> PyResult<u64> {
        // The kernel's own bound (fs.nr_open); the table has a slot for each number below.
        if !(0..1 << 24).contains(&descriptor) {
            return Err(PyValueError::new_err(format!("{descriptor} is no descriptor")));
        }
        Ok(self.slots().open(descriptor as u32))
    }

    fn close(&self, handle: u64) {
        if let Some(slot) = self.slots().get(handle) {
            slot.open = false;
        }
    }

    fn hold(&self, handle: u64) {
        if let Some(slot) = self.slots().get(handle) {
            slot.held = true;
        }
    }

    fn release(&self, handle: u64) {
        if let Some(slot) = self.slots().get(handle) {
            slot.held = false;
        }
    }

    fn send(
        &self,
        py: Python<'_>,
        handles: &Bound<'_, PyAny>,
        payload: &Bound<'_, PyBytes>,
    ) -> PyResult<Vec<(usize, i64)>> {
        if handles.len()? == 0 {
            return Ok(Vec::new()); // an empty array has no address that a buffer could have
        }
        let handles = PyBuffer::<u64>::get(handles)?.to_vec(py)?;
        let payload = payload.as_bytes();
        Ok(py.detach(|| {
            let mut slots = self.slots();
            let written = handles.iter().map(|&handle| slots.write(handle, payload));
            written.enumerate().filter(|&(_, written)| written < size(payload)).collect()
        }))
    }
}
