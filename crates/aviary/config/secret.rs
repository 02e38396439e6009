//! Secrets: where they come from, and a type that does not give them away.

use std::{
    fmt,
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use aviary_collector::SecretHash;
use toml::de::DeValue;

use super::{
    context::{Context, Given, Refusal, Value},
    environment,
    kind::{Kind, Table, table, text},
    reader::Reader,
    source::{is_variable_name, quotable},
};

/// The largest file taken for a secret or a chain of certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The shortest token: below that, guessing is a matter of patience.
const TOKEN_BYTES_MIN: usize = 16;

/// A text that nobody may read: it has no `Display`, and its `Debug` says only that it is there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text itself, for handing it to the peer that it is for.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// A text as if it had been read.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Where a text is to be found that does not stand in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// In this file, as written: relative to the configuration.
    File(String),
    /// In this variable of the environment.
    Variable(String),
    /// Here: it was the value of a variable that overrides the key.
    Override(Secret),
}

/// A text in PEM, and the file that it stands in. The text may hold a private key: its `Debug` does not show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pem {
    /// The file, where it stands in one.
    pub(crate) path: Option<PathBuf>,
    text: Secret,
}

impl Pem {
    /// The text.
    pub(crate) fn text(&self) -> &str {
        self.text.expose()
    }

    /// The text, as what may be shown to nobody.
    pub(crate) fn secret(&self) -> &Secret {
        &self.text
    }
}

/// A token that a server asks for.
pub(super) fn token() -> impl Kind<Output = Secret> {
    Referenced {
        table: secret_table(),
        secret: true,
        load: |reference, context: &Context<'_>| one_word(load(reference, context)?, TOKEN_BYTES_MIN),
    }
}

/// A token that this server asks for. Nothing but its hash is kept, and a hash is all that need stand on this host.
pub(super) fn token_hash() -> impl Kind<Output = SecretHash> {
    let load = |given, context: &Context<'_>| match given {
        TokenReference::Hash(hash) => Ok(hash),
        TokenReference::Elsewhere(reference) => {
            let secret = one_word(load(reference, context)?, TOKEN_BYTES_MIN)?;
            Ok(SecretHash::of(secret.expose()))
        }
    };
    Referenced { table: token_table(), secret: true, load }
}

/// Where a token is to be found, or what it is recognised by.
enum TokenReference {
    Hash(SecretHash),
    Elsewhere(Reference),
}

impl From<Reference> for TokenReference {
    fn from(reference: Reference) -> Self {
        Self::Elsewhere(reference)
    }
}

/// A key that a service gave out, of any length.
pub(super) fn api_key() -> impl Kind<Output = Secret> {
    Referenced {
        table: secret_table(),
        secret: true,
        load: |reference, context: &Context<'_>| one_word(load(reference, context)?, 1),
    }
}

/// The value of a header, such as `Bearer` and a token.
pub(super) fn header() -> impl Kind<Output = Secret> {
    Referenced {
        table: secret_table(),
        secret: true,
        load: |reference, context: &Context<'_>| one_line(load(reference, context)?),
    }
}

/// A chain of certificates with its private key, in one PEM file.
pub(super) fn certificate_and_key() -> impl Kind<Output = Secret> {
    let load = |reference, context: &Context<'_>| {
        let pem: Secret = load(reference, context)?;
        if pem.0.contains(CERTIFICATE_BEGINS) && pem.0.contains(KEY_BEGINS) {
            return Ok(pem);
        }
        let help = "put both into the one file, as PEM";
        Err(Refusal::new("there is not both a certificate and a private key in it").help(help))
    };
    Referenced { table: secret_table(), secret: true, load }
}

/// Certificates of authorities to trust. They are public: the file may be readable by everybody.
pub(super) fn authorities() -> impl Kind<Output = Pem> {
    public_pem("name a PEM file with the authority's certificate")
}

/// The certificate that a peer is shown, with those that lead to its authority.
pub(super) fn certificate() -> impl Kind<Output = Pem> {
    public_pem("name a PEM file with the certificate, and those of its authorities after it")
}

/// The private key of such a certificate, which nobody else may read.
pub(super) fn private_key() -> impl Kind<Output = Pem> {
    let load = |reference, context: &Context<'_>| {
        let pem = load_pem(reference, context, Access::OwnerAndGroup)?;
        if pem.text().contains(KEY_BEGINS) {
            return Ok(pem);
        }
        Err(Refusal::new("there is no private key in it").help("name a PEM file with the certificate's key"))
    };
    Referenced { table: secret_table(), secret: true, load }
}

/// The template of a text. Anybody may read it.
pub(super) fn template() -> impl Kind<Output = Pem> {
    let load = |reference, context: &Context<'_>| load_pem(reference, context, Access::Anybody);
    let table = table("{ file = \"page.txt\" }", |reader| {
        reader.required("file", "a file with the template", path()).map(Reference::File)
    });
    Referenced { table, secret: false, load }
}

fn public_pem(help: &'static str) -> impl Kind<Output = Pem> {
    let load = move |reference, context: &Context<'_>| {
        let pem = load_pem(reference, context, Access::Anybody)?;
        if pem.text().contains(CERTIFICATE_BEGINS) {
            return Ok(pem);
        }
        Err(Refusal::new("there is no certificate in it").help(help))
    };
    Referenced { table: file_table(), secret: false, load }
}

fn load_pem(reference: Reference, context: &Context<'_>, access: Access) -> Result<Pem, Refusal> {
    let Reference::File(path) = &reference else {
        return Ok(Pem { path: None, text: load(reference, context)? });
    };
    let path = file(path, context)?;
    let what = if access == Access::Anybody { "" } else { "secret " };
    let text = Secret(read(&path, what, access)?);
    Ok(Pem { path: Some(path), text })
}

const CERTIFICATE_BEGINS: &str = "-----BEGIN CERTIFICATE-----";
const KEY_BEGINS: &str = "PRIVATE KEY-----";

/// A text that stands elsewhere, and what is made of it.
struct Referenced<R, L> {
    table: Table<R>,
    /// Whether nobody may read it.
    secret: bool,
    load: L,
}

impl<R, F, L, T> Kind for Referenced<R, L>
where
    R: Fn(&mut Reader<'_>) -> Option<F>,
    F: From<Reference>,
    L: Fn(F, &Context<'_>) -> Result<T, Refusal>,
{
    type Output = T;

    fn expected(&self) -> String {
        self.table.expected()
    }

    fn example(&self, path: &str) -> String {
        self.table.example(path)
    }

    fn fits(&self, value: Value<'_>) -> bool {
        self.table.fits(value)
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<T> {
        let reference = match value.given {
            Given::Variable(text) => Reference::Override(Secret(text.to_owned())).into(),
            Given::Toml(DeValue::Table(_)) => self.table.read(value, context)?,
            Given::Toml(_) if !self.secret => {
                self.refuse_type(value, context);
                return None;
            }
            Given::Toml(_) => {
                let message =
                    "a secret does not stand in the configuration itself, where it would be copied and shown";
                let help = format!("write {}", self.example(value.path));
                context.refuse(value.path, Refusal::new(message).help(help));
                return None;
            }
        };
        (self.load)(reference, context).map_err(|refusal| context.refuse(value.path, refusal)).ok()
    }

    fn schema(&self) -> serde_json::Value {
        self.table.schema()
    }

    fn is_table(&self) -> bool {
        true
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// The file that a configuration writes as `path`. What came over the network may refer only to what was put beside this
/// host's own configuration: whoever sends it chooses the endpoints too, and so would read any file of this host.
fn file(path: &str, context: &Context<'_>) -> Result<PathBuf, Refusal> {
    may_name(path, context)?;
    Ok(context.file(path))
}

fn may_name(path: &str, context: &Context<'_>) -> Result<(), Refusal> {
    let is_plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if context.is_foreign() && !is_plain {
        let message = format!("a service from a collector may not name the file {}", quotable(path));
        let help = "name a file beside the agent's configuration, or set the agent's AVIARY_SERVICE_NAME_KEY";
        return Err(Refusal::new(message).help(help));
    }
    Ok(())
}

/// A path that `kind` reads, from the directory of the configuration. What is there is not a part of it.
pub(super) fn beside(kind: impl Kind<Output = String>) -> impl Kind<Output = PathBuf> {
    Beside(kind)
}

struct Beside<K>(K);

impl<K: Kind<Output = String>> Kind for Beside<K> {
    type Output = PathBuf;

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn example(&self, path: &str) -> String {
        self.0.example(path)
    }

    fn fits(&self, value: Value<'_>) -> bool {
        self.0.fits(value)
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<PathBuf> {
        let path = self.0.read(value, context)?;
        match may_name(&path, context) {
            Ok(()) => Some(context.beside(&path)),
            Err(refusal) => {
                context.refuse(value.path, refusal);
                None
            }
        }
    }

    fn schema(&self) -> serde_json::Value {
        self.0.schema()
    }
}

/// The value of the variable that a configuration names. For what came over the network, our own are none of its
/// business but for those that speak of services.
fn variable<'c>(name: &str, context: &Context<'c>) -> Result<Option<&'c str>, Refusal> {
    let is_ours = name.starts_with(environment::PREFIX) && !name.starts_with("AVIARY_SERVICE_");
    if context.is_foreign() && is_ours {
        let message = format!("a service from a collector may not name the variable {}", quotable(name));
        return Err(Refusal::new(message).help("name one that does not begin with AVIARY_"));
    }
    Ok(context.variable(name))
}

fn load(reference: Reference, context: &Context<'_>) -> Result<Secret, Refusal> {
    match reference {
        Reference::File(path) => read(&file(&path, context)?, "secret ", Access::OwnerAndGroup).map(Secret),
        Reference::Override(secret) if secret.0.is_empty() => {
            Err(Refusal::new("the variable is empty").help("set it, or take it out of the environment"))
        }
        Reference::Override(secret) => Ok(secret),
        Reference::Variable(name) => match variable(&name, context)? {
            // A name that does not look like one may be the secret itself, written in the wrong place.
            None if !is_variable_name(&name) => Err(Refusal::new("the variable that `env` names is not set")
                .help("the secret itself belongs in the variable, and the variable's name here")),
            None => Err(Refusal::new(format!("the variable {name} is not set"))
                .help(format!("set {name} in the environment of aviary"))),
            Some("") => Err(Refusal::new(format!("the variable {name} is empty")).help("give it the secret")),
            Some(value) => Ok(Secret(value.trim_end_matches(['\r', '\n']).to_owned())),
        },
    }
}

/// Who may be able to read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Anybody,
    OwnerAndGroup,
}

/// The text of the file at `path` without its last line break. No error repeats any of it.
fn read(path: &Path, what: &str, access: Access) -> Result<String, Refusal> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        Refusal::new(format!("cannot read the {what}file {shown}: {}", io_text(&error)))
            .help("create it, or correct its path or owner")
    };
    // Looked at before it is opened: to open a pipe waits for whoever writes to it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Refusal::new(format!("{shown} is no regular file")).help("name a file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if access == Access::OwnerAndGroup && mode & 0o007 != 0 {
        let message =
            format!("the {what}file {shown} is open to everybody on this host (mode {:04o})", mode & 0o7777);
        return Err(Refusal::new(message).help(format!("chmod 600 {shown}")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Refusal::new(format!("{shown} is larger than 1 MiB")).help("name the right file"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Refusal::new(format!("{shown} is not text")).help("name the right file"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => {
            Err(Refusal::new(format!("the {what}file {shown} is empty"))
                .help("write what belongs there into it"))
        }
        text => Ok(text.to_owned()),
    }
}

/// The operating system's words without their number, which is the same on no two systems.
pub(super) fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// `secret` if it is a single word that fits a header and a Graphite name, of at least `bytes_min` bytes.
fn one_word(secret: Secret, bytes_min: usize) -> Result<Secret, Refusal> {
    if !secret.0.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "the secret is more than one word of printable ASCII characters";
        return Err(Refusal::new(message).help("it stands in its file or variable alone, in one line"));
    }
    if secret.0.len() < bytes_min {
        let message = format!("the secret is too short: {} bytes of at least {bytes_min}", secret.0.len());
        return Err(Refusal::new(message).help("make one with: head -c 24 /dev/urandom | base64"));
    }
    Ok(secret)
}

/// `secret` if it is a line of words that a header may hold.
fn one_line(secret: Secret) -> Result<Secret, Refusal> {
    let is_text = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if secret.0.is_empty() || !secret.0.bytes().all(is_text) {
        let message = "the secret is not one line of printable ASCII characters";
        return Err(Refusal::new(message).help("it stands in its file or variable alone, in one line"));
    }
    Ok(secret)
}

fn secret_table() -> Table<impl Fn(&mut Reader<'_>) -> Option<Reference>> {
    table("{ file = \"/etc/aviary/token\" } or { env = \"AVIARY_TOKEN\" }", |reader| {
        let file =
            reader.optional("file", "a file that holds the secret alone, readable by its owner only", path());
        let variable =
            reader.optional("env", "a variable of the environment that holds the secret", variable_name());
        match (reader.has("file"), reader.has("env")) {
            (true, true) => {
                reader.refuse("env", Refusal::new("`file` and `env` are both given").help("keep one"))
            }
            (false, false) => {
                let help = "write { file = \"PATH\" } or { env = \"VARIABLE\" }";
                reader.refuse_whole(
                    Refusal::new("neither `file` nor `env` says where the secret is").help(help),
                );
            }
            _ => {}
        }
        file.map(Reference::File).or_else(|| variable.map(Reference::Variable))
    })
}

fn token_table() -> Table<impl Fn(&mut Reader<'_>) -> Option<TokenReference>> {
    table(
        "{ file = \"/etc/aviary/token\" }, { env = \"AVIARY_TOKEN\" } or { hash = \"sha256:...\" }",
        |reader| {
            let file = reader.optional(
                "file",
                "a file that holds the secret alone, readable by its owner only",
                path(),
            );
            let variable = reader.optional(
                "env",
                "a variable of the environment that holds the secret",
                variable_name(),
            );
            let hash =
                reader.optional("hash", "what `printf %s TOKEN | sha256sum` prints, after sha256:", hash());
            let given: Vec<&str> =
                ["file", "env", "hash"].into_iter().filter(|key| reader.has(key)).collect();
            match given.as_slice() {
                [_] => {}
                [] => {
                    let help =
                        "write { file = \"PATH\" }, { env = \"VARIABLE\" } or { hash = \"sha256:DIGITS\" }";
                    let message =
                        "neither `file` nor `env` says where the secret is, nor is there its `hash`";
                    reader.refuse_whole(Refusal::new(message).help(help));
                }
                [first, second, ..] => {
                    let message = format!("`{first}` and `{second}` are both given");
                    reader.refuse(second, Refusal::new(message).help("keep one"));
                }
            }
            let elsewhere = file.map(Reference::File).or_else(|| variable.map(Reference::Variable));
            hash.map(TokenReference::Hash).or_else(|| elsewhere.map(TokenReference::Elsewhere))
        },
    )
}

/// A hash of a token. What is none may be the token itself: it is not repeated.
fn hash() -> impl Kind<Output = SecretHash> {
    text(
        "the hash of a token",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        |given| {
            SecretHash::parse(given).map_err(|error| {
                let help = "make it with: printf %s TOKEN | sha256sum";
                Refusal::new(error.to_string()).help(help)
            })
        },
    )
}

fn file_table() -> Table<impl Fn(&mut Reader<'_>) -> Option<Reference>> {
    table("{ file = \"ca.pem\" }", |reader| {
        reader.required("file", "a PEM file", path()).map(Reference::File)
    })
}

fn path() -> impl Kind<Output = String> {
    text("a path", "/etc/aviary/token", |given| match given {
        "" => Err(Refusal::new("the path is empty").help("name a file")),
        path => Ok(path.to_owned()),
    })
}

/// What is no name of a variable may be the secret itself, written in the wrong place: it is not repeated.
fn variable_name() -> impl Kind<Output = String> {
    text("a variable's name", "AVIARY_TOKEN", |given| {
        let is_name = given.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_name && !given.is_empty() && !given.starts_with(|char: char| char.is_ascii_digit()) {
            return Ok(given.to_owned());
        }
        Err(Refusal::new("this is no name of a variable")
            .help("a name has letters, digits and `_`; the secret itself belongs in the variable, not here"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What reading a file of these bytes and this mode comes to.
    fn read_file(bytes: &[u8], mode: u32) -> Result<String, Refusal> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let outcome = read(&path, "secret ", Access::OwnerAndGroup);
        let without_directory = |text: String| text.replace(&*path.to_string_lossy(), "PATH");
        outcome.map_err(|Refusal { message, help }| Refusal {
            message: without_directory(message),
            help: help.map(without_directory),
        })
    }

    #[test]
    fn a_secret_is_nowhere_to_be_seen() {
        let secret = Secret("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(***) Some(Secret(***))");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_file_is_read_without_its_last_line_break() {
        assert_eq!(read_file(b"hunter2\n", 0o600).unwrap(), "hunter2");
        assert_eq!(read_file(b" hunter2\r\n", 0o640).unwrap(), " hunter2");
    }

    #[test]
    fn a_file_that_is_no_secret_says_why_and_not_what_is_in_it() {
        let table: [(&[u8], u32, &str, &str); 4] = [
            (
                b"hunter2",
                0o644,
                "the secret file PATH is open to everybody on this host (mode 0644)",
                "chmod 600 PATH",
            ),
            (b"\n", 0o600, "the secret file PATH is empty", "write what belongs there into it"),
            (b"hunter2\xff", 0o600, "PATH is not text", "name the right file"),
            (&[b'x'; 1024 * 1024 + 1], 0o600, "PATH is larger than 1 MiB", "name the right file"),
        ];
        for (bytes, mode, message, help) in table {
            assert_eq!(read_file(bytes, mode), Err(Refusal::new(message).help(help)));
        }
        let missing = read(Path::new("/nowhere/token"), "secret ", Access::OwnerAndGroup).unwrap_err();
        assert_eq!(missing.message, "cannot read the secret file /nowhere/token: No such file or directory");
        let directory = read(Path::new("/"), "secret ", Access::OwnerAndGroup).unwrap_err();
        assert_eq!(directory.message, "/ is no regular file");
    }

    #[test]
    fn a_token_is_one_word_that_nobody_guesses() {
        let refusal = |text: &str| one_word(Secret(text.to_owned()), 16).unwrap_err().message;
        assert_eq!(refusal("hunter2"), "the secret is too short: 7 bytes of at least 16");
        for text in ["0123456789 abcdef", "0123456789abcdef\n0", "0123456789abcdé0"] {
            assert_eq!(refusal(text), "the secret is more than one word of printable ASCII characters");
        }
        assert!(one_word(Secret("0123456789abcdef".to_owned()), 16).is_ok());
    }
}
