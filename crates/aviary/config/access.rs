//! `[collector.proxy]` and `[[collector.client]]`: who is known otherwise than by a token.

use std::net::{IpAddr, SocketAddr};

use aviary_collector::Subject;
use axum::http::HeaderName;
use ipnet::IpNet;

use super::{
    collector::{Collector, Scope},
    context::Refusal,
    kind::{At, Kind, choice, list, section, some, text, values},
    reader::Reader,
    scalar,
    source::quotable,
};

/// The shortest prefixes that are no matter of trusting everyone: the largest networks that are anybody's own, 10.0.0.0/8
/// and fc00::/7.
const PREFIX_MIN_IPV4: u8 = 8;
const PREFIX_MIN_IPV6: u8 = 7;

/// The keys by which a certificate is known.
pub(super) const SUBJECTS: [&str; 4] = ["dns", "uri", "email", "common_name"];

/// `[collector.proxy]`: who says in headers who people are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Where its connections come from.
    pub(crate) from: Vec<IpNet>,
    /// The header in which it names who asks.
    pub(crate) user: HeaderName,
    /// The header in which it lists their groups.
    pub(crate) groups: Option<HeaderName>,
    /// What everybody whom it names may; to read, where nothing is said.
    pub(crate) scope: Vec<Scope>,
    /// What a group may in its place.
    pub(crate) group: Vec<(String, Vec<Scope>)>,
}

/// One `[[collector.client]]`: what somebody may who shows a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// What it is called.
    pub(crate) name: String,
    /// The names of which the certificate has one.
    pub(crate) subjects: Vec<Subject>,
    /// What it allows; to report, where nothing is said.
    pub(crate) scope: Vec<Scope>,
    /// Reports under it may claim no other region.
    pub(crate) region: Option<String>,
    /// Reports under it may claim no other node.
    pub(crate) node: Option<String>,
}

/// Reads `[collector.proxy]` of a collector that listens on `listen`.
pub(super) fn proxy(reader: &mut Reader<'_>, listen: SocketAddr) -> Option<Proxy> {
    let from = reader.required("from", "where its connections come from", some(network()));
    let user = "the header in which it names who asks; it must overwrite what they send themselves";
    let user = reader.required("user", user, header("X-Forwarded-User"));
    let groups = "the header in which it lists their groups, with commas between them";
    let groups = reader.optional("groups", groups, header("X-Forwarded-Groups"));
    let scope = "what everybody may whom it names; read by default";
    let scope = reader.optional("scope", scope, some(of_people()));
    let group = reader.optional("group", "what a group may in its place", list(section(group)));
    if reader.has("group") && !reader.has("groups") {
        let refusal = Refusal::new("no header says who is in these groups")
            .help("add groups = \"X-Forwarded-Groups\", or what your proxy calls it");
        reader.refuse("group", refusal);
    }
    if let (Some(user), Some(groups)) = (&user, &groups)
        && user == groups
    {
        reader.refuse("groups", Refusal::new("this is the header of `user`").help("name another"));
    }
    let from = from?;
    // Only this machine reaches what listens on loopback.
    for At { path, value: net } in from.iter().filter(|_| !listen.ip().to_canonical().is_loopback()) {
        let least = if net.addr().is_ipv4() { PREFIX_MIN_IPV4 } else { PREFIX_MIN_IPV6 };
        if net.prefix_len() < least {
            let message = format!("{net} trusts whoever reaches this collector to say who they are");
            let help = "name the addresses of the proxy, such as \"10.0.0.7\", or listen on 127.0.0.1 and run it on this host";
            reader.context().refuse(path, Refusal::new(message).help(help));
        }
    }
    let scope = scope.map_or_else(|| vec![Scope::Read], values);
    Some(Proxy { from: values(from), user: user?, groups, scope, group: values(group.unwrap_or_default()) })
}

fn group(reader: &mut Reader<'_>) -> Option<(String, Vec<Scope>)> {
    let name = reader.required("name", "the group, as the header has it", scalar::line("oncall"));
    let scope = reader.required("scope", "what its members may", some(of_people()));
    Some((name?, values(scope?)))
}

/// Reads one `[[collector.client]]`.
pub(super) fn client(reader: &mut Reader<'_>) -> Option<Client> {
    let name = reader.required("name", "whose certificate it is", scalar::name("eu-agents"));
    let mut subjects = Vec::new();
    let about = "a name that the certificate has among its alternative names";
    for (key, example, subject) in [
        ("dns", "canary-7.example.net", Subject::Dns as fn(String) -> Subject),
        ("uri", "spiffe://example.net/canary", Subject::Uri),
        ("email", "ada@example.net", Subject::Email),
    ] {
        let names = reader.optional(key, about, some(scalar::line(example)));
        subjects.extend(values(names.unwrap_or_default()).into_iter().map(subject));
    }
    let about = "the common name of its subject; where it has alternative names, prefer those";
    let common_name = reader.optional("common_name", about, some(scalar::line("canary-7")));
    subjects.extend(values(common_name.unwrap_or_default()).into_iter().map(Subject::CommonName));
    let scopes = choice([Scope::Report, Scope::Read, Scope::Admin].map(|scope| (scope.name(), scope)));
    let scope = reader.optional("scope", "what the certificate allows; report by default", some(scopes));
    let region = reader.optional("region", "reports under it may claim no other", scalar::line("eu-west-1"));
    let node = reader.optional("node", "reports under it may claim no other", scalar::line("canary-7"));
    if !SUBJECTS.iter().any(|key| reader.has(key)) {
        let help = "add dns = \"canary-7.example.net\", or uri, email or common_name";
        reader.refuse_whole(Refusal::new("nothing says which certificate this is").help(help));
    }
    let scope = scope.map_or_else(|| vec![Scope::Report], values);
    Some(Client { name: name?, subjects, scope, region, node })
}

/// The key by which this is known.
pub(super) const fn key_of(subject: &Subject) -> &'static str {
    match subject {
        Subject::CommonName(_) => "common_name",
        Subject::Dns(_) => "dns",
        Subject::Email(_) => "email",
        Subject::Uri(_) => "uri",
    }
}

/// What contradicts itself in who may do what.
pub(super) fn refuse_contradictions(reader: &Reader<'_>, collector: &Collector, clients: &[At<Client>]) {
    if reader.has("client") && !reader.has("client_ca") {
        let help = "add client_ca = { file = \"PATH\" }, the authority that signed their certificates";
        reader.refuse("client", Refusal::new("nobody is asked for a certificate").help(help));
    }
    for key in ["token", "client", "proxy"].into_iter().filter(|key| collector.open && reader.has(key)) {
        let what = match key {
            "token" => "the tokens, which then say nothing",
            "client" => "the certificates in [[collector.client]], which then say nothing",
            _ => "[collector.proxy], which then says nothing",
        };
        let message = format!("`open = true` would let anybody in beside {what}");
        reader.refuse("open", Refusal::new(message).help("take one of the two out"));
    }
    for (index, At { path, value: later }) in clients.iter().enumerate() {
        let earlier = clients.iter().take(index).map(|earlier| &earlier.value);
        let names =
            collector.tokens.iter().map(|token| &token.name).chain(earlier.clone().map(|it| &it.name));
        if names.into_iter().any(|name| *name == later.name) {
            let message = format!("two tokens or clients are called `{}`", later.name);
            reader.context().refuse(&format!("{path}.name"), Refusal::new(message).help("rename one"));
        }
        for earlier in earlier {
            if earlier.subjects.iter().any(|subject| later.subjects.contains(subject)) {
                let message = format!("a certificate with this name is that of `{}` already", earlier.name);
                reader.context().refuse(path, Refusal::new(message).help("give each name to one of the two"));
            }
        }
    }
    let reads = |scope: &[Scope]| scope.iter().any(|scope| matches!(scope, Scope::Admin | Scope::Read));
    let somebody_reads = collector.tokens.iter().any(|token| reads(&token.scope))
        || clients.iter().any(|client| reads(&client.value.scope))
        || reader.has("proxy")
        // Whoever shows a certificate may, where nothing else says who may what.
        || (reader.has("client_ca") && !reader.has("client") && !reader.has("token"));
    if collector.probe_auth && !somebody_reads {
        let message = "nobody could ask for health: there is none who may read";
        let help = "add a [[collector.token]] with scope = [\"read\"] for who asks, or take `probe_auth` out";
        reader.refuse("probe_auth", Refusal::new(message).help(help));
    }
}

/// What people may who come by a proxy, which brings no agents.
fn of_people() -> impl Kind<Output = Scope> {
    choice([Scope::Read, Scope::Admin].map(|scope| (scope.name(), scope)))
}

/// An address, or a network of them.
fn network() -> impl Kind<Output = IpNet> {
    text("an address or a network", "10.0.0.7", |given| {
        const HELP: &str = "write such as \"10.0.0.7\" or \"10.0.0.0/24\"";
        if let Ok(address) = given.parse::<IpAddr>() {
            return Ok(address.to_canonical().into());
        }
        let net: IpNet = given.parse().map_err(|_| {
            Refusal::new(format!("`{}` is neither an address nor a network", quotable(given))).help(HELP)
        })?;
        if net.trunc() == net {
            Ok(net)
        } else {
            let message = format!("`{net}` is no network: it has more than its prefix");
            Err(Refusal::new(message).help(format!("write \"{}\", or \"{}\" alone", net.trunc(), net.addr())))
        }
    })
}

/// The name of a header.
fn header(example: &'static str) -> impl Kind<Output = HeaderName> {
    text("the name of a header", example, move |given| {
        given.parse().map_err(|_| {
            Refusal::new(format!("`{}` is no name of a header", quotable(given)))
                .help(format!("write such as \"{example}\""))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalar::tests::read;

    #[test]
    fn a_network_is_an_address_or_a_prefix() {
        let table = [
            ("10.0.0.7", "10.0.0.7/32"),
            ("::ffff:10.0.0.7", "10.0.0.7/32"),
            ("10.0.0.0/24", "10.0.0.0/24"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:db8::7", "2001:db8::7/128"),
        ];
        for (given, expected) in table {
            assert_eq!(read(network(), given), Ok(expected.parse().unwrap()), "{given}");
        }
        let more = "`10.0.0.7/24` is no network: it has more than its prefix";
        assert_eq!(read(network(), "10.0.0.7/24"), Err(more.to_owned()));
        for given in ["", "proxy.example.net", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0"] {
            assert_eq!(read(network(), given), Err(format!("`{given}` is neither an address nor a network")));
        }
        assert_eq!(read(header("X-User"), "X User"), Err("`X User` is no name of a header".to_owned()));
    }
}
