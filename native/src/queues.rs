//! Messages of a consumer's partitions, read past its Python client and without one object for each.
//!
//! Each partition is forwarded to a queue of ours, where only messages and errors of partitions arrive. Rebalances, logs and
//! other errors stay in the client's own queue: their callbacks need the client's state, and `poll` serves them. Ours is read
//! as events, each of which is given to us whatever it is: librdkafka's calls for many messages at once would call the
//! client's error callback from here when a topic is deleted.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::librdkafka::{self, Event, Library, Message, Queue};
use crate::messages::{Columns, Messages, One};

/// (topic, partition, librdkafka's error code, what it says about it)
type Fault = (String, i32, i32, String);

/// Of the values of one batch, whatever their number: decoding has no room for a GiB, nor need a process have.
const MOST_BYTES: usize = 64 << 20;

struct State {
    library: Library,
    client: *mut c_void,
    ours: Queue,
    partitions: HashMap<(String, i32), Queue>,
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
            Ok(state.fill(at_most, until))
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
        self.state().take();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: all queues are open, and the client is: it cannot be closed while there are queues of its. Nothing is forwarded
        // to ours when it goes.
        unsafe {
            for &queue in self.partitions.values() {
                (self.library.queue_forward)(queue, ptr::null_mut());
                (self.library.queue_destroy)(queue);
            }
            (self.library.queue_destroy)(self.ours);
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

    /// Whether so many messages are there, or bytes enough, before the time is over.
    fn fill(&mut self, at_most: usize, until: Instant) -> bool {
        let mut topic = Topic { address: ptr::null_mut(), name: String::new() };
        let mut wait_ms = 0; // asked for the time only where nothing is there
        while self.count < at_most && self.bytes < MOST_BYTES {
            // SAFETY: the queue is open.
            let event = unsafe { (self.library.queue_poll)(self.ours, wait_ms) };
            if event.is_null() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                wait_ms = c_int::try_from(left.as_millis()).unwrap_or(c_int::MAX).max(1);
                continue;
            }
            wait_ms = 0;
            // SAFETY: the event is ours until it is destroyed, here and once; its message lives as long.
            unsafe {
                if (self.library.event_type)(event) == librdkafka::FETCH {
                    if let Some(message) = (self.library.event_message_next)(event).as_ref() {
                        self.copy(message, &mut topic);
                    }
                } else {
                    self.note(event);
                }
                (self.library.event_destroy)(event);
            }
        }
        true
    }

    /// An error of a partition; nothing else comes here.
    ///
    /// # Safety
    /// The event is one of librdkafka's, and whole.
    unsafe fn note(&mut self, event: Event) {
        // SAFETY: as the caller says; the texts live as long as what they are asked of.
        unsafe {
            let place = (self.library.event_topic_partition)(event);
            if let Some(found) = place.as_ref() {
                let topic = librdkafka::text(found.topic).into_owned();
                let said = librdkafka::text((self.library.event_error_string)(event)).into_owned();
                self.faults.push((topic, found.partition, (self.library.event_error)(event), said));
                (self.library.topic_partition_destroy)(place);
            }
        }
    }

    /// # Safety
    /// The message is one of librdkafka's, without an error, and whole.
    unsafe fn copy(&mut self, message: &Message, topic: &mut Topic) {
        if message.topic != topic.address || topic.address.is_null() {
            // SAFETY: a message's topic lives as long as the message, and its name as long as the topic.
            let name = unsafe { librdkafka::text((self.library.topic_name)(message.topic)) };
            *topic = Topic { address: message.topic, name: name.into_owned() };
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
        if self.columns_of(&topic.name).push(one) {
            self.bytes += message.value_size;
            self.count += 1;
        }
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
