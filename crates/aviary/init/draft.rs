//! The configuration that `aviary init` writes.

use std::{
    fmt::Write as _,
    path::{self, Path},
};

use aviary_core::Endpoint;

use super::ReadAt;

/// A configuration with an agent and a collector in one process.
pub(super) fn configuration(
    host: &str,
    endpoints: &[&Endpoint],
    read_at: Option<&ReadAt>,
    ca: Option<&Path>,
) -> String {
    let mut text = format!(
        "# Written by `aviary init` for {}. An agent and a collector in one process; config/ has one of each kind.\n\n\
         [vantage]\n\
         kind = \"external\"             # external | datacentre | loopback\n\
         region = \"here\"               # where this host stands, as pages are to say it\n\n\
         [agent]\n\n\
         [collector]\n\
         listen = \"127.0.0.1:8610\"     # the API: aviary status, aviary sums\n\n\
         [[service]]\n\
         name = \"ingest\"\n\
         acceptable_loss = \"0.5%\"\n\
         endpoints = [\n",
        host.escape_debug(),
    );
    for endpoint in endpoints {
        // Writing into a text does not fail.
        _ = writeln!(text, "  {},", quoted(&endpoint.to_string()));
    }
    text += "]\n";
    let ca = ca.map(|ca| path::absolute(ca).unwrap_or_else(|_| ca.to_owned()).display().to_string());
    let ca = ca.map(|ca| format!("ca = {{ file = {} }}\n", quoted(&ca))).unwrap_or_default();
    text += &ca;
    match read_at {
        None => {
            text += "\n# Without it, what is stored cannot be told, and UDP stays unproven.\n\
                     # [service.readback]\n# graphite = \"https://graphite.example.com\"\n";
        }
        Some(ReadAt { url, coarse: Some(step), .. }) => {
            _ = write!(
                text,
                "\n# {url} stores in slots of {step} s. Follow `aviary graphite-schema`, remove the files of the series,\n\
                 # and take the comments off:\n# [service.readback]\n# graphite = {}\n",
                quoted(url.as_str())
            );
        }
        Some(ReadAt { url, is_prometheus, coarse: None }) => {
            let key = if *is_prometheus { "prometheus" } else { "graphite" };
            _ = write!(text, "\n[service.readback]\n{key} = {}\n", quoted(url.as_str()));
            if url.scheme() == "https" {
                text += &ca;
            }
        }
    }
    text
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
