//! The C functions that open, write, sync and rename files.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // C's own contracts

use std::ffi::{c_char, c_int, c_void};

use super::{answer, fail, raw};
use crate::os::{disk, threads};

unsafe fn open_at(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: the caller's path.
    unsafe {
        let open = || {
            let arguments =
                [libc::AT_FDCWD as usize, path as usize, flags as usize, mode as usize, 0, 0];
            raw(libc::SYS_openat, arguments)
        };
        let opened = if threads::is_on() { disk::open(path, flags, open) } else { open() };
        answer(opened) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: the caller's path.
    unsafe { open_at(path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: the caller's path.
    unsafe { open_at(path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    file: c_int,
    bytes: *const c_void,
    len: usize,
    offset: i64,
) -> isize {
    let arguments = [file as usize, bytes as usize, len, offset as usize, 0, 0];
    // SAFETY: the caller's bytes.
    unsafe {
        if threads::is_on()
            && let Some(errno) = disk::write(file, bytes.cast(), len, Some(offset as u64))
        {
            return fail(errno);
        }
        answer(raw(libc::SYS_pwrite64, arguments))
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    file: c_int,
    bytes: *const c_void,
    len: usize,
    offset: i64,
) -> isize {
    // SAFETY: the caller's bytes.
    unsafe { pwrite64(file, bytes, len, offset) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(file: c_int, bytes: *const c_void, len: usize) -> isize {
    // SAFETY: the caller's bytes.
    unsafe {
        if threads::is_on()
            && file > 2
            && let Some(errno) = disk::write(file, bytes.cast(), len, None)
        {
            return fail(errno);
        }
        answer(raw(libc::SYS_write, [file as usize, bytes as usize, len, 0, 0, 0]))
    }
}

/// Less than was asked for may be written: the first part.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(file: c_int, parts: *const libc::iovec, count: c_int) -> isize {
    // SAFETY: the caller's parts.
    unsafe {
        for part in 0..usize::try_from(count).unwrap_or(0) {
            let part = &*parts.add(part);
            if part.iov_len > 0 {
                return write(file, part.iov_base, part.iov_len);
            }
        }
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(file: c_int, len: i64) -> c_int {
    // SAFETY: numbers.
    unsafe {
        if threads::is_on()
            && let Some(errno) = disk::set_len(file, len as u64)
        {
            return fail(errno) as c_int;
        }
        answer(raw(libc::SYS_ftruncate, [file as usize, len as usize, 0, 0, 0, 0])) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(file: c_int, len: i64) -> c_int {
    // SAFETY: numbers.
    unsafe { ftruncate64(file, len) }
}

fn sync(file: c_int) -> c_int {
    if threads::is_on() {
        return match disk::sync(file) {
            None => 0,
            Some(errno) => fail(errno) as c_int,
        };
    }
    // SAFETY: a number.
    unsafe { answer(raw(libc::SYS_fsync, [file as usize, 0, 0, 0, 0, 0])) as c_int }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(file: c_int) -> c_int {
    sync(file)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    sync(file)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's paths.
    unsafe {
        let real = || raw(libc::SYS_rename, [from as usize, to as usize, 0, 0, 0, 0]);
        let done = if threads::is_on() { disk::rename(from, to, real) } else { real() };
        answer(done) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's path.
    unsafe {
        let real = || raw(libc::SYS_unlink, [path as usize, 0, 0, 0, 0, 0]);
        let done = if threads::is_on() { disk::unlink(path, real) } else { real() };
        answer(done) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: u32) -> c_int {
    // SAFETY: the caller's path.
    unsafe {
        let real = || raw(libc::SYS_mkdir, [path as usize, mode as usize, 0, 0, 0, 0]);
        let done = if threads::is_on() { disk::mkdir(path, real) } else { real() };
        answer(done) as c_int
    }
}
