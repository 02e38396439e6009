//! What customers are told of an incident, and what of that people can change.

use maud::{Markup, html};

use crate::{
    judgement::api::PUBLIC_CHARACTERS_MAX,
    pages::words,
    status::{Impact, Publication, Stage, Standing, TITLE_CHARACTERS_MAX},
};

/// What customers read, or would.
pub(super) fn html(publication: &Publication) -> Markup {
    html! {
        section id="public" aria-labelledby="public-heading" {
            h2 id="public-heading" { "What customers are told" }
            p {
                strong { (publication.standing.said()) }
                @match (publication.standing, publication.published, &publication.edited_by) {
                    (Standing::Draft, _, None) => { ": nobody outside reads it; its words follow what is measured" }
                    (Standing::Draft, _, Some(by)) => { ": nobody outside reads it; its words are " (by) "\u{2019}s" }
                    (Standing::Published, Some(at), _) => { " " (words::time(at)) ", " (publication.stage().said().to_lowercase()) }
                    (Standing::Withdrawn, ..) => { ": customers read only why" }
                    (Standing::Published, None, _) => {}
                }
                "."
            }
            p { strong { (publication.title) } " (" (publication.impact.said().to_lowercase()) ")" }
            @if publication.standing != Standing::Published { p { (publication.text) } }
            ul.times {
                @for update in publication.updates.iter().rev() {
                    li {
                        (words::time(update.at)) " " strong { (update.stage.said()) } " "
                        "(" (update.by.as_deref().unwrap_or("by the rule of the service")) "): " (update.text)
                    }
                }
            }
        }
    }
}

/// What can be done about it; who does it is asked of nobody who `is_known`.
pub(super) fn forms(path: &str, publication: &Publication, is_known: bool) -> Markup {
    let act = |act: &str| format!("{path}/public/{act}");
    let by = |form: &str| {
        let id = format!("{form}-by");
        html! { @if !is_known { p { label for=(id) { "Your name" } input id=(id) name="by" required maxlength="100" autocomplete="username"; } } }
    };
    let text = |form: &str, label: &str, text: &str| {
        let id = format!("{form}-text");
        html! { p { label for=(id) { (label) } textarea id=(id) name="text" required rows="5" maxlength=(PUBLIC_CHARACTERS_MAX) { (text) } } }
    };
    let is_public = publication.standing == Standing::Published;
    let newest = publication.updates.last().filter(|_| is_public);
    let newest = newest.map_or(publication.text.as_str(), |update| update.text.as_str());
    html! {
        details {
            summary { @if is_public { "Change what customers read" } @else { "Edit and publish" } }
            form method="post" action=(act("edit")) {
                (by("edit"))
                p { label for="edit-title" { "Title" } input id="edit-title" name="title" required maxlength=(TITLE_CHARACTERS_MAX) value=(publication.title); }
                p {
                    label for="edit-impact" { "Impact" }
                    select id="edit-impact" name="impact" {
                        @for impact in Impact::ALL { option value=(impact.name()) selected[impact == publication.impact] { (impact.said()) } }
                    }
                }
                (text("edit", if is_public { "The newest update" } else { "What is said first" }, newest))
                p.buttons {
                    @if publication.standing != Standing::Withdrawn {
                        button type="submit" { @if is_public { "Change it" } @else { "Keep the draft" } }
                    }
                    @if !is_public { " " button type="submit" formaction=(act("publish")) { "Publish it" } }
                }
            }
        }
        @if is_public {
            details {
                summary { "Add an update" }
                form method="post" action=(act("update")) {
                    (by("update"))
                    p {
                        label for="update-status" { "Status" }
                        select id="update-status" name="status" {
                            @for stage in Stage::ALL.into_iter().filter(|stage| *stage != Stage::Postmortem) {
                                option value=(stage.name()) selected[stage == publication.stage().min(Stage::Resolved)] { (stage.said()) }
                            }
                        }
                    }
                    (text("update", "Update", ""))
                    p.buttons {
                        button type="submit" { "Add the update" }
                        @if !publication.is_unresolved() { " " button type="submit" formaction=(act("post-mortem")) { "Add it as the post-mortem" } }
                    }
                }
            }
            details {
                summary { "Withdraw it" }
                form method="post" action=(act("unpublish")) {
                    (by("unpublish"))
                    (text("unpublish", "Why it should not have been public, which customers read in its place", ""))
                    p.buttons { button type="submit" { "Withdraw it" } }
                }
            }
        }
    }
}
