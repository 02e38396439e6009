//! A clock that is wrong for one program and right for all others.

use std::{path::PathBuf, process::Command};

/// The library that stands between a program and its clock.
#[track_caller]
pub(crate) fn libfaketime() -> PathBuf {
    let dirs = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let paths = dirs.map(|dir| PathBuf::from(dir).join("faketime/libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.exists()).expect("libfaketime is installed: run tests/setup")
}

/// Has `command` see a wall clock that is so many seconds ahead; the clock that measures durations is left alone.
#[track_caller]
pub(crate) fn skew(command: &mut Command, seconds: u64) {
    command
        .env("LD_PRELOAD", libfaketime())
        .env("FAKETIME", format!("+{seconds}s"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
}
