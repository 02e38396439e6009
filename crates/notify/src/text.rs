//! The text of a page: templates, and a default that is good.
//!
//! What is made is plain text: nothing is escaped, because nothing here is HTML. A receiver with a markup of its own
//! escapes the whole (`slack`). A template is tried at load on pages of which everything and next to nothing is known,
//! so a name that does not exist is found then and not at 3 a.m.; if one does not render all the same, the default does.

use std::io::{self, Write};

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use crate::{
    cut::{cut_bytes, one_line},
    facts::facts,
    page::{Event, Page},
};

/// The longest text of a page; what is longer is cut.
pub(crate) const TEXT_BYTES_MAX: usize = 16 * 1024;

/// The steps that one rendering may take. The default takes about a thousand.
const STEPS_MAX: u64 = 200_000;

/// The name of a template that is not one of ours.
const OWN: &str = "template";

/// Ours: one per message, and what they share.
const DEFAULTS: [(&str, &str); 7] = [
    ("context", include_str!("templates/context.txt")),
    ("facts", include_str!("templates/facts.txt")),
    ("grounds", include_str!("templates/grounds.txt")),
    ("opened", include_str!("templates/opened.txt")),
    ("resolved", include_str!("templates/resolved.txt")),
    ("test", include_str!("templates/test.txt")),
    ("updated", include_str!("templates/updated.txt")),
];

/// A template that does not render.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the template: {what}; {remedy}")]
pub struct TemplateError {
    /// The line that is wrong, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Makes the text of pages.
#[derive(Clone, Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
    has_own: bool,
}

impl Templates {
    /// With `own`, that is the template of every message; it may include ours by the message's name.
    ///
    /// # Errors
    /// A template that does not render, tried on every message.
    pub(crate) fn new(own: Option<&str>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(STEPS_MAX));
        for (name, source) in DEFAULTS {
            environment.add_template(name, source).map_err(|error| explain(&error))?;
        }
        if let Some(own) = own {
            environment.add_template_owned(OWN, own.to_owned()).map_err(|error| explain(&error))?;
        }
        let templates = Self { environment, has_own: own.is_some() };
        for page in samples() {
            let name = if templates.has_own { OWN } else { page.message() };
            let text = templates.render(name, &page).map_err(|error| explain(&error))?;
            if text.trim().is_empty() {
                let what = format!("nothing is left of a page that is {}", page.message());
                let remedy =
                    format!("write what such a page says, or {{% include \"{}\" %}}", page.message());
                return Err(TemplateError { line: 1, what, remedy });
            }
        }
        Ok(templates)
    }

    /// The text of `page`.
    pub(crate) fn text(&self, page: &Page) -> String {
        let default = || self.render(page.message(), page).unwrap_or_else(|_| page.summary.clone());
        if !self.has_own {
            return default();
        }
        self.render(OWN, page).unwrap_or_else(|error| {
            let error = explain(&error);
            format!("{}\n(This is the default text: {})", default(), one_line(&error.to_string()))
        })
    }

    fn render(&self, name: &str, page: &Page) -> Result<String, minijinja::Error> {
        let mut text = Bounded(Vec::new());
        let template = self.environment.get_template(name)?;
        let rendered = template.render_captured_to(facts(page), &mut text);
        // A text that grew beyond what is kept anyway is cut, not refused.
        if let Err(error) = rendered
            && !text.is_full()
        {
            return Err(error);
        }
        Ok(cut_bytes(String::from_utf8_lossy(&text.0).trim_end(), TEXT_BYTES_MAX).into_owned())
    }
}

/// Takes a little more than is kept, and then no more.
struct Bounded(Vec<u8>);

impl Bounded {
    fn is_full(&self) -> bool {
        self.0.len() > TEXT_BYTES_MAX
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_full() {
            return Err(io::Error::other("the text is longer than any receiver takes"));
        }
        self.0.extend(bytes.iter().take(2 * TEXT_BYTES_MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every message, of pages of which everything and next to nothing is known.
fn samples() -> impl Iterator<Item = Page> {
    let messages = [
        (Event::Opened, false),
        (Event::Updated, false),
        (Event::Resolved, false),
        (Event::Opened, true),
        (Event::Resolved, true),
    ];
    messages
        .into_iter()
        .flat_map(|(event, test)| [Page::full(), Page::bare()].map(|page| Page { event, test, ..page }))
}

fn explain(error: &minijinja::Error) -> TemplateError {
    use minijinja::ErrorKind;
    let remedy = match error.kind() {
        ErrorKind::UndefinedError => {
            let names = names().join(", ");
            format!("what is not known is none, ask {{% if ... %}} first; the names are {names}")
        }
        ErrorKind::TemplateNotFound => {
            "opened, updated, resolved, test, facts, grounds and context can be included".to_owned()
        }
        ErrorKind::OutOfFuel => "it takes too many steps: shorten its loops".to_owned(),
        ErrorKind::SyntaxError => "it is written as Jinja templates are".to_owned(),
        _ => "correct it, or leave `template` out for the default".to_owned(),
    };
    // An error inside what was included lies at the bottom.
    let bottom = std::iter::successors(Some(error), |error| {
        std::error::Error::source(*error).and_then(|source| source.downcast_ref())
    });
    let bottom = bottom.last().unwrap_or(error);
    let what = bottom.detail().map_or_else(|| bottom.kind().to_string(), str::to_owned);
    TemplateError { line: error.line().unwrap_or(1), what: one_line(&what), remedy }
}

/// The names that a template may use.
fn names() -> Vec<String> {
    facts(&Page::bare()).try_iter().into_iter().flatten().map(|name| name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: &Page, expected: &str) {
        assert_eq!(Templates::new(None).unwrap().text(page), expected.trim_end());
    }

    #[test]
    fn a_page_says_what_is_wrong_in_its_first_line_and_all_else_below() {
        check(&Page::full(), include_str!("templates/tests/opened.txt"));
        check(&Page { event: Event::Updated, ..Page::full() }, include_str!("templates/tests/updated.txt"));
        check(&Page { event: Event::Resolved, ..Page::full() }, include_str!("templates/tests/resolved.txt"));
        check(&Page { test: true, ..Page::full() }, include_str!("templates/tests/test.txt"));
    }

    #[test]
    fn what_is_not_known_leaves_no_gap() {
        check(&Page::bare(), include_str!("templates/tests/bare.txt"));
        let resolved = Page { event: Event::Resolved, ..Page::bare() };
        check(
            &resolved,
            "RESOLVED: ingest: we cannot see eu-west-1\nFrom 2026-11-21T03:14:52Z to 2026-11-21T03:15:00Z, 8 s.",
        );
    }

    #[test]
    fn what_was_measured_of_what_is_no_loss_is_said() {
        let measured = Some("In 5 min 40 of 900 took longer; one in a hundred may.".to_owned());
        let text = Templates::new(None).unwrap().text(&Page { measured, ..Page::bare() });
        assert!(text.contains("\nIn 5 min 40 of 900 took longer; one in a hundred may.\n"), "{text}");
        assert!(!text.contains("Nothing could be measured"), "{text}");
    }

    #[test]
    fn nothing_is_escaped() {
        let page = Page { summary: "a < b & \"c\" > 'd'".to_owned(), ..Page::bare() };
        let templates = Templates::new(Some("<b>{{ summary }}</b>")).unwrap();
        assert_eq!(templates.text(&page), "<b>a < b & \"c\" > 'd'</b>");
    }

    #[test]
    fn a_template_that_does_not_render_is_an_error_with_its_line_and_a_remedy() {
        let table = [
            (
                "{{ sumary }}",
                1,
                "`sumary` is undefined",
                "the names are message, test, key, incident, severity",
            ),
            (
                "{{ summary }}\n\n{{ window.seconds }}",
                3,
                "`window.seconds` is undefined",
                "ask {% if ... %} first",
            ),
            ("{{ summary }}\n{% if owner %}", 2, "unexpected end of input", "Jinja"),
            ("one\n{{ summary | shout }}", 2, "shout", ""),
            ("one\ntwo {% include \"elsewhere\" %}", 2, "elsewhere", "opened, updated"),
            (
                "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}x",
                1,
                "",
                "too many steps",
            ),
            (
                "{% if message == 'opened' %}x{% endif %}",
                1,
                "a page that is updated",
                "{% include \"updated\" %}",
            ),
        ];
        for (template, line, what, remedy) in table {
            let error = Templates::new(Some(template)).unwrap_err();
            assert_eq!(error.line, line, "{template}: {error}");
            assert!(error.what.contains(what) && error.remedy.contains(remedy), "{template}: {error}");
        }
    }

    #[test]
    fn a_template_may_build_on_ours() {
        let templates =
            Templates::new(Some("To {{ owner or 'whoever is up' }}:\n{% include message %}")).unwrap();
        assert!(templates.text(&Page::full()).starts_with("To ingest team:\ningest: udp in every region"));
        assert!(templates.text(&Page::bare()).starts_with("To whoever is up:\ningest: we cannot see"));
    }

    #[test]
    fn the_longest_page_still_ends_with_its_links() {
        let lines = vec!["x".repeat(5_000); 500];
        let page = Page {
            rules: vec![Page::full().rules.remove(0); 500],
            against: lines.clone(),
            evidence: lines.clone(),
            changed: lines.clone(),
            also_open: lines,
            ..Page::full()
        };
        let text = Templates::new(None).unwrap().text(&page.bounded());
        assert!(text.contains("Evidence: and 490 more\n"), "{text}");
        assert!(text.ends_with("/incidents/01JD6V5V6F9Z7W3R4Q2N8M0K1H"), "{text}");
    }

    #[test]
    fn a_text_has_a_bound() {
        let templates = Templates::new(Some("{% for i in range(9000) %}{{ summary }}{% endfor %}")).unwrap();
        let text = templates.text(&Page::full());
        assert!(text.len() <= TEXT_BYTES_MAX && text.ends_with("(cut)"), "{}", text.len());
    }

    #[test]
    fn a_template_that_fails_only_on_the_page_gives_the_default_and_says_so() {
        // No sample has ten services.
        let templates =
            Templates::new(Some("{% if services | length > 9 %}{{ nothing }}{% endif %}x")).unwrap();
        let page = Page { services: vec!["a".to_owned(); 10], ..Page::full() };
        let text = templates.text(&page);
        assert!(text.starts_with("ingest: udp in every region (6/6)"), "{text}");
        assert!(
            text.contains("\n(This is the default text: line 1 of the template: `nothing` is undefined;"),
            "{text}"
        );
    }
}
