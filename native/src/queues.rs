//! Messages of a consumer's partitions, read past its Python client and without one object for each.
//!
//! Each partition is forwarded to a queue of ours, where only messages and errors of partitions arrive. Rebalances, logs and
//! other errors stay in the client's own queue: their callbacks need the client's state, and `poll` serves them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::librdkafka::{self, Library, Message, Queue};
use crate::messages::{Columns, Messages, One};

/// (topic, partition, librdkafka's error code, what it says about it)
type Fault = (String, i32, i32, String);

/// Asked of librdkafka in one go: what is taken beyond the most bytes is less than this many messages.
const CHUNK: usize = 1_000;

/// Of the values of one batch, whatever their number: decoding has no room for a GiB, nor need a process have.
const MOST_BYTES: usize = 64 << 20;

struct State {
    library: Library,
    client: *mut c_void,
    ours: Queue,
    partitions: HashMap<(String, i32), Queue>,
    /// Room for one call.
    found: Vec<*mut Message>,
    columns: BTreeMap<String, Columns>,
    faults: Vec<Fault>,
    count: usize,
    bytes: usize,
}

// SAFETY: librdkafka's handles and messages may be used by any thread, and the lock around the state lets one in.
unsafe impl Send for State {}

/// The queues of the partitions that a client is assigned. It has to be closed before the client is.
#[pyclass(frozen)]
pub struct Queues {
    state: Mutex<Option<State>>,
    /// Keeps the client's memory where it is.
    _client: Py<PyAny>,
}

#[pymethods]
impl Queues {
    /// ``library`` is the path of the client's own module, ``client`` a consumer made by it.
    ///
    /// # Errors
    /// RuntimeError for a client that does not keep librdkafka's handle where confluent-kafka does, or has none.
    #[new]
    fn new(library: &str, client: Bound<'_, PyAny>) -> PyResult<Self> {
        let library = Library::of(library)?;
        // SAFETY: the caller gives an instance of confluent-kafka's `Consumer`, whose structure begins with the object's
        // head and the handle.
        let handle = unsafe { *client.as_ptr().add(1).cast::<*mut c_void>() };
        // SAFETY: a handle that is not null is one of `rd_kafka_new`; the client makes itself its opaque value.
        if handle.is_null() || unsafe { (library.opaque)(handle) } != client.as_ptr().cast() {
            return Err(PyRuntimeError::new_err("this client's handle is not where it should be"));
        }
        // SAFETY: the handle is open.
        let ours = unsafe { (library.queue_new)(handle) };
        let state = State {
            library,
            client: handle,
            ours,
            partitions: HashMap::new(),
            found: Vec::new(),
            columns: BTreeMap::new(),
            faults: Vec::new(),
            count: 0,
            bytes: 0,
        };
        Ok(Queues { state: Mutex::new(Some(state)), _client: client.unbind() })
    }

    /// To be called before the partition is assigned, so that none of its messages goes to the client. Nothing happens when
    /// it is closed: a client that is being closed may still be given partitions.
    fn add(&self, topic: String, partition: i32) -> PyResult<()> {
        self.state().as_mut().map_or(Ok(()), |state| state.add(topic, partition))
    }

    /// Of a partition that is no longer assigned.
    fn remove(&self, topic: String, partition: i32) {
        if let Some(state) = self.state().as_mut()
            && let Some(queue) = state.partitions.remove(&(topic, partition))
        {
            // SAFETY: the queue is open and was taken out of the map.
            unsafe { (state.library.queue_destroy)(queue) };
        }
    }

    /// Wait until ``at_most`` messages are there, or 64 MiB of them, counting those of earlier calls; false when the time is
    /// over.
    fn fill(&self, py: Python<'_>, at_most: usize, wait_ms: u64) -> PyResult<bool> {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        py.detach(|| {
            let mut state = self.state();
            let state = state.as_mut().ok_or_else(closed)?;
            state.forward();
            while state.count < at_most && state.bytes < MOST_BYTES {
                let left = until.saturating_duration_since(Instant::now());
                if !state.take_in(CHUNK.min(at_most - state.count), left) && left.is_zero() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// What was found since the last call, by topic, and errors of partitions.
    fn take(&self) -> PyResult<(Vec<(String, Messages)>, Vec<Fault>)> {
        let mut state = self.state();
        let state = state.as_mut().ok_or_else(closed)?;
        state.count = 0;
        state.bytes = 0;
        let columns = std::mem::take(&mut state.columns);
        let messages = columns.into_iter().map(|(topic, columns)| (topic, Messages::new(columns))).collect();
        Ok((messages, std::mem::take(&mut state.faults)))
    }

    fn close(&self) {
        if let Some(state) = self.state().take() {
            for &queue in state.partitions.values() {
                // SAFETY: both queues are open.
                unsafe { (state.library.queue_forward)(queue, ptr::null_mut()) };
                unsafe { (state.library.queue_destroy)(queue) };
            }
            // SAFETY: nothing is forwarded to it any more.
            unsafe { (state.library.queue_destroy)(state.ours) };
        }
    }
}

impl Queues {
    /// After a panic: messages may be missing from what was found, but the group's positions show that.
    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, topic: String, partition: i32) -> PyResult<()> {
        let name = CString::new(topic.as_str())?;
        // SAFETY: the client is open and the name ends with a zero.
        let queue = unsafe { (self.library.queue_get_partition)(self.client, name.as_ptr(), partition) };
        if queue.is_null() {
            return Err(PyRuntimeError::new_err(format!("{topic}[{partition}] has no queue")));
        }
        // SAFETY: both queues are open; the one that was known before is let go.
        unsafe {
            (self.library.queue_forward)(queue, self.ours);
            if let Some(before) = self.partitions.insert((topic, partition), queue) {
                (self.library.queue_destroy)(before);
            }
        }
        Ok(())
    }

    /// Again, since librdkafka takes the forwarding back when it stops a partition, some time after it was asked to; what has
    /// come to the partition's own queue since goes along.
    fn forward(&self) {
        for &queue in self.partitions.values() {
            // SAFETY: both queues are open.
            unsafe { (self.library.queue_forward)(queue, self.ours) };
        }
    }

    /// Wait for so many messages at most, and for no longer; whether there were as many.
    fn take_in(&mut self, room: usize, wait: Duration) -> bool {
        let wait_ms = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        self.found.resize(room, ptr::null_mut());
        // SAFETY: there is room for as many messages as are asked for.
        let found =
            unsafe { (self.library.consume_batch_queue)(self.ours, wait_ms, self.found.as_mut_ptr(), room) };
        let found = usize::try_from(found).unwrap_or(0).min(room);
        let mut topic = Topic { address: ptr::null_mut(), name: String::new() };
        for place in 0..found {
            let message = self.found[place];
            // SAFETY: each of the first `found` is a message that is ours until it is destroyed, here and once.
            unsafe {
                self.copy(&*message, &mut topic);
                (self.library.message_destroy)(message);
            }
        }
        found == room
    }

    /// # Safety
    /// The message is one of librdkafka's, and whole.
    unsafe fn copy(&mut self, message: &Message, topic: &mut Topic) {
        if message.topic != topic.address || topic.address.is_null() {
            // SAFETY: a message's topic lives as long as the message, and its name as long as the topic.
            let name = unsafe { librdkafka::text((self.library.topic_name)(message.topic)) };
            *topic = Topic { address: message.topic, name: name.into_owned() };
        }
        if message.error != 0 {
            // SAFETY: an error's value is its text, and is copied before the message is let go.
            let said = unsafe { librdkafka::bytes(message.value, message.value_size) };
            let said = String::from_utf8_lossy(said).into_owned();
            self.faults.push((topic.name.clone(), message.partition, message.error, said));
            return;
        }
        // SAFETY: key and value are the message's, and are copied before it is let go.
        let (key, value) = unsafe { (part(message.key, message.key_size), part(message.value, message.value_size)) };
        let mut kind = 0;
        let one = One {
            partition: message.partition,
            offset: message.offset,
            // SAFETY: both pointers are valid.
            timestamp_ms: unsafe { (self.library.message_timestamp)(message, &raw mut kind) },
            key,
            value,
            // SAFETY: the message is whole.
            headers: unsafe { self.headers(message) },
        };
        self.bytes += message.value_size;
        self.columns_of(&topic.name).push(one);
        self.count += 1;
    }

    fn columns_of(&mut self, topic: &str) -> &mut Columns {
        if !self.columns.contains_key(topic) {
            self.columns.insert(topic.to_owned(), Columns::default());
        }
        self.columns.get_mut(topic).expect("it was put there")
    }

    /// # Safety
    /// The message is one of librdkafka's, and whole.
    unsafe fn headers(&self, message: &Message) -> Vec<(String, Option<Vec<u8>>)> {
        let mut headers = ptr::null_mut();
        // SAFETY: both pointers are valid; what is found lives as long as the message.
        if unsafe { (self.library.message_headers)(message, &raw mut headers) } != 0 {
            return Vec::new();
        }
        let mut found = Vec::new();
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: as above; the name ends with a zero.
        while unsafe {
            (self.library.header_get_all)(headers, found.len(), &raw mut name, &raw mut value, &raw mut size)
        } == 0
        {
            found.push(unsafe { (librdkafka::text(name).into_owned(), part(value.cast(), size).map(<[u8]>::to_vec)) });
        }
        found
    }
}

/// The topic of the message before, whose name need not be asked again.
struct Topic {
    address: *mut c_void,
    name: String,
}

/// None for what is null, which an empty value is not.
///
/// # Safety
/// The bytes stay there for as long as the result is used.
unsafe fn part<'a>(address: *const u8, size: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller says.
    (!address.is_null()).then(|| unsafe { librdkafka::bytes(address, size) })
}

fn closed() -> PyErr {
    PyRuntimeError::new_err("the queues are closed")
}
