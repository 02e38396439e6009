//! Versions side by side: an upgrade in either order, a downgrade, and what is promised of both in CHANGELOG.md.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for on the real clock")]

mod downgrade;
mod upgrade;
mod wire;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

/// What versions left: `1` as the first one wrote it, `newer` as none has written it yet.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/versions").join(name)
}

/// Unpacks what a version left into `directory`, which is made.
#[track_caller]
fn unpack(name: &str, directory: &Path) -> PathBuf {
    fs::create_dir_all(directory).expect("the temporary directory can be written");
    let packed = fs::read(fixture(&format!("{name}.gz"))).expect("the fixture is there");
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).expect("it is gzip");
    let path = directory.join(Path::new(name).file_name().expect("it has a name"));
    fs::write(&path, bytes).expect("the temporary directory can be written");
    path
}
