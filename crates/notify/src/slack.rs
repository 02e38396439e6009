//! Slack, by an incoming webhook: a message in a channel. It has no key, so what is sent twice stands there twice.

use reqwest::Url;
use serde_json::json;

use crate::{
    cut::cut,
    http::Http,
    receiver::{SetUpError, Told},
    refusal::{Receipt, Refusal},
    secret::Secret,
};

/// What Slack asks senders to stay below.
const TEXT_MAX: usize = 4_000;

/// A channel of Slack's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slack {
    /// The webhook's URL. Whoever knows it may write to the channel.
    pub url: Secret,
}

impl Slack {
    /// The URL, parsed.
    pub(crate) fn check(&self) -> Result<Url, SetUpError> {
        let url = Url::parse(self.url.expose()).ok();
        url.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or(SetUpError::SecretUrl)
    }

    pub(crate) async fn send(
        http: &Http,
        url: &Url,
        Told { text, attempt, .. }: Told<'_>,
    ) -> Result<Receipt, Refusal> {
        let text = markup(&cut(text, TEXT_MAX));
        let body = json!({ "text": text, "unfurl_links": false, "unfurl_media": false });
        let answer = http.ask(http.post(url.clone(), &body), attempt.now).await?;
        if answer.body.trim() != "ok" {
            return Err(answer.of_a_stranger("Slack"));
        }
        Ok(Receipt::new(None, answer.said()))
    }
}

/// The text as Slack reads it: three characters have a meaning, and the first line stands out.
fn markup(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    match text.split_once('\n') {
        Some((first, rest)) => format!("*{first}*\n{rest}"),
        None => format!("*{text}*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup_but_its_first_line() {
        assert_eq!(
            markup("a <!channel> & b\n<http://x|y>"),
            "*a &lt;!channel&gt; &amp; b*\n&lt;http://x|y&gt;"
        );
        assert_eq!(markup("one"), "*one*");
    }
}
