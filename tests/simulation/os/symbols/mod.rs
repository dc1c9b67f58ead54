//! The C functions by which Rust's library, tokio and SQLite reach the operating system.
//!
//! The linker takes these instead of the C library's. Outside of a simulation, and for what is none
//! of its matter, each asks the kernel itself.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // C's own contracts

use std::arch::asm;
use std::ffi::{CStr, c_int, c_long, c_void};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::threads;

mod files;

const PRIVATE: c_int = 128;
const REALTIME: c_int = 256;

/// The kernel, without any library in between. A negative answer is an errno.
pub unsafe fn raw(number: c_long, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let answer: isize;
    // SAFETY: the caller's arguments are those of the system call.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// As the C library answers it.
pub unsafe fn answer(result: isize) -> isize {
    if (-4095..0).contains(&result) { fail(-result as i32) } else { result }
}

pub fn fail(errno: i32) -> isize {
    // SAFETY: the C library's own place for it, of this thread.
    unsafe { *libc::__errno_location() = errno };
    -1
}

pub fn raw_futex_wait(word: &AtomicU32, value: u32) {
    let address = std::ptr::from_ref(word) as usize;
    // SAFETY: the word lives for ever.
    unsafe {
        let operation = (libc::FUTEX_WAIT | PRIVATE) as usize;
        raw(libc::SYS_futex, [address, operation, value as usize, 0, 0, 0]);
    }
}

pub fn raw_futex_wake(word: &AtomicU32) {
    let address = std::ptr::from_ref(word) as usize;
    // SAFETY: the word lives for ever.
    unsafe {
        let operation = (libc::FUTEX_WAKE | PRIVATE) as usize;
        raw(libc::SYS_futex, [address, operation, 1, 0, 0, 0]);
    }
}

/// Ends the process at once.
pub fn leave(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Says why, and ends the process.
pub fn die(why: &str, code: i32) -> ! {
    let line = format!("FAILED {why}\n");
    // SAFETY: bytes that live, to the error output.
    unsafe {
        raw(libc::SYS_write, [1, line.as_ptr() as usize, line.len(), 0, 0, 0]);
    }
    leave(code)
}

unsafe fn next(name: &CStr, cached: &AtomicUsize) -> usize {
    let known = cached.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: a name of the C library.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize;
    cached.store(found, Ordering::Relaxed);
    found
}

// ---- waiting ------------------------------------------------------------------------------------

fn nanos(time: &libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

unsafe fn futex(arguments: [usize; 6]) -> isize {
    let [address, operation, value, time, _, _] = arguments;
    let command = operation as c_int & !(PRIVATE | REALTIME);
    match command {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => {
            // SAFETY: the caller's futex and time.
            let (now, until) = unsafe {
                let now = (*(address as *const AtomicU32)).load(Ordering::SeqCst);
                let until = (time as *const libc::timespec).as_ref().map(|time| {
                    let machine = threads::machine();
                    let time = nanos(time);
                    if command == libc::FUTEX_WAIT {
                        machine.now + time
                    } else if operation as c_int & REALTIME != 0 {
                        time.saturating_sub(threads::WALL)
                    } else {
                        time.saturating_sub(threads::BOOTED)
                    }
                });
                (now, until)
            };
            if now != value as u32 {
                return fail(libc::EAGAIN);
            }
            if threads::wait(address, until) { 0 } else { fail(libc::ETIMEDOUT) }
        }
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => {
            let woken = threads::wake(address, value as c_int as usize);
            if woken > 0 {
                threads::maybe_give_way(4);
            }
            woken as isize
        }
        _ => fail(libc::ENOSYS),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    // SAFETY: the caller's arguments, passed on.
    unsafe {
        if threads::is_on() {
            match number {
                libc::SYS_futex => return futex([a, b, c, d, e, f]) as c_long,
                libc::SYS_getrandom => return getrandom(a as *mut c_void, b, 0) as c_long,
                _ => {}
            }
        }
        answer(raw(number, [a, b, c, d, e, f])) as c_long
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(
    time: *const libc::timespec,
    left: *mut libc::timespec,
) -> c_int {
    // SAFETY: the caller's times.
    unsafe {
        if threads::is_on() {
            threads::sleep(nanos(&*time));
            return 0;
        }
        answer(raw(libc::SYS_nanosleep, [time as usize, left as usize, 0, 0, 0, 0])) as c_int
    }
}

/// Answers an errno itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(
    clock: c_int,
    flags: c_int,
    time: *const libc::timespec,
    left: *mut libc::timespec,
) -> c_int {
    // SAFETY: the caller's times.
    unsafe {
        if threads::is_on() {
            let time = nanos(&*time);
            if flags & libc::TIMER_ABSTIME == 0 {
                threads::sleep(time);
            } else {
                threads::wait(0, Some(time.saturating_sub(threads::BOOTED)));
            }
            return 0;
        }
        let arguments = [clock as usize, flags as usize, time as usize, left as usize, 0, 0];
        -raw(libc::SYS_clock_nanosleep, arguments) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn usleep(micros: u32) -> c_int {
    let time = libc::timespec {
        tv_sec: libc::time_t::from(micros / 1_000_000),
        tv_nsec: c_long::from(micros % 1_000_000) * 1000,
    };
    // SAFETY: a time of our own.
    unsafe { nanosleep(&raw const time, std::ptr::null_mut()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sched_yield() -> c_int {
    if threads::is_on() {
        threads::give_way();
        return 0;
    }
    // SAFETY: no arguments.
    unsafe { answer(raw(libc::SYS_sched_yield, [0; 6])) as c_int }
}

// ---- time and chance ----------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller's place for the answer.
    unsafe {
        if threads::is_on() {
            let machine = threads::machine();
            let now = match clock {
                libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
                    let off = machine.nodes[threads::node()].wall;
                    (threads::WALL + machine.now).saturating_add_signed(off)
                }
                _ => threads::BOOTED + machine.now,
            };
            (*time).tv_sec = (now / 1_000_000_000) as libc::time_t;
            (*time).tv_nsec = (now % 1_000_000_000) as c_long;
            return 0;
        }
        answer(raw(libc::SYS_clock_gettime, [clock as usize, time as usize, 0, 0, 0, 0])) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut libc::timeval, zone: *mut c_void) -> c_int {
    // SAFETY: the caller's place for the answer.
    unsafe {
        if threads::is_on() {
            let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
            (*time).tv_sec = now.tv_sec;
            (*time).tv_usec = now.tv_nsec / 1000;
            return 0;
        }
        answer(raw(libc::SYS_gettimeofday, [time as usize, zone as usize, 0, 0, 0, 0])) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(out: *mut libc::time_t) -> libc::time_t {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place of our own, and the caller's, if any.
    unsafe {
        clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
        if !out.is_null() {
            *out = now.tv_sec;
        }
    }
    now.tv_sec
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len: usize, flags: u32) -> isize {
    // SAFETY: the caller's `len` bytes.
    unsafe {
        if threads::is_on() {
            let bytes = std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len);
            for part in bytes.chunks_mut(8) {
                let random = threads::machine().chance.next().to_le_bytes();
                part.copy_from_slice(&random[..part.len()]);
            }
            return len as isize;
        }
        answer(raw(libc::SYS_getrandom, [buffer as usize, len, flags as usize, 0, 0, 0]))
    }
}

// ---- threads ------------------------------------------------------------------------------------

type Start = extern "C" fn(*mut c_void) -> *mut c_void;

struct Begin {
    start: Start,
    argument: *mut c_void,
    number: usize,
    turn: &'static AtomicU32,
}

extern "C" fn begin(argument: *mut c_void) -> *mut c_void {
    // SAFETY: made by `pthread_create` below, for this thread alone.
    let begin = unsafe { Box::from_raw(argument.cast::<Begin>()) };
    threads::arrive(begin.number, begin.turn);
    let Begin { start, argument, .. } = *begin;
    // SAFETY: a key of our own; its value says how often `end` has still to be put off.
    unsafe { libc::pthread_setspecific(end_key(), 3 as *const c_void) };
    start(argument)
}

/// Runs after the thread's own variables were dropped, which may still wake others.
unsafe extern "C" fn end(rounds: *mut c_void) {
    let rounds = rounds as usize;
    if rounds > 1 {
        // SAFETY: as above.
        unsafe { libc::pthread_setspecific(end_key(), (rounds - 1) as *const c_void) };
    } else {
        threads::leave();
    }
}

fn end_key() -> libc::pthread_key_t {
    static KEY: AtomicU32 = AtomicU32::new(u32::MAX);
    let known = KEY.load(Ordering::Relaxed);
    if known != u32::MAX {
        return known;
    }
    let mut key = 0;
    // SAFETY: a place of our own.
    unsafe { libc::pthread_key_create(&raw mut key, Some(end)) };
    KEY.store(key, Ordering::Relaxed);
    key
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    handle: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    type Create = unsafe extern "C" fn(
        *mut libc::pthread_t,
        *const libc::pthread_attr_t,
        Start,
        *mut c_void,
    ) -> c_int;
    static REAL: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: the C library's own function, with the caller's arguments.
    unsafe {
        let real: Create = std::mem::transmute(next(c"pthread_create", &REAL));
        if !threads::is_on() {
            return real(handle, attributes, start, argument);
        }
        end_key();
        let number = threads::made();
        let turn = threads::turn_of(number);
        let begun = Box::into_raw(Box::new(Begin { start, argument, number, turn }));
        let result = real(handle, attributes, begin, begun.cast());
        if result == 0 {
            threads::is_known_as(number, *handle as usize);
        } else {
            drop(Box::from_raw(begun));
            threads::unmade(number);
        }
        result
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_join(handle: libc::pthread_t, value: *mut *mut c_void) -> c_int {
    type Join = unsafe extern "C" fn(libc::pthread_t, *mut *mut c_void) -> c_int;
    static REAL: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: the C library's own function, with the caller's arguments.
    unsafe {
        let real: Join = std::mem::transmute(next(c"pthread_join", &REAL));
        if threads::is_on() {
            threads::join(handle as usize);
        }
        real(handle, value)
    }
}

/// A node's program that ends itself ends that node.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exit(code: c_int) -> ! {
    type Exit = unsafe extern "C" fn(c_int) -> !;
    static REAL: AtomicUsize = AtomicUsize::new(0);
    if threads::is_on() {
        if threads::node() != threads::WORLD {
            threads::exit(code);
        }
        leave(code);
    }
    // SAFETY: the C library's own function.
    unsafe {
        let real: Exit = std::mem::transmute(next(c"exit", &REAL));
        real(code)
    }
}

/// Rust's `exit` lets one thread of the process end it, and any other wait here for that: it is
/// another node's program that ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pause() -> c_int {
    if threads::is_on() && threads::node() != threads::WORLD {
        threads::exit(70);
    }
    // SAFETY: no arguments.
    unsafe { answer(raw(libc::SYS_pause, [0; 6])) as c_int }
}
