//! Which addresses a webhook may go to, checked on the one that is really connected to.
//!
//! Whoever may write a webhook's URL could otherwise have this host knock on doors that only it can reach: a cloud's
//! metadata service, a database on loopback. The check sits in the resolver of the connection itself, so a name that
//! leads to a public address when it is looked at and to loopback a moment later is caught; and redirects are not followed.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// A name that leads to no public address.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` leads to {address}, which is private: if that is meant, set `allow_private = true`")]
pub(crate) struct NotPublic {
    name: String,
    address: IpAddr,
}

/// Gives out public addresses only.
pub(crate) struct PublicOnly<R>(Arc<R>);

impl<R: Resolve + 'static> PublicOnly<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self(Arc::new(inner))
    }
}

impl<R: Resolve + 'static> Resolve for PublicOnly<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let asked = name.as_str().to_owned();
            let (public, private): (Vec<_>, Vec<_>) =
                inner.resolve(name).await?.partition(|address| is_public(address.ip()));
            match private.first() {
                Some(address) if public.is_empty() => {
                    Err(NotPublic { name: asked, address: address.ip() }.into())
                }
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// The host's own resolver.
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            #[expect(
                clippy::disallowed_methods,
                reason = "an attempt is given up at its deadline, whatever becomes of the lookup"
            )]
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The private address that `url` names outright: no resolver is asked for those.
pub(crate) fn private_literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let address: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    (!is_public(address)).then_some(address)
}

/// Whether `address` is one that anybody on the Internet may hold.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(embedded) => is_public_v4(embedded),
            None => is_public_v6(address),
        },
    }
}

/// IANA's registry of special-purpose IPv4 addresses, and multicast.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    ))
}

/// Of IPv6, only 2000::/3 is given out; Teredo, benchmarks, ORCHID and documentation are parts of it.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    (0x2000..0x4000).contains(&a)
        && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
        && !(a == 0x3fff && b < 0x1000)
}

/// The IPv4 address that a mapped, compatible, translated (64:ff9b::/96) or 6to4 address stands for.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aviary_core::Timestamp;

    use super::*;
    use crate::{
        http::Http,
        refusal::{Reason, Retry},
    };

    /// Answers each lookup with the next of these, and the last from then on.
    struct Scripted(&'static [&'static [&'static str]], AtomicUsize);

    impl Scripted {
        fn new(answers: &'static [&'static [&'static str]]) -> Self {
            Self(answers, AtomicUsize::new(0))
        }
    }

    impl Resolve for Scripted {
        fn resolve(&self, _: Name) -> Resolving {
            let at = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
            let addresses = self.0[at].iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0));
            let addresses: Addrs = Box::new(addresses.collect::<Vec<_>>().into_iter());
            Box::pin(async { Ok(addresses) })
        }
    }

    #[tokio::test]
    async fn a_name_is_checked_each_time_that_it_is_looked_up() {
        let rebinding = PublicOnly::new(Scripted::new(&[&["8.8.8.8"], &["127.0.0.1"]]));
        let lookup = || rebinding.resolve("rebinding.example".parse().unwrap());
        assert_eq!(lookup().await.ok().unwrap().count(), 1);
        let error = lookup().await.err().unwrap().to_string();
        assert!(error.starts_with("`rebinding.example` leads to 127.0.0.1"), "{error}");
        // Of several, the private ones are not given out.
        let mixed = PublicOnly::new(Scripted::new(&[&["10.0.0.1", "8.8.8.8", "::1"]]));
        let given: Vec<_> = mixed.resolve("mixed.example".parse().unwrap()).await.ok().unwrap().collect();
        assert_eq!(given, ["8.8.8.8:0".parse().unwrap()]);
    }

    #[tokio::test]
    async fn the_connection_itself_goes_through_the_check() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url: Url = format!("http://hooks.example:{port}/").parse().unwrap();
        aviary_probe::install_crypto_provider();
        let ask = async |http: Http| {
            let asked = http.ask(http.post_bytes(url.clone(), "text/plain", Vec::new()), Timestamp(0));
            tokio::select! {
                answer = asked => answer.err(),
                _ = listener.accept() => None,
            }
        };
        let rebound = || Scripted::new(&[&["127.0.0.1"]]);
        assert!(
            ask(Http::new(&[], Some(rebound())).unwrap()).await.is_none(),
            "unguarded, it is connected to"
        );
        let refused = ask(Http::new(&[], Some(PublicOnly::new(rebound()))).unwrap()).await.unwrap();
        assert_eq!(
            (refused.reason, refused.retry),
            (Reason::PrivateAddress, Retry::Never),
            "{}",
            refused.text
        );
    }

    #[test]
    fn only_what_anybody_may_hold_is_public() {
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "100.63.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ];
        let private = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "100.64.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ];
        for (addresses, expected) in [(&public[..], true), (&private[..], false)] {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn an_address_is_seen_however_it_is_written() {
        for (url, expected) in [
            ("http://127.0.0.1:9000/hook", true),
            ("http://2130706433/", true),
            ("http://0x7f.1/", true),
            ("http://0177.0.0.1/", true),
            ("http://[::1]/", true),
            ("http://[::ffff:10.0.0.1]/", true),
            ("http://1.1.1.1/", false),
            ("http://hooks.example.com/", false),
        ] {
            assert_eq!(private_literal(&url.parse().unwrap()).is_some(), expected, "{url}");
        }
    }
}
