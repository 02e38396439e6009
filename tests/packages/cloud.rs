//! Terraform and cloud-init.

use std::{fs, process::Command};

use super::{program, repository, succeed, test_python};

#[test]
fn what_clouds_are_told_is_as_they_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let user_data = dir.path().join("aws.yaml");
    let mut command = Command::new(test_python());
    command.arg(repository("tests/packages/terraform.py")).arg(repository("deploy/terraform/aws"));
    fs::write(&user_data, succeed(&mut command)).unwrap();
    for file in
        [user_data, repository("deploy/cloud-init/gcp.yaml"), repository("deploy/cloud-init/azure.yaml")]
    {
        let said = succeed(program("cloud-init").args(["schema", "--config-file"]).arg(&file));
        assert!(said.contains("Valid"), "{}: {said}", file.display());
        agent_of(&fs::read_to_string(&file).unwrap());
    }
}

/// The agent's configuration in `user_data`, which `aviary check` accepts.
#[track_caller]
fn agent_of(user_data: &str) {
    let lines = user_data.lines().skip_while(|line| !line.ends_with("/agent.toml")).skip(2);
    let lines: Vec<&str> = lines.take_while(|line| line.is_empty() || line.starts_with("      ")).collect();
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "a-token-of-this-test\n").unwrap();
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let text = lines.join("\n").replace("/etc/aviary/token", token.to_str().unwrap());
    let path = dir.path().join("agent.toml");
    fs::write(&path, text).unwrap();
    let said = super::accepted(&path, &[]);
    assert!(said.contains("reporting to https://collector.example.net:8610/"), "{said}");
}
