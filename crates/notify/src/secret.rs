//! Texts that nobody may read, and taking them out of texts that people read.

use std::fmt;

/// A text that nobody may read but the peer that it is for: no `Display`, and a `Debug` that says only that it is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Takes every one of `secrets` out of `text`: receivers, and portals on the way to them, like to repeat what they were
/// asked, and a key may stand in the path.
pub(crate) fn hide(text: String, secrets: &[&Secret]) -> String {
    let mut forms: Vec<&str> = secrets.iter().flat_map(|secret| parts(secret.expose())).collect();
    // The longest first: one secret may begin with another.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.into_iter().fold(text, |text, form| text.replace(form, "***"))
}

/// The secret itself; of a URL also its path and query, which servers repeat without the rest.
fn parts(secret: &str) -> Vec<&str> {
    let path = secret.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
    [Some(secret), path].into_iter().flatten().filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_what_others_say() {
        let url = Secret::new("https://hooks.slack.com/services/T0/B0/xyz");
        let key = Secret::new("hunter2hunter2");
        let hide = |text: &str| hide(text.to_owned(), &[&key, &url]);
        assert_eq!(hide("cannot POST /services/T0/B0/xyz"), "cannot POST /***");
        assert_eq!(hide("https://hooks.slack.com/services/T0/B0/xyz is gone"), "*** is gone");
        assert_eq!(hide("unknown key hunter2hunter2."), "unknown key ***.");
        assert_eq!(hide("nothing to hide"), "nothing to hide");
        assert_eq!(format!("{key:?} {url:?}"), "Secret(***) Secret(***)");
    }
}
