//! What is called of the librdkafka that a Python client has loaded: found by name in the client's own module, so that
//! there is one library in the process and one client behind both.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// `rd_kafka_message_t`, a public structure whose layout is part of librdkafka's binary interface.
#[repr(C)]
pub struct Message {
    pub error: c_int,
    pub topic: *mut c_void,
    pub partition: i32,
    pub value: *const u8,
    pub value_size: usize,
    pub key: *const u8,
    pub key_size: usize,
    pub offset: i64,
    private: *mut c_void,
}

/// `rd_kafka_topic_partition_t`, as far as it is read.
#[repr(C)]
pub struct TopicPartition {
    pub topic: *const c_char,
    pub partition: i32,
}

pub type Client = *mut c_void;
pub type Queue = *mut c_void;
pub type Headers = *mut c_void;
pub type Event = *mut c_void;

/// `RD_KAFKA_EVENT_FETCH`: one message.
pub const FETCH: c_int = 0x2;

macro_rules! library {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// Functions of librdkafka, each by its name without `rd_kafka_`.
        pub struct Library {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Library {
            /// From the shared object that is loaded from `path`, or from what that one was linked with.
            pub fn of(path: &str) -> PyResult<Self> {
                let path = CString::new(path)?;
                // SAFETY: only what is loaded already is opened, so that nothing runs that has not run before. The handle
                // is never closed: the functions stay where they are for as long as the process lives.
                let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
                if handle.is_null() {
                    return Err(PyRuntimeError::new_err(format!("{path:?} is not loaded")));
                }
                Ok(Library {
                    $($name: {
                        let found = symbol(handle, concat!("rd_kafka_", stringify!($name)))?;
                        // SAFETY: the function has this name and, by librdkafka's header, these arguments.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(found) }
                    },)*
                })
            }
        }
    };
}

library! {
    opaque: fn(Client) -> *mut c_void;
    topic_name: fn(*mut c_void) -> *const c_char;
    queue_new: fn(Client) -> Queue;
    queue_get_partition: fn(Client, *const c_char, i32) -> Queue;
    queue_forward: fn(Queue, Queue);
    queue_destroy: fn(Queue);
    queue_poll: fn(Queue, c_int) -> Event;
    event_type: fn(Event) -> c_int;
    event_message_next: fn(Event) -> *const Message;
    event_topic_partition: fn(Event) -> *mut TopicPartition;
    event_error: fn(Event) -> c_int;
    event_error_string: fn(Event) -> *const c_char;
    event_destroy: fn(Event);
    topic_partition_destroy: fn(*mut TopicPartition);
    message_timestamp: fn(*const Message, *mut c_int) -> i64;
    message_headers: fn(*const Message, *mut Headers) -> c_int;
    header_get_all: fn(Headers, usize, *mut *const c_char, *mut *const c_void, *mut usize) -> c_int;
}

fn symbol(handle: *mut c_void, name: &str) -> PyResult<*mut c_void> {
    let c_name = CString::new(name)?;
    // SAFETY: the handle is open and the name ends with a zero.
    let found = unsafe { libc::dlsym(handle, c_name.as_ptr()) };
    if found.is_null() {
        return Err(PyRuntimeError::new_err(format!("librdkafka has no {name}")));
    }
    Ok(found)
}

/// The bytes at an address; empty for none.
///
/// # Safety
/// They stay there, unchanged, for as long as the result is used.
pub unsafe fn bytes<'a>(address: *const u8, size: usize) -> &'a [u8] {
    if address.is_null() || size == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts(address, size) }
}

/// # Safety
/// The text ends with a zero and stays there for as long as the result is used.
pub unsafe fn text<'a>(address: *const c_char) -> std::borrow::Cow<'a, str> {
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(address) }.to_string_lossy()
}
