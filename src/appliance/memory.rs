//! The memory that the allocator keeps.
#![allow(unsafe_code)]

/// Number of glibc's arenas. By default each thread may get one, and memory that was freed in one does not serve another.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAX_ARENAS: i32 = 2;

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
