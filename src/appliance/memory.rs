//! The memory that the allocator and the program's own files take.
#![allow(unsafe_code)]

use std::ptr;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Number of glibc's arenas. By default each thread may get one, and memory that was freed in one does not serve another.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAX_ARENAS: i32 = 2;

/// Time between two looks at whether the server is idle.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum CPU time that an idle server uses between two looks.
const IDLE_CPU_TIME: Duration = Duration::from_millis(5);
/// CPU time of other work after which the next idle moment releases memory: a hundred times what it then costs to map the
/// program's pages again.
const WORK_CPU_TIME: Duration = Duration::from_millis(20);

/// Limits the arenas of the C library's allocator, where it has any. Call it before other threads exist.
pub fn limit_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt takes two numbers, and no thread allocates meanwhile.
        let is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, MAX_ARENAS) } == 1;
        if !is_set {
            tracing::debug!("memory arenas not limited: not supported by this C library");
        }
    }
}

/// Releases memory when the server has become idle: after the start, and after each further `WORK_CPU_TIME` of work.
pub async fn release_when_idle(mut stopped: watch::Receiver<bool>) {
    let mut ticks = interval(IDLE_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut released: Option<Duration> = None;
    let mut last = Duration::ZERO;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.changed() => return,
        }
        let now = cpu_time();
        let is_idle = now.saturating_sub(last) <= IDLE_CPU_TIME;
        last = now;
        if is_idle && released.is_none_or(|at| now.saturating_sub(at) >= WORK_CPU_TIME) {
            release();
            released = Some(cpu_time());
        }
    }
}

/// Returns the CPU time of the process; zero if the kernel does not tell it, with which memory is released once.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Releases free memory of the allocator, and the pages of the program and its libraries that are read only. The kernel
/// maps 16 pages around each that is touched, so most of the program is mapped after the start.
///
/// This halves the resident size of an idle server. The allocator's memory is free for other programs afterwards. The
/// pages of the program stay in the page cache, where they were before: the kernel could take them at any time, and still
/// can. A page that is used again is mapped again, by a fault of about a microsecond that reads no disk unless the kernel
/// took the page meanwhile.
fn release() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim takes a number, and may be called from any thread.
        unsafe { libc::malloc_trim(0) };
    }
    // SAFETY: the callback has the type that the function asks for, and does not use the pointer to data.
    unsafe { libc::dl_iterate_phdr(Some(release_object), ptr::null_mut()) };
}

/// Releases the read-only pages of one loaded object: the program, or a library. Returns 0, which continues the iteration.
unsafe extern "C" fn release_object(object: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> libc::c_int {
    // SAFETY: dl_iterate_phdr passes an object that is valid during the call.
    let Some(object) = (unsafe { object.as_ref() }) else { return 0 };
    if object.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the object has that many program headers.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for header in headers.iter().filter(|one| one.p_type == libc::PT_LOAD && one.p_flags & libc::PF_W == 0) {
        let start = to_number(object.dlpi_addr).saturating_add(to_number(header.p_vaddr));
        let Some((start, length)) = whole_pages(start, to_number(header.p_memsz), page_size()) else { continue };
        // SAFETY: the pages belong to a segment of an object that stays loaded during the call. Nothing writes to the
        // segment, so its pages are those of the file, from which the kernel maps them again. An error changes nothing.
        unsafe { libc::madvise(ptr::without_provenance_mut(start), length, libc::MADV_DONTNEED) };
    }
    0
}

/// Returns an address or a length of the loader as a number; 0, which releases nothing, if it does not fit.
fn to_number(value: impl TryInto<usize>) -> usize {
    value.try_into().unwrap_or_default()
}

fn page_size() -> usize {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().map_or(0, to_number)
}

/// Returns the start and the length of the whole pages in a range; `None` if there are none.
fn whole_pages(start: usize, length: usize, page: usize) -> Option<(usize, usize)> {
    let first = start.checked_next_multiple_of(page)?;
    let end = start.checked_add(length)?;
    let length = end.checked_sub(end.checked_rem(page)?)?.checked_sub(first)?;
    (length > 0).then_some((first, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_are_released() {
        let rows = [
            ((0, 8192), Some((0, 8192))),
            ((1, 8192), Some((4096, 4096))),
            ((4095, 4097), Some((4096, 4096))),
            ((4096, 4095), None),
            ((1, 4095), None),
            ((usize::MAX, 1), None),
            ((usize::MAX - 4096, 4096), None),
        ];
        for ((start, length), expected) in rows {
            assert_eq!(whole_pages(start, length, 4096), expected, "{start} {length}");
        }
        assert_eq!(whole_pages(0, 8192, 0), None);
    }

    #[test]
    fn the_program_runs_on_after_its_pages_were_released() {
        static CONSTANTS: &[u64] = &[1, 2, 3, 5, 8];
        let before: u64 = CONSTANTS.iter().sum();
        release();
        assert_eq!(CONSTANTS.iter().sum::<u64>(), before);
    }
}
