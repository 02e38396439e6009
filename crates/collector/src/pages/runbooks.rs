//! `/runbooks`: what to do when a page comes, from Markdown.

use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};
use serde::Serialize;

use crate::{error::ApiError, runbooks::ALL};

/// What there is to read.
#[derive(Debug, Serialize)]
pub(crate) struct Runbooks {
    runbooks: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: &'static str,
    title: &'static str,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct RunbookPage {
    name: &'static str,
    title: &'static str,
    markdown: &'static str,
}

impl Runbooks {
    pub(crate) fn gather() -> Self {
        Self { runbooks: ALL.iter().map(|it| Entry { name: it.name, title: it.title() }).collect() }
    }

    /// All of it: nothing of it changes.
    pub(crate) fn html(&self) -> Markup {
        html! {
            section aria-labelledby="runbooks-heading" {
                h1 id="runbooks-heading" { "Runbooks" }
                p { "What to do when a page comes, or an alert of Prometheus' about aviary itself." }
                ul { @for entry in &self.runbooks {
                    li { a href=(format!("/runbooks/{}", entry.name)) { (entry.title) } }
                } }
            }
        }
    }
}

impl RunbookPage {
    pub(crate) fn gather(name: &str) -> Result<Self, ApiError> {
        let found = ALL.iter().find(|it| it.name == name).ok_or_else(|| {
            let message = format!("there is no runbook `{name}`; /runbooks lists those that there are");
            ApiError::not_found(message)
        })?;
        Ok(Self { name: found.name, title: found.title(), markdown: found.text })
    }

    /// What it is called.
    pub(crate) fn title(&self) -> String {
        format!("Runbook: {}", self.title)
    }

    /// All of it: nothing of it changes.
    pub(crate) fn html(&self) -> Markup {
        html! { article.runbook { (rendered(self.markdown)) } }
    }
}

/// Markdown of ours as HTML: links lead to pages, as in the repository they lead to files, and who has no mouse can scroll what
/// is too wide.
fn rendered(markdown: &str) -> Markup {
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES).map(|event| match event {
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: led_to(dest_url), title, id })
        }
        Event::Start(Tag::CodeBlock(_)) => Event::Html("<pre tabindex=\"0\">".into()),
        Event::End(TagEnd::CodeBlock) => Event::Html("</pre>\n".into()),
        other => other,
    });
    let mut html = String::with_capacity(2 * markdown.len());
    pulldown_cmark::html::push_html(&mut html, events);
    PreEscaped(html)
}

/// The page that stands for a file beside this one; of what is elsewhere, its own address.
fn led_to(file: CowStr<'_>) -> CowStr<'_> {
    match file.strip_suffix(".md").filter(|page| !page.contains('/')) {
        Some(page) => CowStr::from(page.to_owned()),
        None => file,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn markdown_becomes_a_page() {
        let table = [
            ("# A &lt; `b<c`\n", "<h1>A &lt; <code>b&lt;c</code></h1>\n"),
            ("[a](disk-slow.md)\n", "<p><a href=\"disk-slow\">a</a></p>\n"),
            ("[a](https://r.example/a.md)\n", "<p><a href=\"https://r.example/a.md\">a</a></p>\n"),
            ("    aviary status <URL>\n", "<pre tabindex=\"0\">aviary status &lt;URL&gt;\n</pre>\n"),
        ];
        for (markdown, html) in table {
            assert_eq!(rendered(markdown).into_string(), html);
        }
        assert!(rendered("| a |\n|---|\n| b |\n").into_string().contains("<td>b</td>"));
    }

    #[test]
    fn each_is_shown_and_each_link_leads_to_another() {
        for crate::runbooks::Runbook { name, text } in &ALL {
            let page = RunbookPage::gather(name).unwrap().html().into_string();
            assert!(page.contains("<h1>") && page.contains("<h2>"), "{name}");
            for event in Parser::new(text) {
                if let Event::Start(Tag::Link { dest_url, .. }) = event {
                    let linked = dest_url.strip_suffix(".md");
                    assert!(linked.is_some_and(|it| RunbookPage::gather(it).is_ok()), "{name}: {dest_url}");
                }
            }
        }
        let missing = RunbookPage::gather("../secret").unwrap_err();
        assert_eq!((missing.status(), missing.code()), (StatusCode::NOT_FOUND, "not_found"));
    }
}
