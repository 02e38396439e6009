//! The container file, and the root that it makes.

use std::process::Command;

use super::{on_a_host_of_its_own, python_tool, repository, stripped, succeed};

#[test]
fn the_container_file_is_as_its_linter_wants_it() {
    succeed(Command::new(python_tool("hadolint")).arg(repository("deploy/container/Containerfile")));
}

#[test]
fn the_image_needs_nothing_but_the_program_and_one_place_to_write_to() {
    let dir = tempfile::tempdir().unwrap();
    let binary = stripped(dir.path());
    let root = dir.path().join("host");
    std::fs::create_dir(&root).unwrap();
    let said = on_a_host_of_its_own("container.sh", &[&binary, &root]);
    assert!(said.contains("== well, without a file but its own"), "{said}");
}
