//! Anybody's webhook, by Standard Webhooks 1.0.0: signed, and with an id that is the same for each attempt.

use std::fmt;

use aviary_core::Timestamp;
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Url;

use crate::{
    address::private_literal,
    document,
    http::Http,
    page::Page,
    receiver::{SetUpError, Told},
    refusal::{Receipt, Refusal},
    secret::Secret,
};

const SECRET_BEGINS: &str = "whsec_";

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is.
    pub url: Url,
    /// What it is signed with: `whsec_` and 24 to 64 bytes in base64.
    pub secret: Secret,
    /// Whether its address may be private or loopback.
    pub allow_private: bool,
}

/// What a webhook is signed with. Shown to nobody.
#[derive(Clone)]
pub(crate) struct SigningKey(Box<hmac::Key>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl Webhook {
    /// The key, from its secret.
    pub(crate) fn check(&self) -> Result<SigningKey, SetUpError> {
        if let Some(address) = private_literal(&self.url).filter(|_| !self.allow_private) {
            return Err(SetUpError::PrivateAddress(address));
        }
        let encoded = self.secret.expose().strip_prefix(SECRET_BEGINS).ok_or(SetUpError::SigningSecret)?;
        let secret = BASE64_STANDARD.decode(encoded).map_err(|_| SetUpError::SigningSecret)?;
        if !(24..=64).contains(&secret.len()) {
            return Err(SetUpError::SigningSecret);
        }
        Ok(SigningKey(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &secret))))
    }

    pub(crate) async fn send(
        &self,
        http: &Http,
        key: &SigningKey,
        told: Told<'_>,
    ) -> Result<Receipt, Refusal> {
        let body = document::body(told.page);
        self.send_signed(http, key, &id(told.page), body, told.attempt.now).await
    }

    /// Sends `body` under `id`, which is the same for each attempt.
    pub(crate) async fn send_signed(
        &self,
        http: &Http,
        key: &SigningKey,
        id: &str,
        body: Vec<u8>,
        now: Timestamp,
    ) -> Result<Receipt, Refusal> {
        let (id, at) = (undotted(id), now.second());
        let signature = key.sign(&id, at.0, &body);
        let request = http
            .post_bytes(self.url.clone(), "application/json", body)
            .header("webhook-id", &id)
            .header("webhook-timestamp", at.0)
            .header("webhook-signature", signature);
        let answer = http.ask(request, now).await?;
        Ok(Receipt::new(Some(id), answer.said()))
    }
}

impl SigningKey {
    fn sign(&self, id: &str, at: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{at}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

/// The id of the message, the same for each attempt. A dot would end it where it is signed.
fn id(page: &Page) -> String {
    format!("{}-{}", undotted(&page.key), page.sequence)
}

fn undotted(key: &str) -> String {
    key.chars().map(|char| if char.is_ascii_graphic() && char != '.' { char } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(url: &str, secret: &str) -> Webhook {
        Webhook { url: url.parse().unwrap(), secret: Secret::new(secret), allow_private: false }
    }

    #[test]
    fn it_signs_as_the_specification_does() {
        // The example of the specification's reference libraries.
        let key = webhook("https://a.example", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").check().unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{key:?}"), "SigningKey(..)");
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        let valid = format!("whsec_{}", BASE64_STANDARD.encode([7; 24]));
        assert!(webhook("https://a.example", &valid).check().is_ok());
        for secret in [
            "hunter2".to_owned(),
            "whsec_".to_owned(),
            "whsec_not base64!".to_owned(),
            format!("whsec_{}", BASE64_STANDARD.encode([7; 23])),
            format!("whsec_{}", BASE64_STANDARD.encode([7; 65])),
        ] {
            let error = webhook("https://a.example", &secret).check().unwrap_err();
            assert!(matches!(error, SetUpError::SigningSecret), "{secret}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let private = webhook("http://[::ffff:127.0.0.1]:9000/", &valid).check().unwrap_err();
        assert!(matches!(private, SetUpError::PrivateAddress(_)));
    }

    #[test]
    fn an_id_has_no_dot_and_names_the_message() {
        let page = Page { key: "aviary:a.b é:01J".to_owned(), sequence: 3, ..Page::bare() };
        assert_eq!(id(&page), "aviary:a_b__:01J-3");
    }
}
