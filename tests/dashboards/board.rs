//! A dashboard as Grafana reads it: its panels, what they ask, and its variables.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// How many columns a dashboard has.
const COLUMNS: u64 = 24;

/// A dashboard of `deploy/grafana`.
pub(super) struct Board {
    pub(super) name: String,
    pub(super) text: String,
    json: Value,
}

/// What a panel asks.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Dashboard and panel, for whoever reads that it has no answer.
    pub(super) panel: String,
    /// With variables in it.
    pub(super) query: String,
    /// Whether it is asked of one moment.
    pub(super) is_instant: bool,
}

/// Values of variables by name; one of several values has them all.
pub(super) type Values = BTreeMap<String, Vec<String>>;

pub(super) fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

impl Board {
    #[track_caller]
    pub(super) fn read(name: &str) -> Self {
        let text = fs::read_to_string(deploy("grafana").join(format!("{name}.json"))).unwrap();
        let json = serde_json::from_str(&text).unwrap();
        Self { name: name.to_owned(), text, json }
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.json["panels"].as_array().unwrap().iter()
    }

    /// The panels that ask something.
    pub(super) fn asking(&self) -> impl Iterator<Item = &Value> {
        self.panels().filter(|panel| panel["type"] != "row")
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        let targets = self.asking().flat_map(|panel| {
            let name = format!("{}: {}", self.name, panel["title"].as_str().unwrap());
            panel["targets"].as_array().unwrap().iter().map(move |target| Target {
                panel: name.clone(),
                query: target["expr"].as_str().or_else(|| target["target"].as_str()).unwrap().to_owned(),
                is_instant: target["instant"] == true,
            })
        });
        targets.collect()
    }

    /// Its variables that have values: name, kind and question, or value.
    pub(super) fn variables(&self) -> Vec<(&str, &str, &str)> {
        let variables = self.json["templating"]["list"].as_array().unwrap().iter();
        variables
            .filter(|variable| variable["type"] != "datasource")
            .map(|variable| {
                let question = variable["query"].as_str().or_else(|| variable["query"]["query"].as_str());
                (variable["name"].as_str().unwrap(), variable["type"].as_str().unwrap(), question.unwrap())
            })
            .collect()
    }

    /// What is amiss with it whoever answers it.
    pub(super) fn amiss(&self) -> Vec<String> {
        let mut amiss = Vec::new();
        let mut say = |what: String| amiss.push(format!("{}: {what}", self.name));
        let mut ids = BTreeSet::new();
        let mut taken = BTreeMap::new();
        for panel in self.panels() {
            let title = panel["title"].as_str().unwrap_or_default().to_owned();
            if !panel["id"].as_u64().is_some_and(|id| ids.insert(id)) {
                say(format!("{title}: no id of its own"));
            }
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
            if x + w > COLUMNS || w == 0 || h == 0 {
                say(format!("{title}: beyond the grid"));
            }
            for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row))) {
                if let Some(other) = taken.insert(cell, title.clone()) {
                    say(format!("{title} lies over {other}"));
                    break;
                }
            }
        }
        for panel in self.asking() {
            let title = &panel["title"];
            for key in ["title", "description"] {
                if panel[key].as_str().is_none_or(str::is_empty) {
                    say(format!("{title}: no {key}"));
                }
            }
            if panel["fieldConfig"]["defaults"]["unit"].as_str().is_none_or(str::is_empty) {
                say(format!("{title}: no unit"));
            }
            let is_variable = |it: &Value| it["datasource"]["uid"] == "${datasource}";
            if !is_variable(panel) || !panel["targets"].as_array().unwrap().iter().all(is_variable) {
                say(format!("{title}: a data source that is no variable"));
            }
        }
        for key in ["uid", "title", "description", "version", "schemaVersion"] {
            if self.json[key].is_null() {
                say(format!("no {key}"));
            }
        }
        if self.text.contains("://") {
            say("an address of somebody else".to_owned());
        }
        amiss
    }
}

/// `query` with `values` in the places of their variables, several of them as `several` joins them.
pub(super) fn filled(query: &str, values: &Values, several: impl Fn(&[String]) -> String) -> String {
    // The longest first: one name may begin as another.
    let mut names: Vec<&String> = values.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    names.into_iter().fold(query.to_owned(), |query, name| {
        let value = match &values[name][..] {
            [one] => one.clone(),
            all => several(all),
        };
        query.replace(&format!("${{{name}}}"), &value).replace(&format!("${name}"), &value)
    })
}
