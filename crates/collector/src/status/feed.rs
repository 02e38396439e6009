//! Atom (RFC 4287): one entry for each thing that was said of an incident, under an id that stays. Eight elements, which the
//! template engine of the pages escapes as it does theirs.

use aviary_core::Second;
use maud::{PreEscaped, html};

use super::{publication::Publication, site::Site};
use crate::delivery::words::rfc3339;

/// So many entries are in a feed, the newest.
const ENTRIES: usize = 100;

/// The feed that stands at `path`, of what touches `service`, or of all.
pub(crate) fn feed(site: &Site, path: &str, service: Option<&str>) -> String {
    let is_wanted = |it: &&Publication| service.is_none_or(|service| it.services.contains(service));
    let mut entries: Vec<_> = site
        .incidents
        .iter()
        .filter(is_wanted)
        .flat_map(|it| it.public_updates().into_iter().map(move |(place, update)| (it, place, update)))
        .collect();
    entries.sort_by_key(|(it, place, update)| std::cmp::Reverse((update.at, &it.id, *place)));
    entries.truncate(ENTRIES);
    let newest = entries.iter().map(|(.., update)| update.edited.unwrap_or(update.at)).max();
    // What says nothing yet is as old as what it could say something of.
    let updated = newest.map_or(site.from, Second);
    let name = service.and_then(|service| site.component(service)).map(|component| component.name.as_str());
    let title = name.map_or_else(|| site.page.title.clone(), |name| format!("{name} – {}", site.page.title));
    let feed = html! {
        feed xmlns="http://www.w3.org/2005/Atom" "xml:lang"="en" {
            id { "urn:aviary:" (site.id) ":" (path) }
            title { (title) }
            updated { (rfc3339(updated)) }
            author { name { (site.page.title) } }
            link rel="self" type="application/atom+xml" href=(site.page.link(path)) {}
            link rel="alternate" type="text/html" href=(site.page.link("")) {}
            @for (it, place, update) in entries {
                entry {
                    id { "urn:aviary:" (site.id) ":" (it.id) ":" (place + 1) }
                    title { (update.stage.said()) ": " (it.title) }
                    published { (rfc3339(Second(update.at))) }
                    updated { (rfc3339(Second(update.edited.unwrap_or(update.at)))) }
                    link rel="alternate" type="text/html" href=(site.page.link(&format!("incidents/{}.html", it.id))) {}
                    content type="text" { (update.text) }
                }
            }
        }
    };
    let declaration = PreEscaped(r#"<?xml version="1.0" encoding="utf-8"?>"#);
    html! { (declaration) "\n" (feed) "\n" }.into_string()
}
