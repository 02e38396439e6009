//! A proxy in front of the collector that knows who people are, and says so in headers.
//!
//! They are believed of connections from its addresses alone. Whoever else sends them is counted, and is who they were
//! without: a header is nothing that anybody would have to earn.

use std::{net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::Scope;

/// The longest name of a person, or list of groups, that is taken from a header.
const NAME_CHARACTERS_MAX: usize = 100;
const GROUPS_BYTES_MAX: usize = 8 << 10;

/// A proxy that is trusted to say who people are.
#[derive(Clone, Debug)]
pub struct ProxyRule {
    /// Where its connections come from.
    pub from: Vec<IpNet>,
    /// The header in which it names who asks. It must overwrite what they send themselves.
    pub user: HeaderName,
    /// The header in which it lists their groups, with commas between them.
    pub groups: Option<HeaderName>,
    /// What a group allows.
    pub scopes_of: Vec<(String, Vec<Scope>)>,
    /// What everybody else may whom it names.
    pub scopes: Vec<Scope>,
}

impl ProxyRule {
    /// Whether a connection from `address` is the proxy's.
    pub(super) fn is_at(&self, address: IpAddr) -> bool {
        self.from.iter().any(|net| net.contains(&address))
    }

    /// Whether `headers` say who somebody is, rightly or not.
    pub(super) fn is_claimed(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&self.user)
    }

    /// Who asks, and what they may, by `headers` of the proxy; nobody where it names nobody, or more than one.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Option<(Arc<str>, Arc<[Scope]>)> {
        let user = only(headers, &self.user)?.trim();
        let is_name = (1..=NAME_CHARACTERS_MAX).contains(&user.chars().count());
        if !is_name || user.chars().any(char::is_control) {
            return None;
        }
        let groups = self.groups.as_ref().and_then(|header| only(headers, header)).unwrap_or_default();
        let groups: Vec<&str> = match groups.len() {
            0..=GROUPS_BYTES_MAX => groups.split(',').map(str::trim).collect(),
            _ => Vec::new(),
        };
        let known = self.scopes_of.iter().filter(|(group, _)| groups.contains(&group.as_str()));
        let mut scopes: Vec<Scope> = known.flat_map(|(_, scopes)| scopes).copied().collect();
        if scopes.is_empty() {
            scopes.clone_from(&self.scopes);
        }
        Some((user.into(), scopes.into()))
    }

    /// From where the proxy was asked: the last address in `X-Forwarded-For` that is none of its own. What stands before
    /// that was said by whoever asked.
    pub(super) fn asked_from(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines: Vec<_> =
            headers.get_all("x-forwarded-for").iter().filter_map(|it| it.to_str().ok()).collect();
        let hops =
            lines.iter().rev().flat_map(|line| line.rsplit(',')).map(|hop| hop.trim().parse::<IpAddr>());
        // From what is no address on nothing is known.
        hops.map_while(Result::ok).map(|hop| hop.to_canonical()).find(|hop| !self.is_at(*hop))
    }

    /// Whether the proxy was asked over TLS.
    pub(super) fn asked_over_tls(&self, headers: &HeaderMap) -> bool {
        let last = only(headers, &HeaderName::from_static("x-forwarded-proto"))
            .and_then(|schemes| schemes.rsplit(',').next());
        last.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
    }
}

/// The value of a header that is given once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { std::str::from_utf8(value.as_bytes()).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> ProxyRule {
        ProxyRule {
            from: vec!["10.0.0.0/24".parse().unwrap(), "2001:db8::7/128".parse().unwrap()],
            user: HeaderName::from_static("x-forwarded-user"),
            groups: Some(HeaderName::from_static("x-forwarded-groups")),
            scopes_of: vec![
                ("oncall".to_owned(), vec![Scope::Admin]),
                ("staff".to_owned(), vec![Scope::Read]),
            ],
            scopes: vec![Scope::Read],
        }
    }

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_proxy_is_known_by_its_address() {
        let table = [("10.0.0.9", true), ("10.0.1.9", false), ("2001:db8::7", true), ("2001:db8::8", false)];
        for (address, expected) in table {
            assert_eq!(proxy().is_at(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn who_asks_is_named_once_and_their_groups_say_what_they_may() {
        let (user, groups) = ("x-forwarded-user", "x-forwarded-groups");
        let long = "x".repeat(NAME_CHARACTERS_MAX + 1);
        type Row<'g> = (&'g [(&'static str, &'g str)], Option<(&'g str, &'g [Scope])>);
        let table: [Row<'_>; 9] = [
            (&[(user, "ada")], Some(("ada", &[Scope::Read]))),
            (&[(user, "adä"), (groups, "")], Some(("adä", &[Scope::Read]))),
            (&[(user, "ada"), (groups, "staff, oncall")], Some(("ada", &[Scope::Admin, Scope::Read]))),
            (&[(user, "ada"), (groups, "oncallers")], Some(("ada", &[Scope::Read]))),
            // Of two, one was sent by whoever asked.
            (&[(user, "ada"), (groups, "staff"), (groups, "oncall")], Some(("ada", &[Scope::Read]))),
            (&[(user, "ada"), (user, "eve")], None),
            (&[(user, " ")], None),
            (&[(user, &long)], None),
            (&[(groups, "oncall")], None),
        ];
        for (given, expected) in table {
            let found = proxy().caller(&headers(given));
            let found = found.as_ref().map(|(name, scopes)| (&**name, &**scopes));
            assert_eq!(found, expected, "{given:?}");
        }
    }

    #[test]
    fn only_what_the_proxy_itself_saw_of_whence_is_believed() {
        let table: [(&[&str], Option<&str>); 6] = [
            (&["192.0.2.7"], Some("192.0.2.7")),
            (&["203.0.113.1, 192.0.2.7, 10.0.0.8"], Some("192.0.2.7")),
            (&["203.0.113.1", "192.0.2.7"], Some("192.0.2.7")),
            (&["192.0.2.7, unknown"], None),
            (&["10.0.0.8"], None),
            (&[], None),
        ];
        for (lines, expected) in table {
            let given: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let expected = expected.map(|address| address.parse::<IpAddr>().unwrap());
            assert_eq!(proxy().asked_from(&headers(&given)), expected, "{lines:?}");
        }
        for (scheme, expected) in [("https", true), ("http", false), ("https, http", false)] {
            assert_eq!(proxy().asked_over_tls(&headers(&[("x-forwarded-proto", scheme)])), expected);
        }
    }
}
