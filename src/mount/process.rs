//! Which process a request came from.

/// FUSE names the thread that asked; locks are known by their process. The thread itself when
/// /proc does not say (it has ended, or lives where this daemon does not see it).
pub(super) fn of_thread(thread: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status"));
    status.ok().as_deref().and_then(group).unwrap_or(thread)
}

/// The name of the program (`proc_pid_comm(5)`: its first 15 bytes).
pub(super) fn program_of(thread: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{thread}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// `proc_pid_status(5)`: "Tgid: Thread group ID (i.e., Process ID)".
fn group(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_belongs_to_its_process() {
        let thread = std::thread::spawn(|| {
            let id = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            (id, of_thread(id))
        });
        let (thread, process) = thread.join().unwrap();
        assert_ne!(thread, process);
        assert_eq!(process, std::process::id());
    }

    #[test]
    fn an_unknown_thread_stands_for_itself() {
        assert_eq!(of_thread(0), 0);
    }
}
