//! `bootlatch get`, and the other commands that show objects in the same forms.

use hyper::Method;
use serde_json::{Value, json};

use crate::fleet::Kind;

use super::client::ApiClient;
use super::exit::UsageError;
use super::lookup::{self, drop_managed_fields, items, not_found};
use super::reference::{Wanted, collection_path, kind_and_name, object_path, plural_word};
use super::refusals::Refusals;
use super::show::{ObjectFormat, TextTable, json_text, note, print};

/// Options that select objects.
#[derive(Debug, Clone, clap::Args)]
pub struct SelectionArgs {
    /// Namespace of hosts
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Hosts of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Label selector: a=b, a in (b, c), !a
    #[arg(short = 'l', long, default_value = "", hide_default_value = true, value_parser = trimmed)]
    pub selector: String,
    /// Field selector, such as status.phase=Failed
    #[arg(long, default_value = "", hide_default_value = true, value_parser = trimmed)]
    pub field_selector: String,
}

/// Options of the output of objects.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct ViewArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ObjectFormat,
    /// Include metadata.managedFields in YAML and JSON
    #[arg(long)]
    pub show_managed_fields: bool,
}

impl SelectionArgs {
    /// Returns the selection of all objects of one namespace.
    pub fn of_namespace(namespace: &str) -> Self {
        let (selector, field_selector) = Default::default();
        Self { namespace: namespace.to_owned(), all_namespaces: false, selector, field_selector }
    }

    /// Returns whether a selector is given.
    pub fn selects(&self) -> bool {
        !self.selector.is_empty() || !self.field_selector.is_empty()
    }

    /// Returns the path and query of the selected objects, of which a further field selector may pick some.
    pub fn list_path(&self, kind: Kind, fields_too: Option<&str>, more: &[(&str, &str)]) -> String {
        let namespace = (!self.all_namespaces).then_some(self.namespace.as_str());
        let mut fields = self.field_selector.clone();
        if let Some(further) = fields_too {
            let comma = if fields.is_empty() { "" } else { "," };
            fields.push_str(&format!("{comma}{further}"));
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        let wanted = [("labelSelector", self.selector.as_str()), ("fieldSelector", fields.as_str())];
        query.extend_pairs(wanted.iter().chain(more).filter(|(_, value)| !value.is_empty()));
        format!("{}?{}", collection_path(kind, namespace), query.finish())
    }

    /// Checks that names and selectors are not combined.
    ///
    /// # Errors
    /// They are.
    pub fn check(&self, wanted: &[Wanted]) -> Result<(), UsageError> {
        match self.selects() && wanted.iter().any(|wanted| !wanted.names.is_empty()) {
            true => Err(UsageError("give either names or a selector, not both".to_owned())),
            false => Ok(()),
        }
    }

    /// Returns the words for the place in which nothing was found.
    fn place(&self, kind: Kind) -> String {
        match kind.is_namespaced() && !self.all_namespaces {
            true => format!(" in namespace {}", self.namespace),
            false => String::new(),
        }
    }
}

/// Parses a selector. One without a requirement is as none.
fn trimmed(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.trim_matches(|sign: char| sign == ',' || sign.is_whitespace()).to_owned())
}

/// Shows objects. If one of them does not exist, the others are shown all the same.
///
/// # Errors
/// The server refuses a request.
pub async fn show_objects(
    client: &mut ApiClient,
    wanted: &[Wanted],
    selection: &SelectionArgs,
    view: ViewArgs,
) -> anyhow::Result<()> {
    selection.check(wanted)?;
    let mut refusals = Refusals::default();
    match view.output {
        ObjectFormat::Table | ObjectFormat::Wide => {
            let several = wanted.len() > 1;
            let mut first = true;
            for wanted in wanted {
                let table = fetch_table(client, wanted, selection, &mut refusals).await?;
                first &= !print_table(wanted, &table, selection, (several, view.output, first))?;
            }
        }
        ObjectFormat::Name | ObjectFormat::Yaml | ObjectFormat::Json => {
            let mut found = Vec::new();
            let mut list = None;
            for wanted in wanted {
                let fetched = fetch(client, wanted, selection, &mut refusals).await?;
                found.extend(fetched.objects.into_iter().map(|object| (wanted.kind, object)));
                list = fetched.list;
            }
            let one = matches!(wanted, [Wanted { names, .. }] if names.len() == 1);
            if !(one && found.is_empty()) {
                print(&format_objects(found, list.filter(|_| wanted.len() == 1), one, view)?)?;
            }
        }
    }
    refusals.end()
}

/// Shows one object that the server sent.
///
/// # Errors
/// Standard output cannot be written, or the server refuses the request for its table.
pub async fn show_object(client: &mut ApiClient, kind: Kind, object: Value, view: ViewArgs) -> anyhow::Result<()> {
    if let ObjectFormat::Yaml | ObjectFormat::Json | ObjectFormat::Name = view.output {
        return print(&format_objects(vec![(kind, object)], None, true, view)?);
    }
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let table = client.table(&object_path(kind, &text("namespace"), &text("name"))).await?;
    TextTable::of_server(&table, view.output == ObjectFormat::Wide).print()
}

/// Objects of one kind, and the head of their list.
struct Fetched {
    objects: Vec<Value>,
    list: Option<Value>,
}

async fn fetch(
    client: &mut ApiClient,
    wanted: &Wanted,
    selection: &SelectionArgs,
    refusals: &mut Refusals,
) -> anyhow::Result<Fetched> {
    if wanted.names.is_empty() {
        let mut list = client.ask(Method::GET, &selection.list_path(wanted.kind, None, &[]), None).await?;
        let objects = items(json!({"items": list.get_mut("items").map(Value::take)}));
        return Ok(Fetched { objects, list: Some(list) });
    }
    let mut objects = Vec::new();
    for name in &wanted.names {
        let found = match selection.all_namespaces && wanted.kind.is_namespaced() {
            true => everywhere(client, wanted.kind, name, selection).await,
            false => lookup::object(client, wanted.kind, &selection.namespace, name).await.map(|object| vec![object]),
        };
        match found {
            Ok(found) => objects.extend(found),
            Err(error) => refusals.note(error)?,
        }
    }
    Ok(Fetched { objects, list: None })
}

/// Returns the objects of a name in all namespaces.
async fn everywhere(
    client: &mut ApiClient,
    kind: Kind,
    name: &str,
    selection: &SelectionArgs,
) -> anyhow::Result<Vec<Value>> {
    for fields in lookup::field_selectors(kind, name) {
        let found = items(client.ask(Method::GET, &selection.list_path(kind, Some(&fields), &[]), None).await?);
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(not_found(format!("{} {name:?} not found in any namespace", kind.plural())))
}

/// Requests a table of the server, with the rows of all names.
async fn fetch_table(
    client: &mut ApiClient,
    wanted: &Wanted,
    selection: &SelectionArgs,
    refusals: &mut Refusals,
) -> anyhow::Result<Value> {
    if wanted.names.is_empty() {
        return client.table(&selection.list_path(wanted.kind, None, &[])).await;
    }
    let mut all = json!({"rows": []});
    for name in &wanted.names {
        let found = one_table(client, wanted.kind, name, selection).await;
        let mut table = match found {
            Ok(table) => table,
            Err(error) => {
                refusals.note(error)?;
                continue;
            }
        };
        if let (Some(Value::Array(rows)), Some(all)) =
            (table.get_mut("rows").map(Value::take), all["rows"].as_array_mut())
        {
            all.extend(rows);
        }
        all["columnDefinitions"] = table["columnDefinitions"].take();
    }
    Ok(all)
}

async fn one_table(client: &mut ApiClient, kind: Kind, name: &str, selection: &SelectionArgs) -> anyhow::Result<Value> {
    if selection.all_namespaces && kind.is_namespaced() {
        for fields in lookup::field_selectors(kind, name) {
            let table = client.table(&selection.list_path(kind, Some(&fields), &[])).await?;
            if !table["rows"].as_array().is_none_or(Vec::is_empty) {
                return Ok(table);
            }
        }
        return Err(not_found(format!("{} {name:?} not found in any namespace", kind.plural())));
    }
    let name = lookup::resolve(client, kind, &selection.namespace, name).await?;
    client.table(&object_path(kind, &selection.namespace, &name)).await
}

/// Prints the table of one kind. Returns whether there was something to print.
fn print_table(
    wanted: &Wanted,
    table: &Value,
    selection: &SelectionArgs,
    (several, output, first): (bool, ObjectFormat, bool),
) -> anyhow::Result<bool> {
    let kind = wanted.kind;
    let mut text = TextTable::of_server(table, output == ObjectFormat::Wide);
    if text.is_empty() {
        if wanted.names.is_empty() && !several {
            note(&format!("no {} found{}", plural_word(kind), selection.place(kind)));
        }
        return Ok(false);
    }
    if several {
        text.map_first(|name| kind_and_name(kind, name));
    }
    if selection.all_namespaces && kind.is_namespaced() {
        let namespace =
            |row: &Value| row.pointer("/object/metadata/namespace").and_then(Value::as_str).map(str::to_owned);
        let rows = table["rows"].as_array().into_iter().flatten();
        text.prepend("NAMESPACE", rows.map(|row| namespace(row).unwrap_or_else(|| "-".to_owned())));
    }
    if !first {
        print("\n")?;
    }
    text.print()?;
    Ok(true)
}

/// Formats objects as names, YAML or JSON: one as it is, several as a list.
fn format_objects(found: Vec<(Kind, Value)>, list: Option<Value>, one: bool, view: ViewArgs) -> anyhow::Result<String> {
    if view.output == ObjectFormat::Name {
        let name = |(kind, object): &(Kind, Value)| {
            object["metadata"]["name"].as_str().map(|name| kind_and_name(*kind, name) + "\n")
        };
        return Ok(found.iter().filter_map(name).collect());
    }
    let mut objects = found.into_iter().map(|(kind, mut object)| {
        if let Some(map) = object.as_object_mut().filter(|map| !map.contains_key("kind")) {
            map.insert("kind".to_owned(), kind.as_str().into());
            map.insert("apiVersion".to_owned(), "v1".into());
        }
        object
    });
    let mut value = match one.then(|| objects.next()).flatten() {
        Some(object) => object,
        None => {
            let mut whole = list.unwrap_or_else(|| json!({"apiVersion": "v1", "kind": "List"}));
            whole["items"] = objects.collect();
            whole
        }
    };
    if !view.show_managed_fields {
        drop_managed_fields(&mut value);
    }
    match view.output {
        ObjectFormat::Json => json_text(&value),
        ObjectFormat::Yaml | ObjectFormat::Table | ObjectFormat::Wide | ObjectFormat::Name => {
            Ok(serde_saphyr::to_string(&value)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_objects_are_a_list_without_bookkeeping() {
        let host =
            json!({"apiVersion": "v1", "kind": "BareMetalHost", "metadata": {"name": "a", "managedFields": [{}]}});
        let view = |output, show_managed_fields| ViewArgs { output, show_managed_fields };
        let format = |one, view| format_objects(vec![(Kind::BareMetalHost, host.clone())], None, one, view).unwrap();
        let list: Value = serde_json::from_str(&format(false, view(ObjectFormat::Json, false))).unwrap();
        assert_eq!(
            (list["kind"].as_str(), list["items"][0]["metadata"].to_string().as_str()),
            (Some("List"), r#"{"name":"a"}"#)
        );
        assert!(format(true, view(ObjectFormat::Yaml, true)).contains("managedFields"));
        assert_eq!(format(false, view(ObjectFormat::Name, false)), "baremetalhost/a\n");
    }

    #[test]
    fn names_and_selectors_are_not_combined() {
        let mut selection = SelectionArgs::of_namespace("default");
        let wanted = |names: &[&str]| {
            [Wanted { kind: Kind::BareMetalHost, names: names.iter().map(|name| (*name).to_owned()).collect() }]
        };
        assert!(selection.check(&wanted(&["a"])).is_ok());
        selection.selector = "rack=r1".to_owned();
        assert!(selection.check(&wanted(&["a"])).is_err() && selection.check(&wanted(&[])).is_ok());
    }
}
