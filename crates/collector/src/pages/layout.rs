//! What every page has: its head, the way around, and where it ends.

use maud::{DOCTYPE, Markup, html};

use super::{assets, sign_in};
use crate::access::{Caller, Known};

/// A whole document. `live` is where its changes come from, if it has any; `caller` is who looks at it, if that is known.
pub(crate) fn document(title: &str, live: Option<&str>, caller: Option<&Caller>, main: &Markup) -> Markup {
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
                        a href="/agents" { "Agents" } " "
                        a href="/runbooks" { "Runbooks" }
                    }
                    p id="freshness" role="status" data-live=[live] {}
                    @if let Some(caller) = caller { (signed_in(caller)) }
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

/// Who looks at it, and how to be somebody else.
fn signed_in(caller: &Caller) -> Markup {
    let name = html! { strong { (caller.name()) } };
    html! {
        @match caller.known() {
            Known::Local => p.caller { "Open to everyone on this machine: no tokens are configured." },
            Known::Open => p.caller { "Open to everyone: " code { "open = true" } "." },
            Known::Session => form.caller method="post" action=(sign_in::OUT) {
                span { "Signed in as " (name) } " " button type="submit" { "Sign out" }
            },
            Known::Proxy => p.caller { (name) ", as the proxy says" },
            Known::Certificate => p.caller { (name) ", by certificate" },
            Known::Token => p.caller { (name) ", by token" },
        }
    }
}
