use std::net::SocketAddr;

use aviary_wire::report::Report;
use axum::http::StatusCode;

use super::*;

const LOOPBACK: &str = "127.0.0.1:1";
const ELSEWHERE: &str = "192.0.2.7:1";
const NOW: Timestamp = Timestamp(1_763_690_400_000_000);

fn peer(address: &str) -> Peer {
    address.parse::<SocketAddr>().unwrap().into()
}

fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
    given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn bearer_of(token: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {token}"))])
}

fn secret_of(name: &str) -> String {
    format!("{name}-secret-of-some-length")
}

fn rule(name: &str, scope: Scope) -> TokenRule {
    TokenRule {
        name: name.to_owned(),
        secret: SecretHash::of(&secret_of(name)),
        scopes: vec![scope],
        region: None,
        node: None,
        limits: Limits::FLEET,
    }
}

/// An access by `tokens`, with sessions.
fn by(tokens: Vec<TokenRule>) -> Access {
    let session_key = Some(SessionKey::new(&[7; SessionKey::BYTES]));
    Access::new(Rules { tokens, session_key, name: "main".to_owned(), ..Rules::default() })
}

impl Access {
    fn who(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, ApiError> {
        self.who_sends(&Method::GET, headers, peer)
    }

    fn who_sends(&self, method: &Method, headers: &HeaderMap, peer: &Peer) -> Result<Caller, ApiError> {
        self.caller(&Asked { method, headers, peer, url: None, now: NOW })
    }

    fn allow(&self, scope: Scope, headers: &HeaderMap, peer: &Peer) -> Result<Caller, ApiError> {
        let caller = self.who(headers, peer)?;
        caller.require(scope).map(|()| caller)
    }

    fn try_in(&self, secret: &str, headers: &HeaderMap, peer: &Peer) -> Result<String, NotSignedIn> {
        let asked = Asked { method: &Method::POST, headers, peer, url: None, now: NOW };
        self.sign_in(&asked, secret, Micros(0))
    }
}

/// What a browser sends back of a cookie.
fn cookie(set: &str) -> HeaderMap {
    headers(&[("cookie", &format!("a=b; {}", set.split(';').next().unwrap()))])
}

#[test]
fn without_tokens_only_loopback_is_let_in() {
    let access = by(Vec::new());
    let nothing = HeaderMap::new();
    for address in [LOOPBACK, "[::ffff:127.0.0.1]:1", "[::1]:1"] {
        let caller = access.allow(Scope::Admin, &nothing, &peer(address)).unwrap();
        assert_eq!((caller.known(), caller.author(None)), (Known::Local, None));
    }
    let refused = access.who(&nothing, &peer(ELSEWHERE)).err().unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let open = Access::new(Rules { open: true, ..Rules::default() });
    assert_eq!(open.allow(Scope::Admin, &nothing, &peer(ELSEWHERE)).unwrap().known(), Known::Open);
}

#[test]
fn a_page_whose_name_leads_to_loopback_is_not_let_in() {
    let access = by(Vec::new());
    let rebound = headers(&[("host", "evil.example:8610"), ("sec-fetch-site", "same-origin")]);
    let refused = access.who(&rebound, &peer(LOOPBACK)).err().unwrap();
    assert_eq!((refused.status(), refused.code()), (StatusCode::FORBIDDEN, "foreign_name"));
    assert!(access.who(&headers(&[("host", "localhost:8610")]), &peer(LOOPBACK)).is_ok());
    // With a token, nobody is known by where they are.
    let access = by(vec![rule("people", Scope::Read)]);
    let rebound = headers(&[
        ("host", "collector.example.net"),
        ("authorization", &format!("Bearer {}", secret_of("people"))),
    ]);
    assert!(access.who(&rebound, &peer(LOOPBACK)).is_ok());
}

#[test]
fn a_change_that_a_foreign_page_makes_a_browser_send_is_refused_unless_a_token_is_shown() {
    let foreign = headers(&[("sec-fetch-site", "cross-site")]);
    let local = by(Vec::new());
    let refused = local.who_sends(&Method::POST, &foreign, &peer(LOOPBACK)).err().unwrap();
    assert_eq!((refused.status(), refused.code()), (StatusCode::FORBIDDEN, "foreign_form"));
    assert!(local.who_sends(&Method::GET, &foreign, &peer(LOOPBACK)).is_ok(), "it cannot read the answer");
    let access = by(vec![rule("people", Scope::Admin)]);
    let mut shown = bearer_of(&secret_of("people"));
    shown.extend(foreign.clone());
    assert!(access.who_sends(&Method::POST, &shown, &peer(ELSEWHERE)).is_ok());
    let Ok(set) = access.try_in(&secret_of("people"), &HeaderMap::new(), &peer(ELSEWHERE)) else { panic!() };
    let mut shown = cookie(&set);
    assert!(access.who_sends(&Method::POST, &shown, &peer(ELSEWHERE)).is_ok(), "no browser");
    shown.extend(foreign);
    assert!(access.who_sends(&Method::POST, &shown, &peer(ELSEWHERE)).is_err());
}

#[test]
fn a_certificate_lets_in_to_report_and_read_unless_something_says_who_may_what() {
    let access = Access::new(Rules { certified: true, ..Rules::default() });
    let shown = Peer::over_tls(ELSEWHERE.parse().unwrap(), vec![Subject::CommonName("canary-7".to_owned())]);
    let ask = |access: &Access, scope| access.allow(scope, &HeaderMap::new(), &shown).is_ok();
    assert_eq!([Scope::Report, Scope::Read, Scope::Admin].map(|it| ask(&access, it)), [true, true, false]);
    let access =
        Access::new(Rules { certified: true, tokens: vec![rule("a", Scope::Read)], ..Rules::default() });
    assert!(!ask(&access, Scope::Read));
}

#[test]
fn a_certificate_allows_what_the_section_that_names_it_says() {
    let rule = |name: &str, subjects: &[Subject], scope| CertificateRule {
        name: name.to_owned(),
        subjects: subjects.to_vec(),
        scopes: vec![scope],
        region: None,
        node: None,
    };
    let dns = |name: &str| Subject::Dns(name.to_owned());
    let certificates = vec![
        rule("canaries", &[dns("a.example.net"), dns("b.example.net")], Scope::Report),
        rule("ada", &[Subject::Email("ada@example.net".to_owned())], Scope::Admin),
        rule("spire", &[Subject::Uri("spiffe://example/x".to_owned())], Scope::Read),
    ];
    let access = Access::new(Rules { certificates, certified: true, ..Rules::default() });
    type Row<'t> = (&'t [Subject], Option<(&'t str, Scope)>);
    let table: [Row<'_>; 7] = [
        (&[dns("B.example.net")], Some(("canaries", Scope::Report))),
        (&[dns("c"), Subject::Email("ada@example.net".to_owned())], Some(("ada", Scope::Admin))),
        (&[Subject::Uri("spiffe://example/x".to_owned())], Some(("spire", Scope::Read))),
        (&[Subject::CommonName("a.example.net".to_owned())], None),
        (&[dns("a.example.net.evil")], None),
        (&[Subject::Uri("spiffe://example/X".to_owned())], None),
        (&[], None),
    ];
    for (subjects, expected) in table {
        // Also from loopback: something says who may what.
        for address in [ELSEWHERE, LOOPBACK] {
            let peer = Peer::over_tls(address.parse().unwrap(), subjects.to_vec());
            let caller = access.who(&HeaderMap::new(), &peer).ok();
            let found =
                caller.as_ref().map(|it| (it.name(), it.scopes[0], it.author(Some("eve".to_owned()))));
            let expected = expected.map(|(name, scope)| (name, scope, Some(name.to_owned())));
            assert_eq!(found, expected, "{subjects:?}");
        }
    }
}

#[test]
fn a_token_allows_what_its_scope_says() {
    let rules = vec![rule("agents", Scope::Report), rule("admins", Scope::Admin)];
    assert!(!format!("{rules:?}").contains("secret-of"));
    let access = Access::new(Rules { tokens: rules, certified: true, ..Rules::default() });
    let ask = |scope, token: &str| access.allow(scope, &bearer_of(token), &peer(ELSEWHERE));
    assert_eq!(ask(Scope::Report, &secret_of("agents")).unwrap().name(), "agents");
    let admin = ask(Scope::Read, &secret_of("admins")).unwrap();
    assert_eq!(admin.name(), "admins");
    assert_eq!(admin.author(Some("ada".to_owned())).as_deref(), Some("ada"), "a program speaks for people");
    assert_eq!(admin.author(None).as_deref(), Some("admins"));
    let refused = ask(Scope::Read, &secret_of("agents")).err().unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    for other in ["agents-secret-of-some-lengtH", "agents-secret-of-some-lengt", ""] {
        let refused = ask(Scope::Report, other).err().unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{other}");
    }
    assert!(access.who(&HeaderMap::new(), &peer(LOOPBACK)).is_err(), "with tokens, loopback needs one too");
    let basic = headers(&[("authorization", "Basic YWRhOng=")]);
    assert!(access.who(&basic, &peer(ELSEWHERE)).err().unwrap().message().contains("Bearer TOKEN"));
    let lower = headers(&[("authorization", &format!("bearer {}", secret_of("agents")))]);
    assert!(access.who(&lower, &peer(ELSEWHERE)).is_ok());
    let counts = access.counts(|_| 7);
    assert_eq!((counts[0].name.as_str(), counts[0].series), ("agents", 7));
    assert_eq!(counts[0].refused.iter().map(|(_, count)| count).sum::<u64>(), 1);
}

#[test]
fn a_session_is_the_tokens_and_its_cookie_is_for_the_browser_alone() {
    let access = || by(vec![rule("people", Scope::Read), rule("agents", Scope::Report)]);
    let (nothing, plain) = (HeaderMap::new(), peer(ELSEWHERE));
    let tls = Peer::over_tls(ELSEWHERE.parse().unwrap(), Vec::new());
    for (peer, begins, ends) in [
        (&plain, "aviary-main=people.", "; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax"),
        (&tls, "__Host-aviary-main=people.", "; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure"),
    ] {
        let access = access();
        let Ok(set) = access.try_in(&secret_of("people"), &nothing, peer) else { panic!() };
        assert!(set.starts_with(begins) && set.ends_with(ends) && !set.contains("secret"), "{set}");
        let caller = access.who(&cookie(&set), peer).unwrap();
        assert_eq!((caller.name(), caller.known()), ("people", Known::Session));
        assert!(caller.may(Scope::Read) && !caller.may(Scope::Admin) && !caller.may(Scope::Report));
        assert_eq!(caller.author(Some("eve".to_owned())).as_deref(), Some("people"));
        let asked = Asked { method: &Method::POST, headers: &cookie(&set), peer, url: None, now: NOW };
        assert!(access.sign_out(&asked).contains("=; Path=/; Max-Age=0; HttpOnly"));
        assert!(access.who(&cookie(&set), peer).is_err(), "whoever kept a copy is out as well");
    }
    let access = access();
    let Ok(set) = access.try_in(&secret_of("people"), &nothing, &plain) else { panic!() };
    assert!(access.who(&cookie(&set), &tls).is_err(), "over TLS only what was set over TLS counts");
    assert!(matches!(access.try_in(&secret_of("agents"), &nothing, &plain), Err(NotSignedIn::OnlyReports)));
    for wrong in 0..4 {
        let refused = access.try_in("no token", &nothing, &plain);
        assert!(matches!(refused, Err(NotSignedIn::Unknown)), "{wrong}");
    }
    let refused = access.try_in(&secret_of("people"), &nothing, &plain);
    assert!(matches!(refused, Err(NotSignedIn::TooMany(1))), "not with the right one either");
    assert!(access.try_in(&secret_of("people"), &nothing, &peer("192.0.2.8:1")).is_ok(), "others may");
    let none = Access::new(Rules { tokens: vec![rule("people", Scope::Read)], ..Rules::default() });
    assert!(matches!(none.try_in(&secret_of("people"), &nothing, &plain), Err(NotSignedIn::Never)));
}

#[test]
fn a_proxy_is_believed_and_nobody_else_who_sends_its_headers() {
    let proxy = ProxyRule {
        from: vec!["10.0.0.0/24".parse().unwrap(), "127.0.0.1/32".parse().unwrap()],
        user: header::HeaderName::from_static("x-forwarded-user"),
        groups: Some(header::HeaderName::from_static("x-forwarded-groups")),
        scopes_of: vec![("oncall".to_owned(), vec![Scope::Admin])],
        scopes: vec![Scope::Read],
    };
    let tokens = vec![rule("people", Scope::Admin)];
    let session_key = Some(SessionKey::new(&[7; SessionKey::BYTES]));
    let access = Access::new(Rules { tokens, proxy: Some(proxy), session_key, ..Rules::default() });
    let claim = headers(&[("x-forwarded-user", "ada"), ("x-forwarded-groups", "oncall")]);
    let caller = access.who(&claim, &peer("10.0.0.7:1")).unwrap();
    assert_eq!((caller.name(), caller.known(), caller.may(Scope::Admin)), ("ada", Known::Proxy, true));
    assert_eq!(caller.author(Some("eve".to_owned())).as_deref(), Some("ada"));
    assert_eq!(access.pretenders(), 0);
    assert!(access.who(&claim, &peer(ELSEWHERE)).is_err());
    assert_eq!(access.pretenders(), 1);
    // A proxy on the same host makes nobody local whom it does not name.
    assert!(access.who(&HeaderMap::new(), &peer(LOOPBACK)).is_err());
    // What somebody shows by choice outranks it.
    let mut both = claim.clone();
    both.extend(bearer_of(&secret_of("people")));
    assert_eq!(access.who(&both, &peer("10.0.0.7:1")).unwrap().known(), Known::Token);
    // Whether a cookie crosses the network in the clear, the proxy knows; how often somebody may be wrong is counted by theirs.
    let over_tls = headers(&[("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1")]);
    let Ok(set) = access.try_in(&secret_of("people"), &over_tls, &peer("10.0.0.7:1")) else { panic!() };
    assert!(set.starts_with("__Host-") && set.ends_with("; Secure"), "{set}");
    let Ok(set) = access.try_in(&secret_of("people"), &over_tls, &peer(ELSEWHERE)) else { panic!() };
    assert!(!set.contains("Secure"), "a stranger's word: {set}");
    for _ in 0..5 {
        _ = access.try_in("no token", &over_tls, &peer("10.0.0.7:1"));
    }
    let other = headers(&[("x-forwarded-for", "192.0.2.2")]);
    assert!(access.try_in(&secret_of("people"), &over_tls, &peer("10.0.0.7:1")).is_err());
    assert!(access.try_in(&secret_of("people"), &other, &peer("10.0.0.7:1")).is_ok());
}

#[test]
fn the_certificate_of_a_proxy_is_not_that_of_who_asks_it() {
    let proxy = ProxyRule {
        from: vec!["10.0.0.7/32".parse().unwrap()],
        user: header::HeaderName::from_static("x-forwarded-user"),
        groups: None,
        scopes_of: Vec::new(),
        scopes: vec![Scope::Read],
    };
    let subjects = vec![Subject::Dns("front.example.net".to_owned())];
    let certificates = vec![CertificateRule {
        name: "front".to_owned(),
        subjects: subjects.clone(),
        scopes: vec![Scope::Admin],
        region: None,
        node: None,
    }];
    let access = Access::new(Rules { certificates, proxy: Some(proxy), ..Rules::default() });
    let shown = |address: &str| Peer::over_tls(address.parse().unwrap(), subjects.clone());
    assert!(access.who(&HeaderMap::new(), &shown("10.0.0.7:1")).is_err());
    assert!(access.who(&HeaderMap::new(), &shown("10.0.0.8:1")).is_ok());
}

#[test]
fn a_token_over_its_rate_waits_and_the_others_do_not() {
    let limits = Limits { reports: 2, ..Limits::FLEET };
    let slow = TokenRule { limits, ..rule("slow", Scope::Report) };
    let access = by(vec![slow, rule("fast", Scope::Report)]);
    let entrance =
        |name: &str| access.who(&bearer_of(&secret_of(name)), &peer(ELSEWHERE)).unwrap().entrance();
    let admitted = |name: &str, now| (0..20).filter(|_| entrance(name).admit(Micros(now)).is_ok()).count();
    assert_eq!((admitted("slow", 5), admitted("fast", 5)), (8, 20));
    let refused = entrance("slow").admit(Micros(5)).unwrap_err();
    assert_eq!((refused.status(), refused.code()), (StatusCode::TOO_MANY_REQUESTS, "too_fast"));
    assert!(refused.message().contains("token slow may report 2 reports a second"), "{refused:?}");
    assert_eq!(admitted("slow", 1_000_005), 2);
    let counts = access.counts(|_| 0);
    assert_eq!(counts[0].refused[0], ("reports", 12 + 1 + 18));
    assert!(counts[1].refused.iter().all(|(_, count)| *count == 0));
}

#[test]
fn whoever_needs_no_token_has_the_limits_of_a_fleet() {
    let access = Access::new(Rules { open: true, ..Rules::default() });
    let entrance = access.who(&HeaderMap::new(), &peer(ELSEWHERE)).unwrap().entrance();
    assert_eq!(entrance.reporter().series_max, Some(Limits::FLEET.series));
    entrance.taken(&Report::default(), 5);
    let [counts] = access.counts(|_| 0).try_into().unwrap();
    assert_eq!((counts.name.as_str(), counts.reports, counts.slots), ("(none)", 1, 5));
}
