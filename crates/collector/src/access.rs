//! Who may do what.

use std::{fmt, net::IpAddr};

use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq as _;

use crate::error::ApiError;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Admin,
    /// Reading the API.
    Read,
    /// Reporting slots.
    Report,
}

/// A token and what it allows.
#[derive(Clone)]
pub struct TokenRule {
    /// What logs call it.
    pub name: String,
    /// The secret. Shown to nobody.
    pub secret: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The one region that reports under it may claim.
    pub region: Option<String>,
}

impl fmt::Debug for TokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, scopes, region, .. } = self;
        f.debug_struct("TokenRule")
            .field("name", name)
            .field("scopes", scopes)
            .field("region", region)
            .finish()
    }
}

/// Who may do what.
pub(crate) struct Access {
    tokens: Vec<TokenRule>,
    open: bool,
    certified: bool,
}

impl Access {
    pub(crate) const fn new(tokens: Vec<TokenRule>, open: bool, certified: bool) -> Self {
        Self { tokens, open, certified }
    }

    /// Whether whoever sent `headers` from `peer` may do what needs `scope`; with the token that says so, if one did.
    pub(crate) fn allow(
        &self,
        scope: Scope,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Option<&TokenRule>, ApiError> {
        let is_known = peer.to_canonical().is_loopback() || (self.certified && scope != Scope::Admin);
        if self.open || (self.tokens.is_empty() && is_known) {
            return Ok(None);
        }
        let unauthorized = |message| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(secret) = given.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(unauthorized(
                "send `Authorization: Bearer TOKEN` with a token of this collector's [[collector.token]]",
            ));
        };
        // Every token is compared, whole, so that the time taken tells nothing of any.
        let mut matching = None;
        for rule in &self.tokens {
            if rule.secret.as_bytes().ct_eq(secret.trim().as_bytes()).into() {
                matching = Some(rule);
            }
        }
        let Some(rule) = matching else {
            return Err(unauthorized(
                "this collector has no such token; compare the agent's `token` with [[collector.token]]",
            ));
        };
        if rule.scopes.contains(&scope) || rule.scopes.contains(&Scope::Admin) {
            Ok(Some(rule))
        } else {
            let message = format!("token `{}` lacks the scope for this; add it to its `scope`", rule.name);
            Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn bearer(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    #[test]
    fn without_tokens_only_loopback_is_let_in() {
        let access = Access::new(Vec::new(), false, false);
        assert!(access.allow(Scope::Report, &HeaderMap::new(), LOOPBACK).is_ok());
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        assert!(access.allow(Scope::Report, &HeaderMap::new(), mapped).is_ok());
        let refused = access.allow(Scope::Read, &HeaderMap::new(), ELSEWHERE).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert!(
            Access::new(Vec::new(), true, false).allow(Scope::Report, &HeaderMap::new(), ELSEWHERE).is_ok()
        );
    }

    #[test]
    fn a_certificate_lets_in_to_report_and_read() {
        let access = Access::new(Vec::new(), false, true);
        let ask = |scope| access.allow(scope, &HeaderMap::new(), ELSEWHERE).is_ok();
        assert_eq!([Scope::Report, Scope::Read, Scope::Admin].map(ask), [true, true, false]);
    }

    #[test]
    fn a_token_allows_what_its_scope_says() {
        let rule = |name: &str, scope| TokenRule {
            name: name.to_owned(),
            secret: format!("{name}-secret-of-some-length"),
            scopes: vec![scope],
            region: None,
        };
        let access =
            Access::new(vec![rule("agents", Scope::Report), rule("admins", Scope::Admin)], false, true);
        let ask = |scope, token: &str| {
            access.allow(scope, &bearer(token), ELSEWHERE).map(|rule| rule.unwrap().name.clone())
        };
        assert_eq!(ask(Scope::Report, "agents-secret-of-some-length").unwrap(), "agents");
        assert_eq!(ask(Scope::Read, "admins-secret-of-some-length").unwrap(), "admins");
        assert_eq!(
            ask(Scope::Read, "agents-secret-of-some-length").unwrap_err().status(),
            StatusCode::FORBIDDEN
        );
        assert_eq!(
            ask(Scope::Report, "agents-secret-of-some-lengtH").unwrap_err().status(),
            StatusCode::UNAUTHORIZED
        );
        assert!(
            access.allow(Scope::Report, &HeaderMap::new(), LOOPBACK).is_err(),
            "with tokens, loopback needs one too"
        );
        assert!(!format!("{:?}", access.tokens).contains("secret-of"));
    }
}
