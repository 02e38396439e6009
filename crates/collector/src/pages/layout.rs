//! What every page has: its head, the way around, and where it ends.

use maud::{DOCTYPE, Markup, html};

use super::assets;

/// A whole document. `live` is where its changes come from, if it has any.
pub(crate) fn document(title: &str, live: Option<&str>, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – aviary" }
                link rel="stylesheet" href=(assets::STYLE.path());
                link rel="icon" type="image/svg+xml" href=(assets::ICON.path());
                script src=(assets::SCRIPT.path()) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    nav aria-label="Pages" {
                        a.brand href="/" { "aviary" } " "
                        a href="/" { "Services" } " "
                        a href="/incidents" { "Incidents" } " "
                        a href="/agents" { "Agents" }
                    }
                    p id="freshness" role="status" data-live=[live] {}
                    noscript { p.quiet { "This page does not change by itself without a script: load it again." } }
                }
                main id="main" tabindex="-1" { (main) }
                footer {
                    p.quiet { "Times are UTC. The same as JSON: " code { "Accept: application/json" } "." }
                }
            }
        }
    }
}
