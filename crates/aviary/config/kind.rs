//! What a value must be: how each kind of value is read, what it is called when it is wrong, and its JSON schema.

use std::fmt::Display;

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::{
    context::{Context, Given, Refusal, Value},
    environment,
    reader::{Reader, closest, without_indexes},
    source::quotable,
};

/// What a value must be.
pub(crate) trait Kind {
    /// What the value becomes.
    type Output;

    /// What is expected, with its article.
    fn expected(&self) -> String;

    /// A right line for the key at `path`; a right value alone where the path is empty.
    fn example(&self, path: &str) -> String;

    /// Whether the type of `value` is right, whatever it holds.
    fn fits(&self, value: Value<'_>) -> bool;

    /// Reads `value`. `None` is accounted for by a problem.
    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<Self::Output>;

    /// The JSON schema of such values.
    fn schema(&self) -> Json;

    /// Whether it is a table, whose keys variables override one by one.
    fn is_table(&self) -> bool {
        false
    }

    /// Whether what is read may be shown to nobody.
    fn is_secret(&self) -> bool {
        false
    }

    /// What stands in a file in the place of `text` in a variable.
    fn written(&self, text: &str) -> toml::Value {
        text.into()
    }

    /// Refuses `value` for its type.
    fn refuse_type(&self, value: Value<'_>, context: &Context<'_>) {
        let message = format!("expected {}, found {}", self.expected(), value.type_name());
        let path = if value.path.ends_with(']') { String::new() } else { without_indexes(value.path) };
        context.refuse(value.path, Refusal::new(message).help(format!("write {}", self.example(&path))));
    }
}

/// Text that `parse` understands.
pub(crate) struct Text<F> {
    what: &'static str,
    example: &'static str,
    options: Vec<String>,
    parse: F,
}

/// Text that `parse` understands: `what` it is, with its article, and an `example` of it.
pub(crate) fn text<T, F: Fn(&str) -> Result<T, Refusal>>(
    what: &'static str,
    example: &'static str,
    parse: F,
) -> Text<F> {
    Text { what, example, options: Vec::new(), parse }
}

/// One of a closed set of names.
pub(crate) fn choice<T: Copy>(
    options: impl IntoIterator<Item = (impl Display, T)>,
) -> Text<impl Fn(&str) -> Result<T, Refusal>> {
    let options: Vec<(String, T)> =
        options.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    let names: Vec<String> = options.iter().map(|(name, _)| name.clone()).collect();
    let parse = move |given: &str| match options.iter().find(|(name, _)| name == given) {
        Some((_, value)) => Ok(*value),
        None => {
            let names: Vec<&str> = options.iter().map(|(name, _)| name.as_str()).collect();
            let list = format!("it is one of {}", names.join(", "));
            let help = closest(given, names).map_or(list, |name| format!("did you mean \"{name}\"?"));
            Err(Refusal::new(format!("`{}` is not known here", quotable(given))).help(help))
        }
    };
    Text { what: "a name", example: "", options: names, parse }
}

/// One of the members of a closed set, by its name.
pub(crate) fn member<T: Copy + Display>(all: &[T]) -> Text<impl Fn(&str) -> Result<T, Refusal>> {
    choice(all.iter().map(|member| (*member, *member)))
}

impl<T, F: Fn(&str) -> Result<T, Refusal>> Kind for Text<F> {
    type Output = T;

    fn expected(&self) -> String {
        match self.options.as_slice() {
            [] => format!("{} in quotes", self.what),
            options => format!("one of \"{}\"", options.join("\", \"")),
        }
    }

    fn example(&self, path: &str) -> String {
        assignment(path, &format!("\"{}\"", self.options.first().map_or(self.example, String::as_str)))
    }

    fn fits(&self, value: Value<'_>) -> bool {
        match value.given {
            // All that variables hold is text: a name among others is told from a number by being one of those.
            Given::Variable(text) => {
                self.options.is_empty() || self.options.iter().any(|option| option == text)
            }
            Given::Toml(_) => value.text().is_some(),
        }
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<T> {
        let Some(text) = value.text() else {
            self.refuse_type(value, context);
            return None;
        };
        (self.parse)(text).map_err(|refusal| context.refuse(value.path, refusal)).ok()
    }

    fn schema(&self) -> Json {
        match self.options.as_slice() {
            [] => json!({ "type": "string", "examples": [self.example] }),
            options => json!({ "enum": options }),
        }
    }
}

/// `true` or `false`.
pub(crate) struct Boolean;

impl Kind for Boolean {
    type Output = bool;

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn example(&self, path: &str) -> String {
        assignment(path, "true")
    }

    fn fits(&self, value: Value<'_>) -> bool {
        matches!(value.given, Given::Toml(DeValue::Boolean(_)) | Given::Variable("true" | "false"))
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<bool> {
        match value.given {
            Given::Toml(DeValue::Boolean(boolean)) => Some(*boolean),
            Given::Variable("true") => Some(true),
            Given::Variable("false") => Some(false),
            _ => {
                self.refuse_type(value, context);
                None
            }
        }
    }

    fn schema(&self) -> Json {
        json!({ "type": "boolean" })
    }

    fn written(&self, text: &str) -> toml::Value {
        text.parse().map_or_else(|_| text.into(), toml::Value::Boolean)
    }
}

/// A whole number of at least so many.
pub(crate) struct Whole(pub(crate) u32);

impl Kind for Whole {
    type Output = u32;

    fn expected(&self) -> String {
        format!("a whole number of at least {}", self.0)
    }

    fn example(&self, path: &str) -> String {
        assignment(path, &self.0.to_string())
    }

    fn fits(&self, value: Value<'_>) -> bool {
        match value.given {
            Given::Variable(text) => text.parse::<i64>().is_ok(),
            Given::Toml(value) => value.is_integer(),
        }
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<u32> {
        let (text, radix) = match value.given {
            Given::Variable(text) => (text, 10),
            Given::Toml(DeValue::Integer(integer)) => (integer.as_str(), integer.radix()),
            Given::Toml(_) => {
                self.refuse_type(value, context);
                return None;
            }
        };
        let number = u32::from_str_radix(text, radix).ok().filter(|number| *number >= self.0);
        if number.is_none() {
            let message = format!("expected {}, found {}", self.expected(), quotable(text));
            context.refuse(value.path, Refusal::new(message));
        }
        number
    }

    fn schema(&self) -> Json {
        json!({ "type": "integer", "minimum": self.0 })
    }

    fn written(&self, text: &str) -> toml::Value {
        text.parse().map_or_else(|_| text.into(), toml::Value::Integer)
    }
}

/// A number of at least so much, with decimals or without.
pub(crate) struct Decimal(pub(crate) f64);

impl Kind for Decimal {
    type Output = f64;

    fn expected(&self) -> String {
        format!("a number of at least {:?}", self.0)
    }

    fn example(&self, path: &str) -> String {
        assignment(path, &format!("{:?}", self.0))
    }

    fn fits(&self, value: Value<'_>) -> bool {
        match value.given {
            Given::Variable(text) => text.parse::<f64>().is_ok(),
            Given::Toml(value) => value.is_integer() || value.is_float(),
        }
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<f64> {
        let text = match value.given {
            Given::Variable(text) => quotable(text),
            Given::Toml(DeValue::Integer(integer)) => integer.to_string(),
            Given::Toml(DeValue::Float(float)) => float.to_string(),
            Given::Toml(_) => {
                self.refuse_type(value, context);
                return None;
            }
        };
        let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= self.0);
        if number.is_none() {
            context.refuse(value.path, Refusal::new(format!("expected {}, found {text}", self.expected())));
        }
        number
    }

    fn schema(&self) -> Json {
        json!({ "type": "number", "minimum": self.0 })
    }

    fn written(&self, text: &str) -> toml::Value {
        text.parse().map_or_else(|_| text.into(), toml::Value::Float)
    }
}

/// A value with the path that it stands at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    /// Such as `service[0].endpoints[2]`.
    pub(crate) path: String,
    /// What stands there.
    pub(crate) value: T,
}

/// The values without their places.
pub(crate) fn values<T>(items: Vec<At<T>>) -> Vec<T> {
    items.into_iter().map(|item| item.value).collect()
}

/// An array of at least `min` items.
pub(crate) struct List<K> {
    item: K,
    min: usize,
}

/// An array, possibly empty.
pub(crate) fn list<K: Kind>(item: K) -> List<K> {
    List { item, min: 0 }
}

/// An array of at least one item.
pub(crate) fn some<K: Kind>(item: K) -> List<K> {
    List { item, min: 1 }
}

impl<K: Kind> Kind for List<K> {
    type Output = Vec<At<K::Output>>;

    fn expected(&self) -> String {
        "an array".to_owned()
    }

    fn example(&self, path: &str) -> String {
        match self.item.example("") {
            header if header.is_empty() => format!("[[{path}]]"),
            item => assignment(path, &format!("[{item}]")),
        }
    }

    fn fits(&self, value: Value<'_>) -> bool {
        value.toml().is_none_or(DeValue::is_array)
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<Self::Output> {
        let items = match value.given {
            Given::Variable(text) => {
                return items(text)
                    .map(|item| Value { given: Given::Variable(item), ..value })
                    .map(|item| {
                        Some(At { path: value.path.to_owned(), value: self.item.read(item, context)? })
                    })
                    .collect();
            }
            Given::Toml(DeValue::Array(items)) => items,
            Given::Toml(_) => {
                self.refuse_type(value, context);
                return None;
            }
        };
        if items.len() < self.min {
            let message = format!("`{}` is empty", value.path.rsplit('.').next().unwrap_or_default());
            let help = format!("write at least one, such as {}", self.item.example(""));
            context.refuse(value.path, Refusal::new(message).help(help));
        }
        let read = |(index, item): (usize, &toml::Spanned<DeValue<'_>>)| {
            let path = format!("{}[{index}]", value.path);
            context.remember(&path, item.span());
            let given = item.get_ref();
            let variables = value.variables.and_then(|prefix| variables_of_item(prefix, given));
            let given = Value { given: Given::Toml(given), path: &path, variables: variables.as_deref() };
            let item = self.item.read(given, context)?;
            Some(At { path, value: item })
        };
        // The items that can be read are given on even where others cannot, for whatever else is wrong with them.
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    fn schema(&self) -> Json {
        let mut schema = json!({ "type": "array", "items": self.item.schema() });
        if self.min > 0 {
            schema["minItems"] = self.min.into();
        }
        schema
    }

    fn written(&self, text: &str) -> toml::Value {
        items(text).map(|item| self.item.written(item)).collect::<Vec<_>>().into()
    }
}

/// The items of a list that a variable holds.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

/// What the variables begin with that override keys of `item` in a list: it is meant by its name.
fn variables_of_item(prefix: &str, item: &DeValue<'_>) -> Option<String> {
    let name = item.as_table()?.get("name")?.get_ref().as_str()?;
    (!name.is_empty()).then(|| environment::name(prefix, name) + "_")
}

/// A table that `read` reads.
pub(crate) struct Table<F> {
    example: &'static str,
    read: F,
}

/// A section, or an item of an array of sections.
pub(crate) fn section<T, F: Fn(&mut Reader<'_>) -> Option<T>>(read: F) -> Table<F> {
    Table { example: "", read }
}

/// A table inside a line, of which `example` is one.
pub(crate) fn table<T, F: Fn(&mut Reader<'_>) -> Option<T>>(example: &'static str, read: F) -> Table<F> {
    Table { example, read }
}

impl<T, F: Fn(&mut Reader<'_>) -> Option<T>> Kind for Table<F> {
    type Output = T;

    fn expected(&self) -> String {
        "a table".to_owned()
    }

    fn example(&self, path: &str) -> String {
        match (self.example, path) {
            ("", "") => String::new(),
            ("", path) => format!("[{path}]"),
            (example, path) => assignment(path, example),
        }
    }

    fn fits(&self, value: Value<'_>) -> bool {
        value.toml().is_some_and(DeValue::is_table)
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<T> {
        let Some(table) = value.toml().and_then(DeValue::as_table) else {
            self.refuse_type(value, context);
            return None;
        };
        Reader::read_at(context, table, value.path, value.variables, &self.read)
    }

    fn schema(&self) -> Json {
        Reader::describe(&self.read)
    }

    fn is_table(&self) -> bool {
        true
    }
}

/// One kind or another, told apart by the value's type.
pub(crate) struct Either<A, B>(pub(crate) A, pub(crate) B);

/// What a value became that may be of two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Or<A, B> {
    /// It was of the first kind.
    First(A),
    /// It was of the second kind.
    Second(B),
}

impl<A: Kind, B: Kind> Kind for Either<A, B> {
    type Output = Or<A::Output, B::Output>;

    fn expected(&self) -> String {
        format!("{} or {}", self.0.expected(), self.1.expected())
    }

    fn example(&self, path: &str) -> String {
        self.0.example(path)
    }

    fn fits(&self, value: Value<'_>) -> bool {
        self.0.fits(value) || self.1.fits(value)
    }

    fn read(&self, value: Value<'_>, context: &Context<'_>) -> Option<Self::Output> {
        if self.0.fits(value) {
            self.0.read(value, context).map(Or::First)
        } else if self.1.fits(value) {
            self.1.read(value, context).map(Or::Second)
        } else {
            self.refuse_type(value, context);
            None
        }
    }

    fn schema(&self) -> Json {
        json!({ "anyOf": [self.0.schema(), self.1.schema()] })
    }

    fn written(&self, text: &str) -> toml::Value {
        let value = Value { given: Given::Variable(text), path: "", variables: None };
        if self.0.fits(value) { self.0.written(text) } else { self.1.written(text) }
    }

    fn is_table(&self) -> bool {
        self.0.is_table() || self.1.is_table()
    }
}

/// The line that gives the key at `path` this value.
fn assignment(path: &str, value: &str) -> String {
    match path.rsplit('.').next() {
        None | Some("") => value.to_owned(),
        Some(key) => format!("{key} = {value}"),
    }
}
