//! The error numbers that iPXE's scripts report (`${errno}`).

/// What an error number means, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpxeError {
    /// The meaning.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const fn error(meaning: &'static str, remedy: &'static str) -> IpxeError {
    IpxeError { meaning, remedy }
}

impl IpxeError {
    /// Returns whether a number says that memory is missing: ENOBUFS, ENOMEM or ENOSPC.
    pub fn is_out_of_memory(errno: u32) -> bool {
        matches!(errno >> 24 & 0x7f, 0x2a | 0x31 | 0x34)
    }

    /// Returns the words for a number. Bits 24 to 30 are the POSIX error, by iPXE's own numbers: the names of POSIX in
    /// alphabetical order, from EACCES = 2 (`include/errno.h` of iPXE). The other bits tell the place in its source.
    pub fn of(errno: u32) -> Self {
        match errno >> 24 & 0x7f {
            // EACCES, EPERM
            0x02 | 0x41 => error(
                "access was refused: the login, the certificate, or Secure Boot",
                "see the timeline for a refused login; look at the machine's clock and at Secure Boot",
            ),
            // ECONNREFUSED, ECONNRESET, ECONNABORTED
            0x0d..=0x0f => {
                error("the connection was refused or reset on the way", "let TCP 80 and 3260 to this server through")
            }
            // EHOSTUNREACH, ENETUNREACH, ENETDOWN, ENETRESET
            0x17 | 0x26..=0x28 => {
                error("the network cannot be reached: it has no route", "look at its netmask and its gateway")
            }
            // EIO
            0x1d => error("reading failed", "see the timeline of the host, and the status of the image"),
            // ENODEV, ENXIO
            0x2c | 0x3e => error(
                "there is no such device, or nothing on it that this firmware can boot",
                "use an image with a loader for this firmware",
            ),
            // ENOENT
            0x2d => error("the file or target was not found", "see the timeline of the host"),
            // ENOEXEC
            0x2e => error(
                "the file is no program that this firmware can run: it is for another architecture, or Secure Boot is on",
                "use an image for this architecture, or switch Secure Boot off",
            ),
            // ENOMEM, ENOBUFS, ENOSPC
            0x2a | 0x31 | 0x34 => error("it has not enough memory", "give it more memory, or use method = sanboot"),
            // ENOTSUP, ENOSYS, EPROTONOSUPPORT
            0x37 | 0x3c | 0x44 => error("this build of iPXE cannot do that", "let it load our iPXE"),
            // ETIMEDOUT
            0x4c => error(
                "the connection timed out: packets are dropped on the way",
                "let TCP 80 and 3260 to this server through",
            ),
            // EPLATFORM: an error of UEFI or the BIOS
            0x7f => error("its firmware refused", "look at its screen, at Secure Boot, and at its boot mode"),
            _ => error("see the page of the number at https://ipxe.org/err", "look at its screen"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_people_report_have_their_meaning() {
        // From threads of the iPXE forum and of its users' trackers.
        for (errno, expected) in [
            (0x4c0a_6092, "timed out"),
            (0x2d0c_613b, "not found"),
            (0x2e85_2001, "no program"),
            (0x3c09_2083, "cannot do that"),
            (0x280a_6090, "no route"),
            (0x0f0a_6039, "refused or reset"),
            (0x7f04_8283, "firmware refused"),
        ] {
            assert!(IpxeError::of(errno).meaning.contains(expected), "{errno:#x}");
        }
        assert!(IpxeError::of(0x0100_0000).meaning.contains("ipxe.org"));
    }
}
