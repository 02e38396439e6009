//! How many bytes of a socket the peer's kernel has not acknowledged. The one place with unsafe code in this room.

use std::{ffi::c_int, io, os::fd::AsFd};

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ` of `linux/sockios.h`, the same number as the terminals' `TIOCOUTQ`.
const SIOCOUTQ: Opcode = 0x5411;

/// How many written bytes of the TCP socket `socket` are not acknowledged: `SIOCOUTQ`, see tcp(7).
///
/// A half-close that was not acknowledged yet counts as one byte.
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<u32> {
    #[expect(unsafe_code, reason = "rustix has no safe wrapper for this request")]
    // SAFETY: SIOCOUTQ takes a pointer to an int and writes the count there, on any kind of file; a file that has no
    // such queue answers with an error.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(bytes.try_into().unwrap_or(0))
}
